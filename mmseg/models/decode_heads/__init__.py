"""Decode heads."""

from mmseg.models.decode_heads.daformer_head import DAFormerHead, DAFormerHeadFusion

__all__ = ["DAFormerHead", "DAFormerHeadFusion"]
