# The baseline on the toy city: the published network at a size for two CPU cores, trained on labelled day images only.
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
# A network that has learned the city's days; see day_toy_city.py.
load_from = "{{ fileDirname }}/toy_day.pth"
model = dict(
    # replaces ImageNet weights; made by benchmarks/toy_pretraining.py
    pretrained="{{ fileDirname }}/toy_mit_b0.pth",
    backbone_image=dict(type="mit_b0"),
    backbone_events=dict(type="mit_b0"),
    fusion_module=dict(in_channels=[32, 64, 160, 256]),
    fusion_isr_module=dict(type=""),
    decode_head=dict(in_channels=[32, 64, 160, 256], channels=32, decoder_params=dict(embed_dims=32)),
)
# As in the published config, a crop is nearly as high as the frame, so that the network learns what is above and what
# is below; the test has the scale of the training.
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
# There are no generator weights: image changes serve as day events. A hundred iterations need a higher learning rate,
# a teacher with a shorter memory and a lower confidence threshold.
uda = dict(
    source_only=True,
    alpha=0.99,
    pseudo_threshold=0.8,
    cyclegan_itrd2en_path="",
    debug_img_interval=50,
)
optimizer = dict(lr=2e-4)
lr_config = dict(warmup_iters=20)
runner = dict(max_iters=100)
evaluation = dict(interval=100)
checkpoint_config = dict(interval=100)
log_config = dict(interval=10)
name = "source_only_toy_city"
