# Where the content map was drawn, nothing is fused and image features are drawn towards its features
# (--isr_no_fusion).
_base_ = ["./cs2dsec_image+events.py"]
uda = dict(isr_no_fusion=True)
name = "cs2dsec_image+events_isr_no_fusion"
