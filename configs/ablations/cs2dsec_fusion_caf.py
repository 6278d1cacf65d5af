# Fusion by ConvertAvgFusion (--fusion caf).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
model = dict(fusion_module=dict(type="ConvertAvgFusion"))
name = "cs2dsec_fusion_caf"
