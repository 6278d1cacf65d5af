"""Encoders."""

from mmseg.models.backbones.mit import MixVisionTransformer

__all__ = ["MixVisionTransformer"]
