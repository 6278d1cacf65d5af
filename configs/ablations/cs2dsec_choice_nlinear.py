# The teacher sees the content map never at first, always at the end (--random_choice_thres nlinear).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(random_choice_thres="nlinear")
name = "cs2dsec_choice_nlinear"
