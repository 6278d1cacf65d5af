# The second input is always the events; content maps are not used at all.
_base_ = ["./cs2dsec_image+events.py"]
uda = dict(without_isd=True)
name = "cs2dsec_image+events_without_ice"
