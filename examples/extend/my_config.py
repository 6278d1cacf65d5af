# CMDA with an encoder, a fusion module, a data set and a training variant of our own.
# Outside of the repository, _base_ is the path of this file in the clone of CMDA.
_base_ = "../../configs/fusion/cs2dz_image+raw-isr_b5.py"
custom_imports = dict(imports=["my_cmda.components"], allow_failed_imports=False)

widths = [32, 64, 160, 256]
encoder = dict(type="ConvPyramid", widths=widths, _delete_=True)
model = dict(
    pretrained=None,
    backbone_image=encoder,
    backbone_events=encoder,
    fusion_module=dict(type="GatedFusion", in_channels=widths),
    decode_head=dict(in_channels=widths, decoder_params=dict(train_type="my_image+content-map")),
    train_type="my_image+content-map",
)
night = dict(
    type="NightFolder",
    dataset_path="data/drives",
    image_resize_size=(960, 540),
    image_crop_size=(512, 512),
    _delete_=True,
)
data = dict(
    train=dict(target=dict(**night, outputs=["image", "night_isr"])),
    val=dict(**night, outputs=["image", "night_isr", "label"], test_mode=True),
    test=dict(**night, outputs=["image", "night_isr", "label"], test_mode=True),
)
uda = dict(train_type="my_image+content-map")
name = "my_cmda"
# names that are no keys of a config
del widths, encoder, night
