"""Manifests of a toy city: its night, for training as on your own footage, and its labelled days for validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmseg.io.files import write_text
from mmseg.toy.tasks import Task, clock_of, day_name, place_of
from mmseg.toy.writers import FRAME_TIME, day_files, events_file, night_image, night_label, rectify_map_file

# Kind of street -> its manifest.
MANIFESTS = {"train": "night_train.jsonl", "test": "night_test.jsonl", "day_val": "day_val.jsonl"}
HEADER = {"format": 1, "class_set": "cityscapes19"}


def write_manifests(tasks: Sequence[Task], out: Path) -> None:
    """Write a manifest of the night frames for training, one of those for testing, and one of the days of ``val``.

    The latter two have labels.

    Args:
        tasks: those of the city.
        out: folder of the manifests; the data sets are in its folder ``data``.
    """
    for kind, name in MANIFESTS.items():
        day = kind == "day_val"
        lines: list[dict] = [HEADER if day else HEADER | {"events": {"mapping": "rectify_map"}}]
        streets = sorted((task for task in tasks if task.kind == kind), key=lambda task: task.index)
        for task in streets:
            lines += [_day_line(task)] if day else _night_lines(task)
        write_text(out / name, "".join(f"{json.dumps(line)}\n" for line in lines))


def _day_line(task: Task) -> dict:
    """Line of a street by day."""
    image, label = day_files(Path("data") / "cityscapes", "val", day_name(task))
    return {"image": image.as_posix(), "label": label.as_posix(), "sequence": day_name(task).split("_")[0]}


def _night_lines(task: Task) -> list[dict]:
    """Lines of the frames of a street at night."""
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
