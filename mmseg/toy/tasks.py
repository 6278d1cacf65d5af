"""The streets of a toy city as independent tasks: each renders one street and writes its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from mmseg.toy import scenes, writers
from mmseg.toy.events import EventArrays, rectify_map
from mmseg.toy.settings import TEST_SEQUENCES, TRAIN_SEQUENCES, ToySettings
from mmseg.toy.writers import FRAME_TIME

CITIES = ("ahlbruck", "birkenau", "canstein", "dornfeld", "eschbach", "feldheim", "gruental", "hohenau")
VAL_CITY = "zellwald"
DAY_STEP = 1 / 17  # Cityscapes films 17 frames a second
DARK_ZURICH_SIZE, DARK_ZURICH_FRAMES, DARK_ZURICH_GAP = (960, 540), 3, 0.4
# Second part of a generator's seed, so that no two kinds of street share their draws.
_DAY, _DAY_VAL, _TRAIN, _TEST, _DARK, _MAP = range(6)


@dataclass(frozen=True)
class Task:
    """One street.

    Attributes:
        kind: ``day``, ``day_val``, ``train``, ``test`` or ``dark_zurich``.
        index: number of the street among those of its kind.
        seed: of the whole city.
        root: folder that holds the data sets.
        parts: folder for events until their sequence is complete.
    """

    kind: str
    index: int
    seed: int
    settings: ToySettings
    root: Path
    parts: Path


@dataclass
class Outcome:
    """Results of a task: class pixels (19,) per label, events per frame, and edge counts."""

    kind: str
    classes: list[np.ndarray] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    edges: np.ndarray = field(default_factory=lambda: np.zeros(3, np.int64))


def all_tasks(settings: ToySettings, seed: int, root: Path, parts: Path) -> list[Task]:
    """Every street of a city, slowest first."""
    numbers = {
        "train": settings.night_streets,
        "test": settings.test_streets,
        "dark_zurich": settings.dark_zurich,
        "day": settings.day,
        "day_val": settings.day_val,
    }
    return [Task(kind, i, seed, settings, root, parts) for kind, count in numbers.items() for i in range(count)]


def run_task(task: Task) -> Outcome:
    """Render a street and write it."""
    return {
        "day": _day,
        "day_val": _day,
        "train": _night,
        "test": _night,
        "dark_zurich": _dark_zurich,
    }[task.kind](task)


def _day(task: Task) -> Outcome:
    train = task.kind == "day"
    rng = np.random.default_rng([task.seed, _DAY if train else _DAY_VAL, task.index])
    picture = scenes.day_picture(rng, task.settings.day_width, task.settings.day_height, DAY_STEP)
    writers.write_cityscapes(
        task.root / "cityscapes", "train" if train else "val", day_name(task), picture.image, picture.label,
        picture.change if train else None,
    )  # fmt: skip
    return Outcome(task.kind, [scenes.class_pixels(picture.label)])


def day_name(task: Task) -> str:
    """``<city>_<sequence>_<frame>`` of a street by day."""
    city = CITIES[task.index % len(CITIES)] if task.kind == "day" else VAL_CITY
    return f"{city}_{task.index:06d}_000019"


@dataclass(frozen=True)
class Place:
    """Position of a night street: sequence, number of its first frame, and µs from frame 0 to its events."""

    sequence: str
    first_frame: int
    start: int


def place_of(kind: str, index: int, settings: ToySettings) -> Place:
    """Place of a street; streets are dealt out to the sequences of their kind."""
    sequences = TRAIN_SEQUENCES if kind == "train" else TEST_SEQUENCES
    names = list(sequences)
    sequence = names[index % len(names)]
    first = sequences[sequence] + index // len(names) * settings.stride
    return Place(sequence, first, (first - 1) * FRAME_TIME - FRAME_TIME // 2)


def sequence_map(seed: int, sequence: str, settings: ToySettings) -> np.ndarray:
    """Rectify map of a sequence."""
    rng = np.random.default_rng([seed, _MAP, ord(sequence[-1])])
    return rectify_map(rng, settings.sensor_width, settings.sensor_height)


def _night(task: Task) -> Outcome:
    settings, labelled = task.settings, task.kind == "test"
    rng = np.random.default_rng([task.seed, _TEST if labelled else _TRAIN, task.index])
    place = place_of(task.kind, task.index, settings)
    mapping = sequence_map(task.seed, place.sequence, settings)
    ride = scenes.night_ride(rng, settings.frames, settings.substeps, mapping, measure=labelled)
    folder = task.root / settings.night_folder / place.sequence
    for k, (image, label) in enumerate(zip(ride.images, ride.labels, strict=True)):
        writers.write_night_frame(folder, place.first_frame + k, image, label if labelled else None)
    events = ride.events
    if events is None:
        raise ValueError("a night ride was filmed without events")
    np.savez(part_path(task), t=events.t.astype(np.uint32), x=events.x, y=events.y, p=events.p)
    classes = [scenes.class_pixels(label) for label in ride.labels]
    return Outcome(task.kind, classes, ride.counts, ride.edges)


def clock_of(sequence: str, seed: int) -> int:
    """Time of frame 0 of a sequence in µs, on the clock of its recording."""
    return 52_000_000_000 + 1_000_000 * ord(sequence[-1]) + seed % 1000


def part_path(task: Task) -> Path:
    """File with the events of a street until its sequence is complete."""
    return task.parts / f"{task.kind}_{task.index:06d}.npz"


def write_sequences(tasks: list[Task]) -> None:
    """Join the events of the night streets into one recording per sequence."""
    by_sequence: dict[str, list[tuple[Place, Task]]] = {}
    for task in tasks:
        if task.kind in ("train", "test"):
            place = place_of(task.kind, task.index, task.settings)
            by_sequence.setdefault(place.sequence, []).append((place, task))
    for sequence, members in sorted(by_sequence.items()):
        members.sort(key=lambda member: member[0].start)
        start, parts = members[0][0].start, []
        for place, task in members:
            with np.load(part_path(task)) as arrays:
                t = arrays["t"].astype(np.int64) + (place.start - start)
                parts.append(EventArrays(t, arrays["x"], arrays["y"], arrays["p"]))
        last, settings, seed = members[-1][0].first_frame, members[0][1].settings, members[0][1].seed
        writers.write_recording(
            members[0][1].root / settings.night_folder / sequence, EventArrays.joined(parts), start,
            last + settings.frames + 2, clock_of(sequence, seed), sequence_map(seed, sequence, settings),
        )  # fmt: skip


def _dark_zurich(task: Task) -> Outcome:
    rng = np.random.default_rng([task.seed, _DARK, task.index])
    ride = scenes.night_pictures(rng, *DARK_ZURICH_SIZE, DARK_ZURICH_FRAMES, DARK_ZURICH_GAP)
    # of every four streets, two are for training, one for validation and one for the test
    split = {2: "val", 3: "test"}.get(task.index % 4, "train")
    sequence = f"GOPR{351 + task.index:04d}"
    for k, (image, label) in enumerate(zip(ride.images, ride.labels, strict=True)):
        labelled = label if split == "val" else None
        writers.write_dark_zurich(task.root / "dark_zurich", split, sequence, 3 * k + 1, image, labelled)
    return Outcome(task.kind, [scenes.class_pixels(label) for label in ride.labels])


def single_threaded() -> None:
    """Limit a worker process to one thread, since many of them run."""
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
