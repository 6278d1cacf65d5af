# The second input is always the content map; tested on images.
_base_ = ["./cs2dsec_image+events.py"]
data = dict(
    val=dict(outputs={"warp_image", "label", "img_metas"}),
    test=dict(outputs={"warp_image", "label", "img_metas"}),
)
uda = dict(without_events=True)
name = "cs2dsec_image+events_without_events"
