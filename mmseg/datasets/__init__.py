"""Data sets."""

from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.datasets.uda import UDADataset

__all__ = ["CityscapesICDataset", "DSECDataset", "UDADataset"]
