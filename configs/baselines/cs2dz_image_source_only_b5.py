# Labelled day images only: no teacher, no target.
_base_ = ["./cs2dz_image_b5.py"]
uda = dict(source_only=True)
name = "cs2dz_image_source_only_b5"
