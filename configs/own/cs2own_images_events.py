# CMDA, Cityscapes to your own night images and events: the published configuration of DSEC_Night.
# The manifests come from tools/make_manifest.py; sizes are (width, height). See docs/own_data.md.
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
frames = dict(_delete_=True, type="FramesDataset", image_resize_size=(640, 480))
data = dict(
    train=dict(
        target=dict(
            **frames,
            manifest="data/own/train.jsonl",
            image_crop_size=(400, 400),
            crop_resize_size=(512, 512),
            outputs=["warp_image", "events_vg", "warp_img_self_res"],
            shift_type="random",
            isr_parms=dict(val_range=[0.01, 1.01], _threshold=0.005, _clip_range=0.1, shift_pixel=1),
        )
    ),
    # the labels are optional: without them, images are predicted without scores
    val=dict(**frames, manifest="data/own/val.jsonl", outputs=["warp_image", "events_vg", "label"]),
    test=dict(**frames, manifest="data/own/val.jsonl", outputs=["warp_image", "events_vg", "label"]),
)
del frames
name = "cs2own_images_events"
name_dataset = "cityscapes_day2own"
