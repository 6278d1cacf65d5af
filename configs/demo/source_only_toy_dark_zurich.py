# The baseline on the toy city's Dark Zurich tree: the published network at a size for two CPU cores, trained on
# labelled day images only.
_base_ = ["../fusion/cs2dz_image+raw-isr_b5.py"]
model = dict(
    # replaces ImageNet weights; made by benchmarks/toy_pretraining.py
    pretrained="{{ fileDirname }}/toy_mit_b0.pth",
    backbone_image=dict(type="mit_b0"),
    backbone_events=dict(type="mit_b0"),
    fusion_module=dict(in_channels=[32, 64, 160, 256]),
    decode_head=dict(in_channels=[32, 64, 160, 256], channels=32, decoder_params=dict(embed_dims=32)),
)
data = dict(
    workers_per_gpu=1,
    train=dict(
        source=dict(image_resize_size=(320, 160), image_crop_size=(160, 160)),
        target=dict(image_resize_size=(288, 162), image_crop_size=(160, 160)),
        rare_class_sampling=dict(min_pixels=300, min_crop_ratio=0.25),
    ),
    val=dict(image_resize_size=(288, 162)),
    test=dict(image_resize_size=(288, 162)),
)
# The ignored rows are those of the 512-pixel config, scaled.
uda = dict(
    source_only=True,
    alpha=0.99,
    pseudo_threshold=0.8,
    pseudo_weight_ignore_top=5,
    pseudo_weight_ignore_bottom=38,
    debug_img_interval=100,
)
optimizer = dict(lr=6e-4)
lr_config = dict(warmup_iters=20)
runner = dict(max_iters=200)
evaluation = dict(interval=200)
checkpoint_config = dict(interval=200)
log_config = dict(interval=20)
name = "source_only_toy_dark_zurich"
