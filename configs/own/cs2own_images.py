# CMDA, Cityscapes to your own night images: image and content map, fused, as on Dark Zurich.
# The manifests come from tools/make_manifest.py; sizes are (width, height). See docs/own_data.md.
_base_ = ["../fusion/cs2dz_image+raw-isr_b5.py"]
frames = dict(_delete_=True, type="FramesDataset", image_resize_size=(960, 540))
data = dict(
    train=dict(
        target=dict(
            **frames,
            manifest="data/own/train.jsonl",
            image_crop_size=(512, 512),
            outputs=["image", "night_isr"],
            shift_type="rightdown",
            isr_parms=dict(val_range=[1, 100], _threshold=0.01, _clip_range=0.1, shift_pixel=3),
        )
    ),
    # the labels are optional: without them, images are predicted without scores
    val=dict(**frames, manifest="data/own/val.jsonl", outputs=["image", "label"]),
    test=dict(**frames, manifest="data/own/val.jsonl", outputs=["image", "label"]),
)
# The published config does not trust its camera's uppermost rows and hood; set the rows of yours.
uda = dict(pseudo_weight_ignore_top=0, pseudo_weight_ignore_bottom=0)
del frames
name = "cs2own_images"
name_dataset = "cityscapes_day2own"
