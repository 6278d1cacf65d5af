"""Scores by region of the image: by brightness of the pixel, and near class boundaries.

At night, a camera sees least where it is dark and where lamps blind it, and events and content maps are meant to help
there. A mean over all pixels hides that, since most pixels are neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from mmseg.classes import IGNORE_LABEL
from mmseg.datasets.normalization import IMAGE_MEAN, IMAGE_STD
from mmseg.evaluation.metrics import Scores, none_if_nan, scores
from mmseg.extractors.content import grey_level

# Grey levels (0..255, ITU-R 601) of the image: dark pixels lie below the first, glare starts at the second.
DARK_BELOW = 32
GLARE_FROM = 192
# A pixel is near a boundary if a pixel of another class lies at most this many rows and columns away.
BOUNDARY_PIXELS = 5
BRIGHTNESS = ("dark", "middle", "glare")
DISTANCE = ("boundary", "interior")
# Region -> what belongs to it, as metrics.json and tables say it.
REGIONS = {
    "dark": f"grey level below {DARK_BELOW}",
    "middle": f"grey level {DARK_BELOW} to {GLARE_FROM - 1}",
    "glare": f"grey level from {GLARE_FROM}",
    "boundary": f"another class within {BOUNDARY_PIXELS} px",
    "interior": f"no other class within {BOUNDARY_PIXELS} px",
}


def input_grey(image: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Grey levels (H, W) uint8 of the network's input image (3, h, w), resized to ``size`` (nearest pixel)."""
    std, mean = (torch.tensor(values)[:, None, None] for values in (IMAGE_STD, IMAGE_MEAN))
    grey = grey_level((image.float() * std + mean).round_().clamp_(0, 255)).numpy()
    return grey if grey.shape == size else cv2.resize(grey, size[::-1], interpolation=cv2.INTER_NEAREST)


def near_boundary(label: np.ndarray) -> np.ndarray:
    """Whether another class lies within :data:`BOUNDARY_PIXELS` rows and columns of a pixel; (H, W) bool.

    Ignored pixels have no class: they are not near a boundary, and their edges are none.

    Args:
        label: (H, W) uint8.
    """
    window = np.ones((2 * BOUNDARY_PIXELS + 1,) * 2, np.uint8)
    ignored = label == IGNORE_LABEL
    # Pixels outside the image do not count, nor do ignored ones: 255 is never a least class, 0 never changes a largest.
    least = cv2.erode(label, window)
    largest = cv2.dilate(np.where(ignored, 0, label).astype(np.uint8), window)
    return (least != largest) & ~ignored


def count_pixels(prediction: np.ndarray, label: np.ndarray, grey: np.ndarray | None, classes: int) -> np.ndarray:
    """Pixels of one frame by region, label and prediction; ignored labels (255) do not count.

    Args:
        prediction, label: (H, W) integers.
        grey: (H, W) uint8, grey levels of the image; None without an image.
        classes: number of classes.

    Returns:
        (3, 2, classes, classes) int64: brightness (:data:`BRIGHTNESS`), distance from boundaries (:data:`DISTANCE`),
        label, prediction. Without an image, the first axis has length 1.

    Raises:
        ValueError: shapes differ, or a value is not a class.
    """
    if prediction.shape != label.shape or (grey is not None and grey.shape != label.shape):
        raise ValueError(f"prediction {prediction.shape}, label {label.shape} and image differ in shape")
    valid = label != IGNORE_LABEL
    labelled, predicted = label[valid].astype(np.int64), prediction[valid].astype(np.int64)
    for values in (labelled, predicted):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"values {values.min()} to {values.max()} are not all one of {classes} classes")
    interior = ~near_boundary(label.astype(np.uint8))[valid]
    code = (interior * classes + labelled) * classes + predicted
    shape = (1 if grey is None else len(BRIGHTNESS), len(DISTANCE), classes, classes)
    if grey is not None:
        level = grey[valid]
        code += ((level >= DARK_BELOW).astype(np.int64) + (level >= GLARE_FROM)) * (len(DISTANCE) * classes**2)
    return np.bincount(code, minlength=int(np.prod(shape))).reshape(shape)


def whole(counts: np.ndarray) -> np.ndarray:
    """Counts (classes, classes) of all regions together, from those of :func:`count_pixels`."""
    return counts.sum(axis=(0, 1))


@dataclass(frozen=True)
class RegionScores:
    """Scores of one region.

    Attributes:
        name: a key of :data:`REGIONS`.
        pixels: number of labelled pixels.
        share: of all labelled pixels, in [0, 1]; NaN without any.
        scores: scores of these pixels only. A class that is neither labelled nor predicted in them is in no mean.
    """

    name: str
    pixels: int
    share: float
    scores: Scores

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``metrics.json``; undefined values are None."""
        means = self.scores.summary()
        kept = {key: none_if_nan(value) for key, value in means.items() if key.startswith("mIoU") or key == "aAcc"}
        iou = {name: values["IoU"] for name, values in self.scores.per_class().items()}
        definition = REGIONS[self.name]
        return {"definition": definition, "pixels": self.pixels, "share": none_if_nan(self.share), **kept, "IoU": iou}


def region_scores(counts: np.ndarray, absent_classes: tuple[int, ...], names: tuple[str, ...]) -> list[RegionScores]:
    """Scores of every region.

    Args:
        counts: sum of :func:`count_pixels` over frames.
        absent_classes, names: see :func:`mmseg.evaluation.metrics.scores`.
    """
    parts: list[tuple[str, np.ndarray]] = []
    if counts.shape[0] == len(BRIGHTNESS):
        parts += zip(BRIGHTNESS, counts.sum(axis=1), strict=True)
    parts += zip(DISTANCE, counts.sum(axis=0), strict=True)
    total = int(counts.sum())
    return [
        RegionScores(
            name, int(part.sum()), part.sum() / total if total else float("nan"), scores(part, absent_classes, names)
        )
        for name, part in parts
    ]
