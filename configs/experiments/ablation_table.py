# The ablation table on DSEC_Night: the published configuration, then one change per row.
experiments = [
    dict(base_config="configs/fusion/cs2dsec_image+events_together_b5.py", name="cs2dsec_cmda"),
    dict(base_config="configs/fusion/cs2dsec_image+events_together_fuse_both_b5.py", name="cs2dsec_fuse_both"),
    *(
        dict(base_config=f"configs/ablations/{name}.py", name=name)
        for name in (
            "cs2dsec_without_events",
            "cs2dsec_without_ice",
            "cs2dsec_day_events_ic",
            "cs2dsec_day_events_gi",
            "cs2dsec_choice_0.25",
            "cs2dsec_choice_0.75",
            "cs2dsec_choice_linear",
            "cs2dsec_choice_nlinear",
            "cs2dsec_shift_rightdown",
            "cs2dsec_shift_all",
            "cs2dsec_pasted_isr",
            "cs2dsec_fusion_attf",
            "cs2dsec_fusion_af",
            "cs2dsec_fusion_caf",
            "cs2dsec_fusion_cf",
            "cs2dsec_isr_another_fusion",
            "cs2dsec_half_share_decoder",
            "cs2dsec_no_share_decoder",
            "cs2dsec_fd",
            "cs2dsec_image+events",
            "cs2dsec_image+events_without_events",
            "cs2dsec_image+events_without_ice",
            "cs2dsec_image+events_isr_no_fusion",
        )
    ),
]
