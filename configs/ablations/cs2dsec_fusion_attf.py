# Fusion by AttentionFusion (--fusion attf).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
model = dict(fusion_module=dict(type="AttentionFusion"))
name = "cs2dsec_fusion_attf"
