"""Checks of DSEC recordings: keys, order of time, indices, rectify map; and, when everything is read, every event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import h5py
import hdf5plugin  # noqa: F401  h5py finds the Blosc filter of DSEC files only after this import
import numpy as np

from mmseg.datasets.checks.findings import MAKE_LISTS, Finding, all_of, one_line
from mmseg.datasets.dsec_frames import DSECFrame, read_event_index, read_timestamps
from mmseg.errors import DataError
from mmseg.events.recording import HEIGHT, WIDTH

Result = TypeVar("Result")

KEYS = ("t", "x", "y", "p")
DOWNLOAD = "download the events of the sequence again"
# Frames of a sequence whose event index is compared with the times of the events, spread over it.
SAMPLED_FRAMES = 16
# Events that one process reads at once.
EVENTS_A_TASK = 1 << 23
# What h5py raises depends on which part of a file is damaged.
H5_ERRORS = (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError)


@dataclass(frozen=True)
class EventTask:
    """Events of a recording to read: ``start`` to ``stop``, the latter not included."""

    path: Path
    start: int
    stop: int


def check_recordings(frames: Sequence[DSECFrame], deep: bool = False) -> tuple[list[Finding], list[EventTask]]:
    """Check the recordings that frames refer to; every sequence once.

    Args:
        frames: of all lists.
        deep: compare the event index of every frame with the times of the events, not of some.

    Returns:
        Findings, and what to read of the events to see all of them.
    """
    of_sequence: dict[Path, list[DSECFrame]] = {}
    for frame in frames:
        of_sequence.setdefault(frame.sequence_dir, []).append(frame)
    problems: dict[str, list[str]] = {"events.h5": [], "rectify_map.h5": [], "timestamps.txt": [], "index": []}
    tasks: list[EventTask] = []
    for own in of_sequence.values():
        length = _guard(problems["events.h5"], check_events_file, own)
        _guard(problems["rectify_map.h5"], check_rectify_map, own[0].rectify_map_file)
        timestamps = _guard(problems["timestamps.txt"], check_timestamps, own[0])
        if length and timestamps is not None:
            _guard(problems["index"], check_index_times, own, timestamps, deep)
        starts = range(0, length or 0, EVENTS_A_TASK)
        tasks += [EventTask(own[0].events_file, s, min(s + EVENTS_A_TASK, length)) for s in starts]
    total = len(of_sequence)
    return [
        all_of("DSEC events.h5", total, problems["events.h5"], "with t, x, y, p, ms_to_idx, t_offset", DOWNLOAD),
        all_of("DSEC rectify_map.h5", total, problems["rectify_map.h5"], f"with ({HEIGHT}, {WIDTH}, 2)", DOWNLOAD),
        all_of(
            "DSEC timestamps.txt", total, problems["timestamps.txt"], "ascending", "download the image timestamps again"
        ),
        all_of("DSEC event index and event times", total, problems["index"], "in step", MAKE_LISTS),
    ], tasks


def _guard(problems: list[str], check: Callable[..., Result], *arguments: object) -> Result | None:
    """Run a check; its DataError is a problem, and None the result."""
    try:
        return check(*arguments)
    except DataError as error:
        problems.append(one_line(error))
        return None


def check_events_file(frames: Sequence[DSECFrame]) -> int:
    """Check keys, lengths, ends and millisecond index of a recording, and that its frames lie inside.

    Returns:
        Number of events.

    Raises:
        DataError: naming the file and what is amiss.
    """
    path = frames[0].events_file
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        with h5py.File(path, "r") as file:
            lacking = [k for k in (*(f"events/{k}" for k in KEYS), "ms_to_idx", "t_offset") if k not in file]
            if lacking:
                raise DataError(f"{path} has no {', '.join(lacking)}")
            lengths = {key: len(file[f"events/{key}"]) for key in KEYS}
            length = lengths["t"]
            if len(set(lengths.values())) > 1 or not length:
                raise DataError(f"{path}: t, x, y and p hold {', '.join(f'{n:,}' for n in lengths.values())} events")
            first, last = (int(file["events/t"][i]) for i in (0, length - 1))
            if first > last:
                raise DataError(f"{path}: the last event ({last} µs) is earlier than the first ({first} µs)")
            milliseconds = file["ms_to_idx"][:].astype(np.int64)
            int(file["t_offset"][()])
    except H5_ERRORS as error:
        raise DataError(f"{path} cannot be read ({error})") from None
    if np.any(np.diff(milliseconds) < 0) or (
        milliseconds.size and not 0 <= milliseconds[0] <= milliseconds[-1] <= length
    ):
        raise DataError(f"{path}: ms_to_idx does not rise from 0 to the number of events")
    outside = [frame.frame for frame in frames if frame.event_index >= length]
    if outside:
        raise DataError(
            f"{path} holds {length:,} events; the event index of frame {outside[0]} lies beyond: {MAKE_LISTS}"
        )
    return length


def check_rectify_map(path: Path) -> None:
    """Check shape and values of a rectify map.

    Raises:
        DataError: naming the file and what is amiss.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        with h5py.File(path, "r") as file:
            if "rectify_map" not in file:
                raise DataError(f"{path} has no rectify_map")
            rectify_map = file["rectify_map"][:]
    except H5_ERRORS as error:
        raise DataError(f"{path} cannot be read ({error})") from None
    if rectify_map.shape != (HEIGHT, WIDTH, 2) or not np.isfinite(rectify_map).all():
        raise DataError(f"{path}: rectify_map of shape {rectify_map.shape} or with values that are no numbers")


def check_timestamps(frame: DSECFrame) -> np.ndarray:
    """Check that the image times of a sequence ascend and are as many as its event indices.

    Returns:
        (number of images,) int64, µs.

    Raises:
        DataError: naming the file and what is amiss.
    """
    path = frame.sequence_dir / "images" / "timestamps.txt"
    timestamps = read_timestamps(path)
    still = np.flatnonzero(np.diff(timestamps) == 0)
    if still.size:
        raise DataError(f"{path}, line {int(still[0]) + 2}: this timestamp is that of the line before")
    if frame.index_file.is_file():
        index = read_event_index(frame.index_file)
        if len(index) != len(timestamps):
            raise DataError(f"{frame.index_file} has {len(index)} lines, {path} {len(timestamps)}: {MAKE_LISTS}")
        inside = index[index >= 0]
        if np.any(np.diff(inside) < 0):
            raise DataError(f"{frame.index_file} does not rise: {MAKE_LISTS}")
    return timestamps


def check_index_times(frames: Sequence[DSECFrame], timestamps: np.ndarray, all_frames: bool) -> None:
    """Check that the event of a frame is the last one at or before its image.

    Raises:
        DataError: naming the first frame of which this is not so.
    """
    step = 1 if all_frames else max(1, len(frames) // SAMPLED_FRAMES)
    path = frames[0].events_file
    try:
        with h5py.File(path, "r") as file:
            times, offset = file["events/t"], int(file["t_offset"][()])
            for frame in frames[::step]:
                if frame.frame >= len(timestamps):
                    raise DataError(f"{frame.sequence} frame {frame.frame} has no line in timestamps.txt")
                around = times[frame.event_index : frame.event_index + 2].astype(np.int64) + offset
                image = timestamps[frame.frame]
                if around[0] > image or (len(around) > 1 and around[1] <= image):
                    raise DataError(
                        f"{frame.sequence} frame {frame.frame}: event {frame.event_index} is at {around[0]} µs, the "
                        f"image at {image} µs"
                    )
    except H5_ERRORS as error:
        raise DataError(f"{path} cannot be read ({error})") from None


def read_events(task: EventTask) -> int:
    """Read events and check order of time, pixels and polarity.

    Returns:
        Number of events read.

    Raises:
        DataError: naming the file and the first event amiss.
    """
    try:
        with h5py.File(task.path, "r") as file:
            events = file["events"]
            # The event before, so that the order is checked across the borders of tasks.
            t = events["t"][max(0, task.start - 1) : task.stop].astype(np.int64)
            x, y, p = (events[key][task.start : task.stop] for key in ("x", "y", "p"))
    except H5_ERRORS as error:
        raise DataError(f"{task.path} cannot be read at events {task.start}..{task.stop - 1} ({error})") from None
    backward = np.flatnonzero(np.diff(t) < 0)
    if backward.size:
        where = max(0, task.start - 1) + int(backward[0]) + 1
        raise DataError(f"{task.path}: event {where:,} is earlier than the one before it")
    for name, bad in (("pixel", (x >= WIDTH) | (y >= HEIGHT)), ("polarity", p > 1)):
        if bad.any():
            raise DataError(f"{task.path}: event {task.start + int(bad.argmax()):,} has no possible {name}")
    return task.stop - task.start


def event_findings(outcomes: Sequence[tuple[EventTask, int | DataError]]) -> list[Finding]:
    """Findings about events that :func:`read_events` has read."""
    problems = {task.path: one_line(outcome) for task, outcome in outcomes if isinstance(outcome, DataError)}
    read = sum(outcome for _, outcome in outcomes if not isinstance(outcome, DataError))
    files = len({task.path for task, _ in outcomes})
    expected = "in order of time, on the sensor, p 0 or 1"
    finding = all_of("DSEC events: content", files, list(problems.values()), expected, DOWNLOAD)
    return [replace(finding, found=f"{finding.found} ({read:,} events)")]
