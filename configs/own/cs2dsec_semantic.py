# CMDA, Cityscapes to DSEC-Semantic (by day) in its 11 classes: image, events and content map.
# The manifests come from tools/make_manifest.py --layout dsec-semantic (docs/own_data.md).
_base_ = ["./cs2own_images_events.py"]
classes = "dsec11"
model = dict(decode_head=dict(num_classes=None))
# The lower 40 rows show the car's hood and have no labels.
test = dict(manifest="data/DSEC_Semantic/test.jsonl", ignored_bottom_rows=40)
data = dict(train=dict(target=dict(manifest="data/DSEC_Semantic/train.jsonl")), val=test, test=test)
del test
name = "cs2dsec_semantic"
name_dataset = "cityscapes_day2dsec_semantic"
