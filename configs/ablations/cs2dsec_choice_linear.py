# The teacher sees the content map always at first, never at the end (--random_choice_thres linear).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(random_choice_thres="linear")
name = "cs2dsec_choice_linear"
