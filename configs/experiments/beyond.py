# Masked consistency next to the configurations that it extends.
experiments = [
    dict(base_config=f"configs/{folder}/{config}.py", name=name)
    for folder, config, name in (
        ("fusion", "cs2dsec_image+events_together_b5", "cs2dsec_cmda"),
        ("beyond", "cs2dsec_mic_b5", "cs2dsec_mic"),
        ("beyond", "cs2dsec_crossmodal_mic_b5", "cs2dsec_crossmodal_mic"),
        ("baselines", "cs2dsec_image_fd_b5", "cs2dsec_image_fd"),
        ("beyond", "daformer_mic_b5", "daformer_mic"),
        ("fusion", "cs2dz_image+raw-isr_b5", "cs2dz_cmda"),
        ("beyond", "cs2dz_mic_b5", "cs2dz_mic"),
    )
]
