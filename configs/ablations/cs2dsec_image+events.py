# One second input per pass: events or content map, whichever was drawn.
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
train_type = "cs2dsec_image+events"
model = dict(
    decode_head=dict(decoder_params=dict(train_type="cs2dsec_image+events")), train_type="cs2dsec_image+events"
)
uda = dict(train_type="cs2dsec_image+events")
name = "cs2dsec_image+events"
