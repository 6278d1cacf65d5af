# Cityscapes (day, labelled) to DSEC_Night (night images and events, unlabelled).
# Sizes are (width, height) in Cityscapes and (height, width) in DSEC.
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=4,
    train=dict(
        type="UDADataset",
        source=dict(
            type="CityscapesICDataset",
            dataset_path="data/cityscapes/",
            image_resize_size=(1024, 512),
            image_crop_size=(512, 512),
        ),
        target=dict(
            type="DSECDataset",
            dataset_txt_path="./night_dataset_warp.txt",
            crop_size=(400, 400),
            after_crop_resize_size=(512, 512),
            outputs={"warp_image", "events_vg"},
        ),
        source_json_root="data/cityscapes/",
    ),
    val=dict(
        type="DSECDataset",
        dataset_txt_path="./night_test_dataset_warp.txt",
        outputs={"warp_image", "events_vg", "label", "img_metas"},
    ),
    test=dict(
        type="DSECDataset",
        dataset_txt_path="./night_test_dataset_warp.txt",
        outputs={"warp_image", "events_vg", "label", "img_metas"},
    ),
)
