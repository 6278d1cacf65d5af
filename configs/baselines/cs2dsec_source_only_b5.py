# CMDA's network on labelled day images only: no teacher, no target.
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(source_only=True)
name = "cs2dsec_source_only_b5"
