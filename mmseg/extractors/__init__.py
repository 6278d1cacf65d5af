"""Image Content-Extractor and Image Motion-Extractor."""
