"""Checks of DSEC recordings: keys, order of times, indices, rectify map; in the deep mode, also every event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from mmseg.checks.findings import MAKE_LISTS, Finding, all_of, one_line
from mmseg.datasets.dsec_frames import DSECFrame, read_event_index, read_timestamps
from mmseg.errors import DataError
from mmseg.events.columns import brighter, check_order, faults_in, raw_pixels, whole_times
from mmseg.events.hdf5 import (
    INCOMPLETE,
    H5Fault,
    event_columns,
    h5_reading,
    millisecond_index,
    open_h5,
    read_rectify_map,
    time_offset,
)
from mmseg.events.recording import EVENT_FILE, HEIGHT, WIDTH

Result = TypeVar("Result")

DOWNLOAD = "download the events of the sequence again"
# Frames per sequence, evenly spread, whose event index is compared with the event times.
SAMPLED_FRAMES = 16
# Events that a process reads at once.
EVENTS_PER_TASK = 1 << 23


@dataclass(frozen=True)
class EventTask:
    """Events of a recording to read: ``start`` to ``stop``, exclusive."""

    path: Path
    start: int
    stop: int


def check_recordings(frames: Sequence[DSECFrame], deep: bool = False) -> tuple[list[Finding], list[EventTask]]:
    """Check the recordings that frames refer to, each sequence once.

    Args:
        frames: frames of all lists.
        deep: compare the event index of every frame with the event times, instead of a sample.

    Returns:
        Findings, and tasks that together read all events.
    """
    of_sequence: dict[Path, list[DSECFrame]] = {}
    for frame in frames:
        of_sequence.setdefault(frame.sequence_dir, []).append(frame)
    problems: dict[str, list[str]] = {"events.h5": [], "rectify_map.h5": [], "timestamps.txt": [], "index": []}
    tasks: list[EventTask] = []
    for own in of_sequence.values():
        length = _guard(problems["events.h5"], check_events_file, own)
        _guard(problems["rectify_map.h5"], read_rectify_map, own[0].rectify_map_file, (HEIGHT, WIDTH))
        timestamps = _guard(problems["timestamps.txt"], check_timestamps, own[0])
        if length and timestamps is not None:
            _guard(problems["index"], check_index_times, own, timestamps, deep)
        length = length or 0
        starts = range(0, length, EVENTS_PER_TASK)
        tasks += [EventTask(own[0].events_file, s, min(s + EVENTS_PER_TASK, length)) for s in starts]
    total = len(of_sequence)
    return [
        all_of("DSEC events.h5", total, problems["events.h5"], "with t, x, y, p, ms_to_idx, t_offset", DOWNLOAD),
        all_of("DSEC rectify_map.h5", total, problems["rectify_map.h5"], f"with ({HEIGHT}, {WIDTH}, 2)", DOWNLOAD),
        all_of(
            "DSEC timestamps.txt", total, problems["timestamps.txt"], "ascending", "download the image timestamps again"
        ),
        all_of("DSEC event index and event times", total, problems["index"], "consistent", MAKE_LISTS),
    ], tasks


def _guard(problems: list[str], check: Callable[..., Result], *arguments: object) -> Result | None:
    """Run a check; on a DataError, add it to the problems and return None."""
    try:
        return check(*arguments)
    except DataError as error:
        problems.append(one_line(error))
        return None


def check_events_file(frames: Sequence[DSECFrame]) -> int:
    """Check keys, lengths, end times and millisecond index of a recording, and that its frames lie inside.

    Returns:
        Number of events.

    Raises:
        DataError: naming the file and the fault.
    """
    path = frames[0].events_file
    with h5_reading(path, EVENT_FILE), open_h5(path) as file:
        columns = event_columns(file)
        length = len(columns["t"])
        if not length:
            raise H5Fault("it holds no events", INCOMPLETE)
        with faults_in(f"{path} holds", DOWNLOAD):
            first, last = (int(whole_times(columns["t"][i : i + 1])[0]) for i in (0, length - 1))
        if "ms_to_idx" not in file:
            raise H5Fault("it has no ms_to_idx", INCOMPLETE)
        milliseconds = millisecond_index(file)
        time_offset(file)
    if first > last:
        raise DataError(f"{path}: the last event ({last} µs) is earlier than the first ({first} µs)")
    if np.any(milliseconds[1:] < milliseconds[:-1]) or (
        milliseconds.size and not 0 <= int(milliseconds[0]) <= int(milliseconds[-1]) <= length
    ):
        raise DataError(f"{path}: ms_to_idx does not ascend within 0 and the number of events")
    outside = [frame.frame for frame in frames if frame.event_index >= length]
    if outside:
        raise DataError(
            f"{path} holds {length:,} events; the event index of frame {outside[0]} is larger: {MAKE_LISTS}"
        )
    return length


def check_timestamps(frame: DSECFrame) -> np.ndarray:
    """Check that the image times of a sequence ascend and are as many as its event indices.

    Returns:
        (number of images,) int64, µs.

    Raises:
        DataError: naming the file and the fault.
    """
    path = frame.sequence_dir / "images" / "timestamps.txt"
    timestamps = read_timestamps(path)
    still = np.flatnonzero(np.diff(timestamps) == 0)
    if still.size:
        raise DataError(f"{path}, line {int(still[0]) + 2}: this timestamp repeats the one before")
    if frame.index_file.is_file():
        index = read_event_index(frame.index_file)
        if len(index) != len(timestamps):
            raise DataError(f"{frame.index_file} has {len(index)} lines, {path} {len(timestamps)}: {MAKE_LISTS}")
        inside = index[index >= 0]
        if np.any(np.diff(inside) < 0):
            raise DataError(f"{frame.index_file} does not ascend: {MAKE_LISTS}")
    return timestamps


def check_index_times(frames: Sequence[DSECFrame], timestamps: np.ndarray, all_frames: bool) -> None:
    """Check that the event of a frame is the last one at or before its image.

    Raises:
        DataError: naming the first frame for which it is not.
    """
    step = 1 if all_frames else max(1, len(frames) // SAMPLED_FRAMES)
    path = frames[0].events_file
    with h5_reading(path, EVENT_FILE), open_h5(path) as file, faults_in(f"{path} holds", DOWNLOAD):
        times, offset = event_columns(file)["t"], time_offset(file)
        for frame in frames[::step]:
            if frame.frame >= len(timestamps):
                raise DataError(f"{frame.sequence} frame {frame.frame} has no line in timestamps.txt")
            around = whole_times(times[frame.event_index : frame.event_index + 2]) + offset
            image = timestamps[frame.frame]
            if around[0] > image or (len(around) > 1 and around[1] <= image):
                raise DataError(
                    f"{frame.sequence} frame {frame.frame}: event {frame.event_index} is at {around[0]} µs, the "
                    f"image at {image} µs"
                )


def read_events(task: EventTask) -> int:
    """Read events, with the checks of a training.

    Returns:
        Number of events read.

    Raises:
        DataError: naming the file and the first bad event.
    """
    # Include the event before, so that the order is checked across tasks.
    before = max(0, task.start - 1)
    with h5_reading(task.path, EVENT_FILE, f"events {task.start}..{task.stop - 1}"), open_h5(task.path) as file:
        columns = event_columns(file)
        t = columns["t"][before : task.stop]
        x, y, p = (columns[key][task.start : task.stop] for key in ("x", "y", "p"))
    with faults_in(f"{task.path} holds", DOWNLOAD, before):
        check_order(whole_times(t))
    with faults_in(f"{task.path} holds", DOWNLOAD, task.start):
        raw_pixels(x, y, (HEIGHT, WIDTH))
        brighter(p)
    return task.stop - task.start


def event_findings(outcomes: Sequence[tuple[EventTask, int | DataError]]) -> list[Finding]:
    """Findings from the outcomes of :func:`read_events`."""
    problems = {task.path: one_line(outcome) for task, outcome in outcomes if isinstance(outcome, DataError)}
    read = sum(outcome for _, outcome in outcomes if not isinstance(outcome, DataError))
    files = len({task.path for task, _ in outcomes})
    expected = "in order of time, on the sensor, p a number"
    finding = all_of("DSEC events: content", files, list(problems.values()), expected, DOWNLOAD)
    return [replace(finding, found=f"{finding.found} ({read:,} events)")]
