"""Tests in which a modality fails: zeros take its place at the input of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmseg.datasets.base import SampleStreams
from mmseg.errors import ConfigError
from mmseg.models.segmentors.base import BaseSegmentor

MODALITIES = ("events", "image")
# Beginnings of the scores whose fall is shown. Means of precision and F1 leave out classes that are not predicted.
SHOWN = ("mIoU", "mAcc", "aAcc")


def missing_streams(without: str, model: BaseSegmentor, dataset: SampleStreams, output: str) -> frozenset[str]:
    """Input streams of an output that have no content if a modality fails.

    A content map is made from the image, so it fails with it.

    Args:
        without: one of :data:`MODALITIES`; '' for none.

    Raises:
        ConfigError: the output does not use the modality, or nothing else.
    """
    if not without:
        return frozenset()
    if without not in MODALITIES:
        raise ConfigError(f"--without {without}: choose one of {', '.join(MODALITIES)}")
    streams = dataset.TEST_STREAMS
    has_events = streams["events"] != streams.get("img_self_res")
    used = frozenset(model.required_streams(output))
    of_events = used & {"events"} if has_events else frozenset()
    missing = of_events if without == "events" else used - of_events
    if not missing:
        raise ConfigError(f"--without {without}: the output {output!r} does not use it; choose another --output")
    if missing == used:
        raise ConfigError(f"--without {without}: the output {output!r} uses nothing else; choose another --output")
    return missing


def with_zeros(streams: Mapping[str, Tensor], missing: frozenset[str]) -> dict[str, Tensor]:
    """Inputs of the network by stream, with zeros in place of the missing ones.

    Zeros are an image of the mean colour of ImageNet, a voxel grid without events, and a content map without edges.
    """
    return {name: torch.zeros_like(stream) if name in missing else stream for name, stream in streams.items()}


def falls(complete: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Score -> its value with all inputs and without one, in [0, 1], where both are defined.

    Args:
        complete, scores: means by their names, as ``scores`` of ``metrics.json``.
    """
    return {
        key: (complete[key], value)
        for key, value in scores.items()
        if key.startswith(SHOWN) and value is not None and complete.get(key) is not None
    }
