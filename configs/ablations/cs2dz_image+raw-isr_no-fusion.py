# No fusion: edges of the labels are predicted from content maps, and features of mixed images and content maps are
# drawn together. The weight of that distance is our choice; the authors give none.
_base_ = ["../fusion/cs2dz_image+raw-isr_b5.py"]
model = dict(
    decode_head=dict(decoder_params=dict(train_type="cs2dz_image+raw-isr_no-fusion")),
    train_type="cs2dz_image+raw-isr_no-fusion",
)
uda = dict(train_type="cs2dz_image+raw-isr_no-fusion", isr_edge=True, lambda_isr_features=1.0)
name = "cs2dz_image+raw-isr_no-fusion"
