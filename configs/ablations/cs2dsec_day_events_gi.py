# Grey images as day events, without style transfer (--day_events_generate gi_wo_cyclegan).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
data = dict(train=dict(source=dict(return_GI_or_IC="gray_image")))
uda = dict(cyclegan_itrd2en_path="")
name = "cs2dsec_day_events_gi"
