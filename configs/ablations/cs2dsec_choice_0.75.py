# The teacher sees the content map in three quarters of the iterations (--random_choice_thres 0.75).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(random_choice_thres="0.75")
name = "cs2dsec_choice_0.75"
