# The teacher never sees the content map (--without_isd).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(without_isd=True)
name = "cs2dsec_without_ice"
