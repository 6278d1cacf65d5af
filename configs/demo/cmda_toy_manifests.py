# CMDA on a toy city with a sensor of any size, read from its manifests like footage of your own:
# python tools/make_toy_data.py OUT --sensor 1280x720
_base_ = ["./cmda_toy_city.py"]
frames = dict(_delete_=True, type="FramesDataset", image_resize_size=(512, 288))
data = dict(
    train=dict(
        target=dict(
            **frames,
            manifest="night_train.jsonl",
            image_crop_size=(256, 256),
            outputs=["warp_image", "events_vg", "warp_img_self_res"],
            shift_type="random",
            isr_parms=dict(val_range=[0.01, 1.01], _threshold=0.005, _clip_range=0.1, shift_pixel=1),
        )
    ),
    val=dict(
        **frames, manifest="night_test.jsonl", outputs=["warp_image", "events_vg", "label"], ignored_bottom_rows=24
    ),
    test=dict(
        **frames, manifest="night_test.jsonl", outputs=["warp_image", "events_vg", "label"], ignored_bottom_rows=24
    ),
)
del frames
name = "cmda_toy_manifests"
