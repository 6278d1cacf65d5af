"""The one reader of ``metrics.json``, which a test writes next to its predictions. Light to import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.config.kinds import Kind, Number, PathText, Text, Whole, shown
from mmseg.errors import ConfigError
from mmseg.io.json_files import read_json
from mmseg.work_dir.layout import iteration_at_end

REMEDY = "remove it or test the run again"
SCORE = Number(0, 1)
ITERATION = Whole(0, 10**12)
NAME = Text("a name")
REGION_FIELDS: dict[str, Kind] = {"definition": NAME, "pixels": Whole(0, 10**15)}
FIELDS: dict[str, Kind] = {
    "iteration": ITERATION,
    "output": NAME,
    "model": NAME,
    "precision": NAME,
    "tta": Text("a text", ".*"),
    "without": Text("a text", ".*"),
    "checkpoint": PathText(empty=True),
    "config": PathText(empty=True),
}


def read_metrics(path: str | Path) -> dict[str, Any]:
    """Content of ``metrics.json``: scores and IoU by class in [0, 1] or None, the tested output, model and iteration.

    ``scores``, ``per_class`` and ``regions`` are objects, empty where the test had no labels. Earlier versions wrote no
    ``regions``. ``complete`` are the scores with all inputs, in a test without a modality.

    Raises:
        ConfigError: it cannot be read, or has unexpected content; the message names the file and the entry.
    """
    content = read_json(path, REMEDY, error=ConfigError)
    for key in ("scores", "per_class", "regions", "complete", "test_set"):
        content[key] = _object(content.get(key), path, key)
    for key in ("scores", "complete"):
        for name, value in content[key].items():
            _check(value, SCORE, path, f"{key}.{name}")
    for name, values in content["per_class"].items():
        for key, value in _object(values, path, f"per_class.{name}").items():
            _check(value, SCORE, path, f"per_class.{name}.{key}")
    for name, region in content["regions"].items():
        content["regions"][name] = _region(region, path, f"regions.{name}")
    for key, kind in FIELDS.items():
        _check(content.get(key), kind, path, key)
    outputs = content["test_set"].get("outputs", [])
    if not isinstance(outputs, list) or not all(isinstance(name, str) for name in outputs):
        raise _wrong(path, "test_set.outputs", outputs, "a list of names")
    return content


def tested_iteration(metrics: Mapping[str, Any]) -> int | None:
    """Iterations that the tested weights were trained for, if the file says so."""
    if metrics.get("iteration") is not None:
        return metrics["iteration"]
    return iteration_at_end(str(metrics.get("checkpoint", "")))


def main_score(scores: Mapping[str, Any]) -> tuple[str, float | None]:
    """Key and value of the mean IoU over the valid classes in ``scores`` or a region; of all, if the set lacks none."""
    key = next((key for key in scores if re.fullmatch(r"mIoU_\d+", key)), "mIoU")
    return key, scores.get(key)


def _region(region: Any, path: str | Path, where: str) -> dict[str, Any]:
    """An entry of ``regions``: means and ``share`` in [0, 1], ``pixels``, ``IoU`` by class."""
    region = dict(_object(region, path, where))
    for key, value in region.items():
        if key == "IoU":
            for name, share in _object(value, path, f"{where}.IoU").items():
                _check(share, SCORE, path, f"{where}.IoU.{name}")
        else:
            _check(value, REGION_FIELDS.get(key, SCORE), path, f"{where}.{key}")
    return region


def _object(value: Any, path: str | Path, key: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(path, key, value, "an object")
    return value


def _check(value: Any, kind: Kind, path: str | Path, key: str) -> None:
    if value is None:
        return
    try:
        kind.check(key, value)
    except ConfigError as error:
        raise _wrong(path, key, value, kind.text) from error


def _wrong(path: str | Path, key: str, value: Any, wanted: str) -> ConfigError:
    return ConfigError(f"{path}: {shown(key)} is {shown(value)}, not {wanted}; {REMEDY}")
