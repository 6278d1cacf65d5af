# Labelled day images only: no teacher, no target.
_base_ = ["./cs2dsec_image_b5.py"]
uda = dict(source_only=True)
name = "cs2dsec_image_source_only_b5"
