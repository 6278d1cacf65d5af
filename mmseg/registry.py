"""One registry per kind of component; a config names a component by ``type``.

The modules in ``locations`` are imported on the first look-up, so importing this module stays cheap.
"""

from __future__ import annotations

from mmengine.registry import Registry

BACKBONES = Registry("backbone", scope="mmseg", locations=["mmseg.models.backbones"])
FUSION_MODULES = Registry("fusion module", scope="mmseg", locations=["mmseg.models.fusion"])
HEADS = Registry("decode head", scope="mmseg", locations=["mmseg.models.decode_heads"])
LOSSES = Registry("loss", scope="mmseg", locations=["mmseg.models.losses"])
SEGMENTORS = Registry("segmentor", scope="mmseg", locations=["mmseg.models.segmentors"])
UDA = Registry("adaptation method", scope="mmseg", locations=["mmseg.uda.cmda"])
DATASETS = Registry(
    "dataset",
    scope="mmseg",
    locations=[f"mmseg.datasets.{name}" for name in ("cityscapes", "dark_zurich", "dsec_night", "frames", "uda")],
)
