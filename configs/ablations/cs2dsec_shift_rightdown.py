# Content maps with the shift 'rightdown' everywhere (--isd_shift_type rightdown).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
data = dict(train=dict(source=dict(shift_type="rightdown"), target=dict(shift_type="rightdown")))
uda = dict(shift_type="rightdown")
name = "cs2dsec_shift_rightdown"
