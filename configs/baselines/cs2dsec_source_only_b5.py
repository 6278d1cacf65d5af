# CMDA's network on the labelled days alone: no teacher, no target.
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(source_only=True)
name = "cs2dsec_source_only_b5"
