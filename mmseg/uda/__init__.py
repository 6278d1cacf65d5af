"""The training method: self-training across day and night with images, events and content maps."""

from mmseg.uda.cmda import DACS

__all__ = ["DACS"]
