# The teacher always sees the content map; tested on images (--without_events).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
data = dict(
    val=dict(outputs={"warp_image", "label", "img_metas"}),
    test=dict(outputs={"warp_image", "label", "img_metas"}),
)
uda = dict(without_events=True)
name = "cs2dsec_without_events"
