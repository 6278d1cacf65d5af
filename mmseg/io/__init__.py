"""One reader for each kind of file, and files that are written whole or not at all."""
