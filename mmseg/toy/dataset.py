"""Make a toy city: run its tasks, call the project's own tools on their output, and move it into place."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from mmseg.classes import CLASSES
from mmseg.errors import DataError
from mmseg.io.file_work import outcomes_of
from mmseg.io.files import is_bare, temporary_folder, write_text
from mmseg.preparation.cityscapes import convert_cityscapes
from mmseg.preparation.dsec_lists import TEST_LIST, TRAIN_LIST, create_dsec_lists
from mmseg.toy.contact_sheet import write_contact_sheet
from mmseg.toy.manifests import write_manifests
from mmseg.toy.placing import place
from mmseg.toy.settings import MARKER, ToySettings, city_record
from mmseg.toy.tasks import Outcome, Task, all_tasks, run_task, single_threaded, write_sequences

CONTACT_SHEET = "contact_sheet.png"
EVENT_INDEX = "images/images_to_events_index.txt"
# An image shows a class if it has more pixels of it than this.
SHOWN_PIXELS = 300


def is_complete(out: Path) -> bool:
    """Whether a folder holds a complete toy city."""
    return bool(city_record(out))


def make_toy_city(out: Path, settings: ToySettings, seed: int, jobs: int = 1, force: bool = False) -> dict:
    """Write a toy city.

    Everything is built in a folder next to ``out`` and moved there at the end; ``toy_city.json`` says
    ``"complete": true`` only when everything is in place.

    Args:
        out: folder to write; it must be empty or absent unless ``force``.
        settings: sizes.
        seed: 0 or more; equal seeds and settings give equal bytes (except the paths in the frame lists).
        jobs: number of processes.
        force: replace the toy city in ``out``, file by file. Other files there stay.

    Returns:
        The content of ``toy_city.json``: settings and statistics.

    Raises:
        DataError: ``out`` is in use, or cannot be written.
    """
    out = Path(out).resolve()
    _check_free(out, force)
    try:
        with temporary_folder(out) as folder:
            work, parts = folder / "city", folder / "parts"
            work.mkdir()
            parts.mkdir()
            tasks = all_tasks(settings.checked(), seed, work / "data", parts)
            outcomes = list(_run(tasks, jobs))
            write_sequences(tasks)
            write_manifests(tasks, work)
            convert_cityscapes(work / "data" / "cityscapes")
            report = {"complete": False, "seed": seed, "settings": asdict(settings), **_statistics(outcomes)}
            _write_marker(work, report)
            place(work, out, _written_later(work, settings), MARKER)
        if settings.is_dsec:
            create_dsec_lists(out / "data" / settings.night_folder, out, Console(file=sys.stderr, quiet=True))
        write_contact_sheet(out, (settings.sensor_width, settings.sensor_height), out / CONTACT_SHEET)
        report["complete"] = True
        _write_marker(out, report)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error}): free space or choose another folder") from error
    return report


def _written_later(work: Path, settings: ToySettings) -> list[str]:
    """Files written after the city is in place, since they contain paths or depend on files that do."""
    if not settings.is_dsec:
        return [CONTACT_SHEET]
    folders = sorted((work / "data" / settings.night_folder).glob("*/"))
    sequences = (folder.relative_to(work).as_posix() for folder in folders)
    return [TRAIN_LIST, TEST_LIST, CONTACT_SHEET, *(f"{sequence}/{EVENT_INDEX}" for sequence in sequences)]


def _check_free(out: Path, force: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out} is a file: give a folder")
    if is_bare(out):
        return
    if not (out / MARKER).is_file():
        raise DataError(f"{out} is not empty and holds no toy city: give another folder")
    if not force:
        state = "a toy city" if is_complete(out) else "an incomplete toy city"
        raise DataError(f"{out} holds {state}: give another folder, or replace it with --force")


def _write_marker(folder: Path, report: dict) -> None:
    write_text(folder / MARKER, json.dumps(report, indent=2) + "\n")


def _run(tasks: list[Task], jobs: int) -> Iterator[Outcome]:
    """Yield the outcomes in the order of the tasks. A street takes seconds, so each is sent on its own."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield from outcomes_of(run_task, tasks, jobs, "streets", chunk=1, prepare=single_threaded)
    finally:
        cv2.setNumThreads(threads)


def _statistics(outcomes: list[Outcome]) -> dict:
    """Class pixels, events per frame, and visibility of the labelled edges at night."""
    classes = {}
    for title, kinds in (("day", ("day",)), ("night_test", ("test",))):
        images = np.array([row for o in outcomes if o.kind in kinds for row in o.classes])
        classes[title] = {
            name: {"pixels": int(images[:, k].sum()), "images_shown": int((images[:, k] > SHOWN_PIXELS).sum())}
            for k, name in enumerate(CLASSES)
            if images[:, k].any()
        }
    events = np.array([count for o in outcomes for count in o.events])
    contrast, invisible, reported = sum((o.edges for o in outcomes), np.zeros(3, np.int64)).tolist()
    return {
        "classes": classes,
        "events_per_frame": {"least": int(events.min()), "median": int(np.median(events)), "most": int(events.max())},
        "night_edges": {
            "with_contrast_in_the_scene": contrast,
            "of_these_invisible_in_the_image": invisible,
            "of_these_with_events": reported,
        },
    }
