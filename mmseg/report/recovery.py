"""Details of tests that older versions made: read back from their predictions and panels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmseg.classes import CLASSES, IGNORE_LABEL
from mmseg.errors import DataError
from mmseg.evaluation.metrics import FrameScores
from mmseg.io.files import visible
from mmseg.report.pictures import open_pixels, panel_tiles, train_ids

# Output of a sample -> title of its picture in a panel, in the order of the panel.
INPUT_TITLES = {
    "warp_image": "image",
    "image": "image",
    "events_vg": "events",
    "warp_img_self_res": "img_self_res",
    "night_isr": "img_self_res",
}


def recovered_details(folder: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Content as of ``details.json``; without panels there are no labels to read, and the frames have no scores.

    Args:
        folder: folder with ``<name>.png`` and, as far as they exist, ``panels/<name>.png``.
        metrics: content of its ``metrics.json``.
    """
    names = [path.stem for path in visible(folder, "*.png")]
    frames: list[dict[str, Any]] = [{"name": name} for name in names]
    titles = _titles(folder, names, metrics)
    if "label" not in titles:
        return {"panel": titles, "frames": frames}
    total = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for frame in frames:
        path = folder / f"{frame['name']}.png"
        predicted = open_pixels(path)
        if predicted.ndim != 2 or predicted.max() >= len(CLASSES):
            raise DataError(f"{path} is no map of train ids; remove it or test the run again")
        tiles = panel_tiles(folder / "panels" / f"{frame['name']}.png", titles, predicted.shape[1])
        counts = _counts(predicted, train_ids(tiles["label"]))
        total += counts
        scores = FrameScores.of(frame["name"], counts)
        frame["IoU"] = [None if np.isnan(value) else float(value) for value in scores.iou]
        frame["label_pixels"] = scores.label_pixels.tolist()
    return {"panel": titles, "confusion": total.tolist(), "frames": frames}


def _titles(folder: Path, names: list[str], metrics: Mapping[str, Any]) -> list[str]:
    """Titles of the pictures of a panel; empty where panels are missing or hold another number of pictures."""
    if not names or not all((folder / "panels" / f"{name}.png").is_file() for name in names):
        return []
    test_set = metrics.get("test_set") or {}
    outputs = test_set.get("outputs") or ("warp_image", "events_vg")
    inputs = list(dict.fromkeys(title for key, title in INPUT_TITLES.items() if key in outputs))
    titles = [*inputs, f"prediction ({metrics.get('output')})", *(["label"] if metrics.get("scores") else [])]
    width = open_pixels(folder / f"{names[0]}.png").shape[1]
    return titles if panel_tiles(folder / "panels" / f"{names[0]}.png", titles, width) else []


def _counts(predicted: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(classes, classes) int64 pixels by label and prediction."""
    valid = label != IGNORE_LABEL
    pairs = label[valid].astype(np.int64) * len(CLASSES) + predicted[valid]
    return np.bincount(pairs, minlength=len(CLASSES) ** 2).reshape(len(CLASSES), len(CLASSES))
