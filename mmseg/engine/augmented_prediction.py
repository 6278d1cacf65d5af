"""Test-time augmentation: mean of the softmax of mirrored and resized inputs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.config.augmentation import TestTimeAugmentation
from mmseg.models.losses import resize_logits
from mmseg.models.segmentors.base import BaseSegmentor


@torch.no_grad()
def augmented_prediction(
    segmentor: BaseSegmentor,
    streams: Mapping[str, Tensor],
    output: str,
    size: tuple[int, int] | None,
    augmentation: TestTimeAugmentation,
) -> tuple[Tensor, Tensor]:
    """Class of every pixel, (B, H, W) int64, and its mean probability, (B, H, W) float32.

    Args:
        streams: inputs by stream name, each (B, 3, h, w).
        output: name of the output.
        size: (H, W) of the result if it differs from the inputs'.

    Raises:
        DataError: a scale makes the inputs too small.
    """
    total = mean_probabilities(segmentor, streams, output, size, augmentation)
    probability, label = total.max(dim=1)
    return label, probability


def mean_probabilities(
    segmentor: BaseSegmentor,
    streams: Mapping[str, Tensor],
    output: str,
    size: tuple[int, int] | None,
    augmentation: TestTimeAugmentation,
) -> Tensor:
    """Mean softmax (B, classes, H, W) over all views; arguments as of :func:`augmented_prediction`."""
    given = next(iter(streams.values())).shape[2:]
    height, width = given

    def probabilities(view: Mapping[str, Tensor]) -> Tensor:
        return resize_logits(segmentor.predict_logits(view, output), size or given).softmax(dim=1)

    total: Tensor | None = None
    for scale in augmentation.scales:
        view = _resized(streams, augmentation.size(height, width, scale))
        found = probabilities(view)
        if augmentation.flip:
            # Both views of a scale are added first, so that mirrored inputs give the mirrored sum.
            found = found + probabilities(_mirrored(view)).flip(-1)
        total = found if total is None else total + found
    assert total is not None, "there is at least one scale"
    return total / augmentation.passes


def _mirrored(streams: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs mirrored left to right.

    A mirrored content map is that of the mirrored image with the mirrored shift: right becomes left.
    """
    return {name: stream.flip(-1) for name, stream in streams.items()}


def _resized(streams: Mapping[str, Tensor], size: tuple[int, int]) -> Mapping[str, Tensor]:
    """Inputs of a size: bilinear, smoothed where they shrink."""

    def resized(stream: Tensor) -> Tensor:
        if stream.shape[2:] == size:
            return stream
        shrinks = size[0] < stream.shape[2]
        return F.interpolate(stream, size, mode="bilinear", align_corners=False, antialias=shrinks)

    return {name: resized(stream) for name, stream in streams.items()}
