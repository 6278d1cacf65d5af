"""Manifests of the night of a toy city, for training on it as on footage of your own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmseg.io.files import write_text
from mmseg.toy.tasks import Task, clock_of, place_of
from mmseg.toy.writers import FRAME_TIME, events_file, night_image, night_label, rectify_map_file

# Kind of street -> its manifest.
MANIFESTS = {"train": "night_train.jsonl", "test": "night_test.jsonl"}
HEADER = {"format": 1, "class_set": "cityscapes19", "events": {"mapping": "rectify_map"}}


def write_manifests(tasks: Sequence[Task], out: Path) -> None:
    """Write a manifest of the frames for training, and one of those for testing, which have labels.

    Args:
        tasks: those of the city.
        out: folder of the manifests; the data sets are in its folder ``data``.
    """
    for kind, name in MANIFESTS.items():
        lines: list[dict] = [HEADER]
        streets = sorted((task for task in tasks if task.kind == kind), key=lambda task: task.index)
        for task in streets:
            lines += _lines(task)
        write_text(out / name, "".join(f"{json.dumps(line)}\n" for line in lines))


def _lines(task: Task) -> list[dict]:
    """Lines of the frames of a street."""
    place = place_of(task.kind, task.index, task.settings)
    folder = Path("data") / task.settings.night_folder / place.sequence
    lines = []
    for number in range(place.first_frame, place.first_frame + task.settings.frames):
        line: dict = {"image": night_image(folder, number).as_posix()}
        if task.kind == "test":
            line["label"] = night_label(folder, number).as_posix()
        line |= {
            "events": events_file(folder).as_posix(),
            "rectify_map": rectify_map_file(folder).as_posix(),
            "time": clock_of(place.sequence, task.seed) + FRAME_TIME * number,
            "window": {"duration": FRAME_TIME},
            "sequence": place.sequence,
        }
        lines.append(line)
    return lines
