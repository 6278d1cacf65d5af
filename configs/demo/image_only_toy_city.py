# DAFormer's self-training on images only, on the toy city, at the size of its CMDA runs.
_base_ = ["../baselines/cs2dsec_image_b5.py"]
model = dict(
    pretrained="{{ fileDirname }}/toy_mit_b0.pth",
    backbone=dict(type="mit_b0"),
    decode_head=dict(in_channels=[32, 64, 160, 256], channels=32, decoder_params=dict(embed_dims=32)),
)
data = dict(
    workers_per_gpu=1,
    train=dict(
        source=dict(image_resize_size=(512, 256), image_crop_size=(256, 256)),
        target=dict(after_crop_resize_size=(256, 256)),
        rare_class_sampling=dict(min_pixels=500, min_crop_ratio=0.25),
    ),
    val=dict(test_resize_size=(282, 410)),
    test=dict(test_resize_size=(282, 410)),
)
uda = dict(alpha=0.99, pseudo_threshold=0.8, debug_img_interval=100)
optimizer = dict(lr=6e-4)
lr_config = dict(warmup_iters=20)
runner = dict(max_iters=200)
evaluation = dict(interval=200)
checkpoint_config = dict(interval=200)
log_config = dict(interval=20)
name = "image_only_toy_city"
