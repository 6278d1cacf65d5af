"""Modules that fuse the features of two encoders, stage by stage."""

from mmseg.models.fusion.modules import (
    AttentionAvgFusion,
    AttentionFusion,
    AverageFusion,
    ConcatenateFusion,
    ConvertAvgFusion,
    FeaturesSplit,
)

__all__ = [
    "AttentionAvgFusion",
    "AttentionFusion",
    "AverageFusion",
    "ConcatenateFusion",
    "ConvertAvgFusion",
    "FeaturesSplit",
]
