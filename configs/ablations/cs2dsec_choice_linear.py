# The teacher sees the content map at first always, at the end never (--random_choice_thres linear).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(random_choice_thres="linear")
name = "cs2dsec_choice_linear"
