# Mixed content maps are pasted, not extracted anew (--mixed_image_to_mixed_isr false).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(mixed_image_to_mixed_isr=False)
name = "cs2dsec_pasted_isr"
