"""CMDA: cross-modality domain adaptation for night-time semantic segmentation."""

__version__ = "0.2.0"
