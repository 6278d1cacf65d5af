# The baseline of the demo: the same network, trained on the labelled day images alone.
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
model = dict(
    pretrained=None,
    backbone_image=dict(type="mit_b0"),
    backbone_events=dict(type="mit_b0"),
    fusion_module=dict(in_channels=[32, 64, 160, 256]),
    fusion_isr_module=dict(type=""),
    decode_head=dict(in_channels=[32, 64, 160, 256], channels=32, decoder_params=dict(embed_dims=32)),
)
data = dict(
    workers_per_gpu=1,
    train=dict(
        source=dict(image_resize_size=(512, 256), image_crop_size=(192, 192)),
        target=dict(crop_size=(320, 320), after_crop_resize_size=(192, 192)),
        rare_class_sampling=dict(min_pixels=300, min_crop_ratio=0.25),
    ),
)
uda = dict(
    source_only=True,
    alpha=0.99,
    pseudo_threshold=0.9,
    cyclegan_itrd2en_path="",
    debug_img_interval=100,
)
optimizer = dict(lr=6e-4)
lr_config = dict(warmup_iters=30)
runner = dict(max_iters=350)
evaluation = dict(interval=350)
checkpoint_config = dict(interval=350)
log_config = dict(interval=20)
name = "source_only_toy_city"
