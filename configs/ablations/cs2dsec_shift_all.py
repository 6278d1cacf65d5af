# Content maps with the shift 'all' everywhere (--isd_shift_type all).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
data = dict(train=dict(source=dict(shift_type="all"), target=dict(shift_type="all")))
uda = dict(shift_type="all")
name = "cs2dsec_shift_all"
