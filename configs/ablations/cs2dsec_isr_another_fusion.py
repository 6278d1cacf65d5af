# A separate fusion module wherever the content map was drawn (--fusion_isr attf).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(isr_another_fusion=True)
name = "cs2dsec_isr_another_fusion"
