"""Scores of an evaluation as a training logs them. Light to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmseg.classes import CLASSES

if TYPE_CHECKING:
    from mmseg.evaluation.metrics import Scores

# class -> key of its IoU in the logs; some loggers do not accept spaces
CLASS_KEYS = {name: f"IoU.{name.replace(' ', '_')}" for name in CLASSES}


def logged_scores(scores: Scores) -> dict[str, float]:
    """Means by their usual names and the IoU of every class, all in percent; NaN if undefined."""
    shares = scores.summary() | dict(zip(CLASS_KEYS.values(), map(float, scores.iou), strict=True))
    return {name: 100 * share for name, share in shares.items()}
