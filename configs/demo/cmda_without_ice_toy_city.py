# CMDA without the Image Content-Extractor on the toy city: the second input is always the events.
_base_ = ["./cmda_toy_city.py"]
train_type = "cs2dsec_image+events"
model = dict(
    decode_head=dict(decoder_params=dict(train_type="cs2dsec_image+events")), train_type="cs2dsec_image+events"
)
uda = dict(train_type="cs2dsec_image+events", without_isd=True)
name = "cmda_without_ice_toy_city"
