# The same on Dark Zurich: the published configuration, then alternatives to the fusion.
experiments = [
    dict(base_config="configs/fusion/cs2dz_image+raw-isr_b5.py", name="cs2dz_cmda"),
    dict(base_config="configs/ablations/cs2dz_image+raw-isr_split.py", name="cs2dz_split"),
    dict(base_config="configs/ablations/cs2dz_image+raw-isr_no-fusion.py", name="cs2dz_no-fusion"),
]
