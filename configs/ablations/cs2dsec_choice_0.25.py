# The teacher sees the content map in a quarter of the iterations (--random_choice_thres 0.25).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(random_choice_thres="0.25")
name = "cs2dsec_choice_0.25"
