# No fusion: image and content map have their own classifiers, and each labels its own target. Tested on the output
# of the content map, in the slot of the events.
_base_ = ["../fusion/cs2dz_image+raw-isr_b5.py"]
model = dict(
    decode_head=dict(decoder_params=dict(train_type="cs2dz_image+raw-isr_split")),
    train_type="cs2dz_image+raw-isr_split",
)
data = dict(
    val=dict(outputs={"image", "night_isr", "label"}),
    test=dict(outputs={"image", "night_isr", "label"}),
)
uda = dict(
    train_type="cs2dz_image+raw-isr_split",
    forward_cfg=dict(loss_weight=dict(image=0.5, events=0.5)),
)
name = "cs2dz_image+raw-isr_split"
