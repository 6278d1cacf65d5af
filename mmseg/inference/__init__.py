"""A trained network on one's own pictures: prediction, files, export, benchmark."""
