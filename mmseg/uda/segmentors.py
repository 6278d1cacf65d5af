"""Segmentors of training variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.registry import SEGMENTORS
from mmseg.uda.streams import variant_of_head


def build_segmentor(model: Mapping[str, Any]) -> BaseSegmentor:
    """Segmentor of the section ``model`` of a config, with the classifiers that its training variant needs.

    Raises:
        ConfigError: a component that cannot be built, or an unknown variant.
        CheckpointError: weights that cannot be read or do not fit.
    """
    segmentor = SEGMENTORS.build(dict(model))
    variant = variant_of_head(model.get("decode_head") or {})
    if variant is not None and variant.own_classifiers:
        segmentor.decode_head.separate_classifiers(variant.edge_outputs)
    return segmentor
