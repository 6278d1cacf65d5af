"""Encoders."""

from mmseg.models.backbones.mit import MixVisionTransformer
from mmseg.models.backbones.timm_encoder import TimmEncoder

__all__ = ["MixVisionTransformer", "TimmEncoder"]
