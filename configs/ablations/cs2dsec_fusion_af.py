# Fusion by AverageFusion (--fusion af).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
model = dict(fusion_module=dict(type="AverageFusion"))
name = "cs2dsec_fusion_af"
