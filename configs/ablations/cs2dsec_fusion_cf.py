# Fusion by ConcatenateFusion (--fusion cf).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
model = dict(fusion_module=dict(type="ConcatenateFusion"))
name = "cs2dsec_fusion_cf"
