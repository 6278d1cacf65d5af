# CMDA without events on the toy city: the second input is always the content map; tested on images.
_base_ = ["./cmda_toy_city.py"]
train_type = "cs2dsec_image+events"
model = dict(
    decode_head=dict(decoder_params=dict(train_type="cs2dsec_image+events")), train_type="cs2dsec_image+events"
)
data = dict(
    val=dict(outputs={"warp_image", "label", "img_metas"}),
    test=dict(outputs={"warp_image", "label", "img_metas"}),
)
uda = dict(train_type="cs2dsec_image+events", without_events=True, cyclegan_itrd2en_path="")
name = "cmda_without_events_toy_city"
