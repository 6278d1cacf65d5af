# DAFormer on images only, Cityscapes to DSEC_Night: one encoder, plain self-training.
_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/models/daformer_sepaspp_mitb5.py",
    "../_base_/datasets/uda_cityscapes_day_to_dsec_night_512x512.py",
    "../_base_/uda/dacs.py",
    "../_base_/schedules/adamw.py",
    "../_base_/schedules/poly10warm.py",
]
seed = 0
data = dict(
    train=dict(
        source=dict(outputs={"image", "label"}),
        target=dict(outputs={"warp_image"}),
        rare_class_sampling=dict(min_pixels=3000, class_temp=0.01, min_crop_ratio=0.5),
    ),
    val=dict(outputs={"warp_image", "label", "img_metas"}),
    test=dict(outputs={"warp_image", "label", "img_metas"}),
)
uda = dict(
    train_type="cs2dsec_image",
    alpha=0.999,
    # the feature distance is off; these would be its classes (things) and the smallest share of a label cell
    imnet_feature_dist_lambda=0,
    imnet_feature_dist_classes=[6, 7, 11, 12, 13, 14, 15, 16, 17, 18],
    imnet_feature_dist_scale_min_ratio=0.75,
    debug_img_interval=500,
)
optimizer_config = None
optimizer = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            head=dict(lr_mult=10.0),
            pos_block=dict(decay_mult=0.0),
            norm=dict(decay_mult=0.0),
        )
    )
)
runner = dict(type="IterBasedRunner", max_iters=40000)
checkpoint_config = dict(by_epoch=False, interval=40000, max_keep_ckpts=1)
evaluation = dict(interval=4000, metric="mIoU")
name = "cs2dsec_image_b5"
