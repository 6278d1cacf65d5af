# CMDA with ConvNeXt-T encoders from timm, pretrained as DINOv3, in place of MiT-B5.
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
encoder = dict(
    _delete_=True,
    type="TimmEncoder",
    model_name="convnext_tiny.dinov3_lvd1689m",
    weights="pretrained/convnext_tiny.dinov3_lvd1689m.safetensors",
    drop_path_rate=0.1,
)
model = dict(
    pretrained=None,
    backbone_image=encoder,
    backbone_events=encoder,
    # None: those of the encoder
    decode_head=dict(in_channels=None),
)
del encoder
name = "cs2dsec_image+events_convnext"
name_encoder = "convnext_tiny"
