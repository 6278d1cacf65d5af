# DAFormer on images only, with a ViT-S encoder from timm that was pretrained as DINOv2.
_base_ = ["../baselines/cs2dsec_image_b5.py"]
model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type="TimmEncoder",
        model_name="vit_small_patch14_dinov2.lvd142m",
        weights="pretrained/vit_small_patch14_dinov2.lvd142m.safetensors",
        drop_path_rate=0.1,
    ),
    # None: those of the encoder
    decode_head=dict(in_channels=None),
)
# timm's part of the encoder learns more slowly than the pyramid. The longest key in a parameter's name counts, so the
# norms there have weight decay.
optimizer = dict(paramwise_cfg=dict(custom_keys={"backbone.model": dict(lr_mult=0.5)}))
name = "cs2dsec_image_dinov2"
name_encoder = "vit_small_patch14_dinov2"
