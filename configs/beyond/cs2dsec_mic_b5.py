# CMDA with masked image consistency, Cityscapes to DSEC_Night: image, events and content map hide the same cells.
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(
    masking=dict(
        ratio=0.7,
        block=32,
        mode="target_aug",
        streams=["image", "events", "img_self_res"],
        shared=True,
        weight=1.0,
    )
)
name = "cs2dsec_mic_b5"
