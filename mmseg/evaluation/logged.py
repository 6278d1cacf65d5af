"""Scores of an evaluation as a training logs them. Light to import."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mmseg.classes import CLASSES

if TYPE_CHECKING:
    from mmseg.evaluation.metrics import Scores

PREFIX = "IoU."


def class_key(name: str) -> str:
    """Key of the IoU of a class in the logs; some loggers do not accept spaces."""
    return f"{PREFIX}{name.replace(' ', '_')}"


CLASS_KEYS = {name: class_key(name) for name in CLASSES}
_NAMES = {key: name for name, key in CLASS_KEYS.items()}


def logged_classes(record: Iterable[str]) -> dict[str, str]:
    """Name of each class whose IoU is among the keys of a line of the log -> its key.

    The spaces in the names of classes that are not Cityscapes' are not known any more.
    """
    keys = [key for key in record if key.startswith(PREFIX)]
    return {_NAMES.get(key, key.removeprefix(PREFIX)): key for key in keys}


def logged_scores(scores: Scores) -> dict[str, float]:
    """Means by their usual names and the IoU of every class, all in percent; NaN if undefined."""
    shares = scores.summary() | dict(zip(map(class_key, scores.names), map(float, scores.iou), strict=True))
    return {name: 100 * share for name, share in shares.items()}
