# A network for the toy city's days, trained for long on many streets, from which the other toy trainings start.
_base_ = ["./source_only_toy_city.py"]
data = dict(
    samples_per_gpu=8,
    workers_per_gpu=12,
    train=dict(
        source=dict(image_resize_size=(512, 256), image_crop_size=(256, 256)),
        target=dict(after_crop_resize_size=(256, 256)),
        rare_class_sampling=dict(min_pixels=500, min_crop_ratio=0.25),
    ),
    val=dict(test_resize_size=(282, 410)),
    test=dict(test_resize_size=(282, 410)),
)
lr_config = dict(warmup_iters=100)
runner = dict(max_iters=6000)
evaluation = dict(interval=2000)
checkpoint_config = dict(interval=6000)
log_config = dict(interval=50)
name = "day_toy_city"
