"""Training of the style-transfer generator that the Image Motion-Extractor uses."""
