# CMDA, Cityscapes to the nights of MUSES: image, events and content map. Sizes are (width, height).
# The manifests come from tools/make_manifest.py --layout muses (docs/own_data.md).
_base_ = ["./cs2own_images_events.py"]
frames = dict(image_resize_size=(960, 540))
data = dict(
    train=dict(
        target=dict(
            **frames, manifest="data/muses/night_train.jsonl", image_crop_size=(512, 512), crop_resize_size=(512, 512)
        )
    ),
    val=dict(**frames, manifest="data/muses/night_val.jsonl"),
    test=dict(**frames, manifest="data/muses/night_val.jsonl"),
)
del frames
name = "cs2muses"
name_dataset = "cityscapes_day2muses_night"
