# Cityscapes (day, labelled) to Dark Zurich (night images, unlabelled). Sizes are (width, height).
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
        target=dict(type="DarkZurichICDataset", dataset_path="data/dark_zurich/", test_mode=False),
        source_json_root="data/cityscapes/",
    ),
    val=dict(type="DarkZurichICDataset", dataset_path="data/dark_zurich/", test_mode=True),
    test=dict(type="DarkZurichICDataset", dataset_path="data/dark_zurich/", test_mode=True),
)
