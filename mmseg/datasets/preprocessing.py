"""From images and events to network inputs: the one preprocessing of training, tests and inference.

Sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mmseg.datasets.base import Size, pair
from mmseg.datasets.normalization import normalize_image
from mmseg.events.normalize import event_clip_range, rescale_array, standardize_events
from mmseg.events.recording import Events
from mmseg.events.voxel_grid import normalized_time, voxel_grid
from mmseg.extractors.content import ContentParams, random_direction, resized_content_map

ALL = slice(None)


def resize_image(image: Image.Image, size: Size) -> Image.Image:
    """Resize bilinearly, smoothed when it shrinks."""
    return image.resize(size[::-1], Image.Resampling.BILINEAR)


def resize_label(label: Image.Image, size: Size) -> Image.Image:
    """Resize a label map to the nearest pixel."""
    return label.resize(size[::-1], Image.Resampling.NEAREST)


def image_tensor(image: Image.Image) -> Tensor:
    """RGB image -> (3, H, W) float32, normalised."""
    return normalize_image(np.asarray(image))


def label_tensor(label: Image.Image) -> Tensor:
    """Label map of mode ``L`` -> (1, H, W) int64."""
    return torch.from_numpy(np.array(label, dtype=np.int64))[None]


def grey_tensor(image: Image.Image) -> Tensor:
    """Image -> (H, W) uint8 grey levels."""
    return torch.from_numpy(np.array(image.convert("L")))


def signed_tensor(image: Image.Image) -> Tensor:
    """8-bit grey picture of a signed map, such as an image change -> (H, W) float32 in [-1, 1]."""
    return (torch.from_numpy(np.array(image)).float() / 255 - 0.5) / 0.5


def three_channels(single: Tensor) -> Tensor:
    """(H, W) or (1, H, W) -> (3, H, W), one channel repeated."""
    return single.expand(3, *single.shape[-2:])


@dataclass(frozen=True)
class ContentSettings:
    """How content maps are extracted.

    Attributes:
        params: parameters of the Image Content-Extractor.
        shift_type: a key of :data:`mmseg.extractors.content.SHIFTS`, or ``random``.
        from_original: extract the map from the image at its own size, then resize the map. The published configs do
            not use it; that the map is resized bilinearly, with smoothing, is our reading.
    """

    params: ContentParams
    shift_type: str
    from_original: bool = False

    def content_map(self, image: Image.Image, size: Size, parities: tuple[int, int] | None = None) -> Tensor:
        """Content map (H, W) of an image, resized to ``size`` if the image has another one.

        Args:
            parities: two numbers of a draw whose parities decide a ``random`` shift; None for a test, which draws
                nothing and shifts to the lower right.
        """
        return resized_content_map(grey_tensor(image), self.params, self.direction(parities), size)

    def direction(self, parities: tuple[int, int] | None = None) -> str:
        """Key of :data:`mmseg.extractors.content.SHIFTS`; ``parities`` as of :meth:`content_map`."""
        if self.shift_type != "random":
            return self.shift_type
        return random_direction(*parities) if parities else "rightdown"


@dataclass(frozen=True)
class EventSettings:
    """How events become a network input.

    Attributes:
        bins: temporal bins of the voxel grid, averaged in the end; the network has one channel for them.
        clip_range: (low, high) that training draws the clip range from; None derives it from the number of events.
    """

    bins: int = 1
    clip_range: tuple[float, float] | None = None

    @classmethod
    def from_arguments(cls, events_bins_5_avg_1: bool, events_clip_range: Iterable[float] | None) -> EventSettings:
        """Settings from the arguments of the data sets with events."""
        return cls(5 if events_bins_5_avg_1 else 1, None if events_clip_range is None else pair(events_clip_range))

    def standard_grid(self, events: Events, frame: Size) -> np.ndarray:
        """Standardised voxel grid (bins, height, width) of the events in a frame."""
        times = events.t if self.bins == 1 else normalized_time(events.t)
        return standardize_events(voxel_grid(times, events.x, events.y, events.p, self.bins, *frame))

    def clip(self, start: int, finish: int, drawn: float | None = None) -> float:
        """Clip range of a window from event ``start`` to ``finish``.

        Args:
            drawn: what training drew. A test draws nothing and takes the middle of ``clip_range``.
        """
        if drawn is not None:
            return drawn
        return sum(self.clip_range) / 2 if self.clip_range else event_clip_range(start, finish)


def event_tensor(
    standard: np.ndarray, clip: float, size: Size, rows: slice = ALL, columns: slice = ALL, flip: bool = False
) -> Tensor:
    """Network input (3, height, width) in [-1, 1] of events.

    Args:
        standard: standardised voxel grid (bins, H, W) of the whole frame, over which values are also rescaled.
        clip: largest magnitude kept, in standard deviations.
        size: of the result.
        rows, columns: part of the frame to cut out.
        flip: flip the part horizontally.
    """
    normal = torch.from_numpy(rescale_array(standard, clip, rows, columns)).mean(dim=0, keepdim=True)
    if flip:
        normal = normal.flip(-1)
    if size != normal.shape[1:]:
        normal = F.interpolate(normal[None], size=size, mode="bilinear", align_corners=False)[0]
    return three_channels(normal)
