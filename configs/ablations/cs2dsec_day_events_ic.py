# Image changes as day events, without style transfer (--day_events_generate ic_wo_cyclegan).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(cyclegan_itrd2en_path="")
name = "cs2dsec_day_events_ic"
