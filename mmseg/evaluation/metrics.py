"""Segmentation scores from a confusion matrix."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmseg.classes import CLASSES, IGNORE_LABEL


class ConfusionMatrix:
    """Counts of (label, prediction) pairs, kept on the device of the predictions."""

    def __init__(self, num_classes: int = len(CLASSES)) -> None:
        self.num_classes = num_classes
        self._counts: Tensor | None = None

    def update(self, prediction: Tensor, label: Tensor) -> Tensor:
        """Count the pixels of two integer tensors of the same shape; ignored labels (255) do not count.

        Returns:
            (classes, classes) int64, the counts of this pair only; row: label, column: prediction.
        """
        if prediction.shape != label.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and label {tuple(label.shape)} differ in shape")
        valid = label != IGNORE_LABEL
        pairs = label[valid].long() * self.num_classes + prediction[valid].long()
        counts = torch.bincount(pairs, minlength=self.num_classes**2)
        self._counts = counts if self._counts is None else self._counts + counts
        return counts.reshape(self.num_classes, self.num_classes)

    def counts(self) -> np.ndarray:
        """(classes, classes) int64; row: label, column: prediction."""
        shape = (self.num_classes, self.num_classes)
        return np.zeros(shape, np.int64) if self._counts is None else self._counts.cpu().numpy().reshape(shape)


@dataclass(frozen=True)
class FrameScores:
    """Scores of one frame.

    Attributes:
        name: name of the frame; its prediction is ``<name>.png``.
        iou: (classes,) in [0, 1]; NaN for a class that is neither labelled nor predicted.
        label_pixels: (classes,) int64, labelled pixels.
        predicted_pixels: (classes,) int64, predicted pixels with a label; None in results of earlier versions.
        hits: (classes,) int64, correctly predicted pixels; None in results of earlier versions.
    """

    name: str
    iou: np.ndarray
    label_pixels: np.ndarray
    predicted_pixels: np.ndarray | None = None
    hits: np.ndarray | None = None

    @classmethod
    def of(cls, name: str, counts: np.ndarray) -> FrameScores:
        """Scores of a frame's counts (classes, classes); row: label, column: prediction."""
        return cls(name, scores(counts).iou, counts.sum(axis=1), counts.sum(axis=0), np.diag(counts))

    @property
    def mean_iou(self) -> float:
        """Mean over the classes in the frame's label, so that a stray pixel does not add a whole class."""
        return nan_mean(self.iou[self.label_pixels > 0])


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1] per class (NaN if undefined) and their means; ``names`` are those of the classes.

    ``mean_iou`` is over all classes that occur. ``mean_iou_valid`` leaves out the classes that the test labels never
    contain; it is computed directly, not by scaling the mean of all classes.
    """

    iou: np.ndarray
    accuracy: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    dice: np.ndarray
    all_accuracy: float
    valid_classes: tuple[int, ...]
    names: tuple[str, ...] = CLASSES

    @property
    def mean_iou(self) -> float:
        """Mean IoU over all classes that occur."""
        return nan_mean(self.iou)

    @property
    def f_score(self) -> np.ndarray:
        """F1 per class; NaN if precision or recall is undefined."""
        with np.errstate(invalid="ignore"):
            return 2 * self.precision * self.recall / (self.precision + self.recall)

    @property
    def mean_iou_valid(self) -> float:
        """Mean IoU over the valid classes that occur."""
        return nan_mean(self.iou[list(self.valid_classes)])

    def summary(self) -> dict[str, float]:
        """Means by their usual names, in [0, 1]."""
        valid = len(self.valid_classes)
        return {
            "mIoU": self.mean_iou,
            **({f"mIoU_{valid}": self.mean_iou_valid} if valid < len(self.iou) else {}),
            "mAcc": nan_mean(self.accuracy),
            "aAcc": self.all_accuracy,
            "mDice": nan_mean(self.dice),
            "mFscore": nan_mean(self.f_score),
            "mPrecision": nan_mean(self.precision),
            "mRecall": nan_mean(self.recall),
        }

    def per_class(self) -> dict[str, dict[str, float | None]]:
        """IoU and accuracy by class name; None if undefined."""
        return {
            name: {"IoU": none_if_nan(self.iou[i]), "Acc": none_if_nan(self.accuracy[i])}
            for i, name in enumerate(self.names)
        }


def nan_mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if all are."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def none_if_nan(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)


def scores(counts: np.ndarray, absent_classes: Collection[int] = (), names: tuple[str, ...] = CLASSES) -> Scores:
    """Scores of a confusion matrix.

    Args:
        counts: (classes, classes); row: label, column: prediction.
        absent_classes: classes that the test labels never contain.
        names: names of the classes.
    """
    hits = np.diag(counts).astype(np.float64)
    labelled, predicted = counts.sum(axis=1).astype(np.float64), counts.sum(axis=0).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Scores(
            iou=hits / (labelled + predicted - hits),
            accuracy=hits / labelled,
            precision=hits / predicted,
            recall=hits / labelled,
            dice=2 * hits / (labelled + predicted),
            all_accuracy=float(hits.sum() / counts.sum()) if counts.sum() else float("nan"),
            valid_classes=tuple(i for i in range(len(counts)) if i not in absent_classes),
            names=names,
        )
