# Baselines for CMDA: labelled day images only, and self-training on images only.
experiments = [
    dict(base_config=f"configs/baselines/{name}_b5.py", name=name)
    for name in (
        "cs2dsec_source_only",
        "cs2dsec_image_source_only",
        "cs2dsec_image",
        "cs2dsec_image_fd",
        "cs2dz_image_source_only",
        "cs2dz_image",
        "cs2dz_image_fd",
    )
]
