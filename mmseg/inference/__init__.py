"""A trained network on your own images: prediction, files, export, benchmark."""
