"""Segmentors of training variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg.classes import ClassSet
from mmseg.errors import ConfigError
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.registry import SEGMENTORS
from mmseg.uda.streams import variant_of_head


def check_number_of_classes(segmentor: BaseSegmentor, classes: ClassSet) -> None:
    """Refuse a head with another number of classes than the class set; one from outside may have its own.

    Raises:
        ConfigError: naming the head and both numbers.
    """
    head = segmentor.decode_head
    if head.num_classes != len(classes):
        raise ConfigError(
            f"the head {type(head).__name__} has num_classes {head.num_classes}, but the class set {classes.name!r} "
            f"has {len(classes)} classes; give the head an argument num_classes, or choose another set by the key "
            "'classes'"
        )


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
