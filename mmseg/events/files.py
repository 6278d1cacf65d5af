"""Custom event recordings in several file formats, and the events that end with an image.

Windows are as in :mod:`mmseg.datasets.dsec_night`: from the last event at or before their start to the last one at or
before the image.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from mmseg.errors import DataError
from mmseg.events.columns import (
    KEYS,
    LATEST_TIME,
    EventFault,
    brighter,
    check_lengths,
    check_order,
    check_size,
    faults_in,
    positions,
    raw_pixels,
    whole_times,
)
from mmseg.events.event_index import image_event_index
from mmseg.events.hdf5 import read_rectify_map, rectify_map_size
from mmseg.events.recording import HEIGHT, WIDTH, EventRecording, Events
from mmseg.events.tables import CAMERA_SUFFIXES, TABLE_SUFFIXES, read_event_table

# Time between two images of DSEC (20 a second), in µs: the window of the published training.
FRAME_TIME = 50_000
# An earlier image starts the window if it deviates from the usual time by at most this fraction of it.
FRAME_TIME_TOLERANCE = 0.1
DSEC_SUFFIXES = (".h5", ".hdf5")
EVENT_SUFFIXES = (*DSEC_SUFFIXES, *TABLE_SUFFIXES, *CAMERA_SUFFIXES)
# For a sensor of unknown size; raw pixels have 16 bits.
_ANY_SIZE = (1 << 16, 1 << 16)


@dataclass(frozen=True)
class FrameEvents(Events):
    """Events that end with an image.

    Attributes:
        size: (height, width) of the frame of x and y; None for that of the image.
        rectified: a map gave the positions, so that an image of another size may show the same view.
    """

    size: tuple[int, int] | None = None
    rectified: bool = False


class EventSource(Protocol):
    """Events of a file by their indices, which ascend with time."""

    path: Path

    def __len__(self) -> int:
        """Number of events."""

    def index(self, times: Sequence[int]) -> np.ndarray:
        """Index of the last event at or before each time (µs on the clock of the file); -1 outside the recording."""

    def duration(self, start: int, finish: int) -> int:
        """Time between two events, in µs."""

    def events(self, start: int, finish: int) -> FrameEvents:
        """Events from ``start`` to ``finish``, inclusive."""


class DSECEvents:
    """Events of a file in DSEC's format, read on demand.

    Args:
        path: HDF5 file with ``events/{t,x,y,p}`` and ``t_offset``, which is 0 if it is missing, but not the size of its
            sensor.
        rectify_map: HDF5 file with the map to rectified positions; None keeps events on their pixels.
        size: (height, width) of the sensor. None takes that of the rectify map. Without a map, events that fit into
            DSEC's frame have that size, and others that of their image.
    """

    def __init__(self, path: Path, rectify_map: Path | None, size: tuple[int, int] | None = None) -> None:
        self.path = path
        self.size = rectify_map_size(rectify_map) if rectify_map is not None and size is None else size
        self._rectified = rectify_map is not None
        self._recording = EventRecording(path, rectify_map, self.size or _ANY_SIZE)
        if self._rectified:
            self._recording.rectify_map  # noqa: B018  report a bad map now
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """See :class:`EventSource`."""
        with self._lock:
            return len(self._recording)

    def index(self, times: Sequence[int]) -> np.ndarray:
        """See :class:`EventSource`."""
        return image_event_index(self.path, times, missing_offset=0)

    def duration(self, start: int, finish: int) -> int:
        """See :class:`EventSource`."""
        with self._lock:
            return self._recording.duration(start, finish)

    def events(self, start: int, finish: int) -> FrameEvents:
        """See :class:`EventSource`."""
        with self._lock:
            if self._rectified:
                found = self._recording.window(start, finish)
                return FrameEvents(found.t, found.x, found.y, found.p, self.size, rectified=True)
            t, x, y, p = self._recording.raw_window(start, finish)
        size = self.size
        if size is None and x.max() < WIDTH and y.max() < HEIGHT:
            size = (HEIGHT, WIDTH)
        return FrameEvents(t, x.astype(np.float32), y.astype(np.float32), p, size)


class ArrayEvents:
    """Events of a file read completely, with the same checks as those of DSEC (:mod:`mmseg.events.columns`).

    Args:
        path: the file, for messages.
        columns: ``t`` (µs), ``x``, ``y`` (pixels) and ``p`` (above 0 for brighter), each (N,).
        size: (height, width) of the frame of x and y; None for that of the images.
        rectify_map: HDF5 file with the map from pixels of ``sensor`` to rectified positions; x and y are these pixels.
        sensor: (height, width) of the sensor; None if ``size`` or the rectify map says it.

    Raises:
        DataError: no events, columns of different lengths or not of numbers, times that are not whole or not in order,
            pixels outside their frame, or positions or polarities that are not numbers.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, np.ndarray],
        size: tuple[int, int] | None = None,
        rectify_map: Path | None = None,
        sensor: tuple[int, int] | None = None,
    ) -> None:
        self.path = path
        self.size = size = _one_size(path, size, sensor)
        self._rectified = rectify_map is not None
        t, x, y, p = (np.asarray(columns[key]) for key in KEYS)
        with faults_in(f"{path} holds", "t, x, y and p must be columns of the same length, with at least one event"):
            if {column.ndim for column in (t, x, y, p)} != {1} or not len(t):
                raise EventFault(f"no events, but arrays of {', '.join(str(a.shape) for a in (t, x, y, p))}")
            check_lengths({"t": t, "x": x, "y": y, "p": p})
        with faults_in(f"{path} holds", "give whole microseconds"):
            self._t = whole_times(t)
        with faults_in(f"{path} holds", "sort the events by t"):
            check_order(self._t)
        with faults_in(f"{path} holds", "give 0 for darker and 1 for brighter"):
            self._p = brighter(p)
        if rectify_map is not None:
            remedy = "they must be pixels of the rectify map; omit it if positions are already rectified"
            with faults_in(f"{path} holds", remedy):
                of_map = rectify_map_size(rectify_map)
                if size is not None and size != of_map:
                    raise EventFault(f"events of {size[1]}x{size[0]} pixels, the map {of_map[1]}x{of_map[0]}")
                column, row = raw_pixels(x, y, of_map)
            self._x, self._y = read_rectify_map(rectify_map, of_map)[row, column].T
            self.size = of_map
            return
        with faults_in(f"{path} holds", "give pixels of the sensor, from 0, or positions in pixels"):
            self._x, self._y = positions(x, y)
            if size is not None:
                check_size(*size)
            if _are_pixels(x) and _are_pixels(y):
                raw_pixels(x, y, size or _ANY_SIZE)

    def __len__(self) -> int:
        """See :class:`EventSource`."""
        return len(self._t)

    def index(self, times: Sequence[int]) -> np.ndarray:
        """See :class:`EventSource`."""
        # No event lies beyond the limits, and an arbitrary integer may not fit into 64 bits.
        limited = np.array([min(max(int(time), -LATEST_TIME), LATEST_TIME) for time in times], np.int64)
        last = np.searchsorted(self._t, limited, side="right") - 1
        return np.where(limited <= self._t[-1], last, -1)

    def duration(self, start: int, finish: int) -> int:
        """See :class:`EventSource`."""
        return int(self._t[finish] - self._t[start])

    def events(self, start: int, finish: int) -> FrameEvents:
        """See :class:`EventSource`."""
        part = slice(start, finish + 1)
        return FrameEvents(self._t[part], self._x[part], self._y[part], self._p[part], self.size, self._rectified)


def _are_pixels(values: np.ndarray) -> bool:
    """Whether all positions are whole pixels; rectified ones are not."""
    return values.dtype.kind != "f" or bool((np.floor(values) == values).all())


def _one_size(path: Path, found: tuple[int, int] | None, given: tuple[int, int] | None) -> tuple[int, int] | None:
    """(height, width) of a sensor that a recording and the user may both state."""
    if found and given and found != given:
        raise DataError(
            f"{path} is of a sensor of {found[1]}x{found[0]} pixels, not {given[1]}x{given[0]}; leave the sensor's "
            "size out"
        )
    return found or given


def open_events(
    path: str | Path, rectify_map: str | Path | None = None, sensor: tuple[int, int] | None = None
) -> EventSource:
    """Open an event recording.

    ``.h5``: DSEC's format. ``.npz``: arrays ``t`` (µs), ``x``, ``y``, ``p`` and, if known, ``height`` and ``width``.
    ``.csv``, ``.txt``: the same four columns separated by commas, semicolons or spaces; a first line of names, which
    may start with ``#``, gives their order. ``.raw`` (EVT2, EVT3) and ``.dat`` of Prophesee cameras, ``.aedat4`` of
    iniVation cameras: read with the package ``faery``. All but the first are read completely.

    Args:
        path: the recording.
        rectify_map: HDF5 file with ``rectify_map`` (height, width, 2): rectified x and y of every pixel, as in DSEC.
        sensor: (height, width) of the event camera; None takes it from the files, see :class:`DSECEvents`.

    Raises:
        DataError: a missing or damaged file, or another format.
    """
    path = Path(path)
    rectify_map = Path(rectify_map) if rectify_map is not None else None
    for file, what in ((path, "event recording"), (rectify_map, "rectify map")):
        if file is not None and not file.is_file():
            raise DataError(f"{what} {file} does not exist")
    suffix = path.suffix.lower()
    if suffix in DSEC_SUFFIXES:
        return DSECEvents(path, rectify_map, sensor)
    if suffix not in EVENT_SUFFIXES:
        raise DataError(f"{path} does not have the suffix of an event recording; known: {', '.join(EVENT_SUFFIXES)}")
    columns, size = read_event_table(path)
    return ArrayEvents(path, columns, size, rectify_map, sensor)


def usable_events(events: Events) -> Events:
    """Check the events of a window from any source, and convert them to the types that a voxel grid needs.

    Raises:
        DataError: they are not columns of the same length, not in order, not numbers, or all at the same time.
    """
    columns = {key: np.asarray(getattr(events, key)) for key in KEYS}
    with faults_in("the window holds", "give t in whole µs and in order, x and y in pixels, p above 0 for brighter"):
        t, p = whole_times(columns["t"]), brighter(columns["p"])
        x, y = positions(columns["x"], columns["y"])
        check_lengths(columns)
        check_order(t)
        if isinstance(events, FrameEvents) and events.size is not None:
            check_size(*events.size)
    if len(t) < 2 or t[0] == t[-1]:
        raise DataError(f"{len(t)} events at the same time make no voxel grid; give None instead")
    return replace(events, t=t, x=x, y=y, p=p)


def find_windows(
    source: EventSource,
    times: Sequence[int],
    earlier: Sequence[int | None],
    frames: int = 1,
    window: int | None = None,
    number: int = 0,
) -> list[tuple[int, int] | None]:
    """First and last event of every image; None if the recording does not cover its whole window.

    Args:
        source: the recording.
        times: of the images, in µs on the clock of the recording.
        earlier: time of the image that lies ``frames`` before each; None if there is none.
        frames: images that a window spans.
        window: length in µs. None: since the earlier image if that is 50 ms per frame before, plus or minus a tenth,
            else 50 ms per frame.
        number: events per window, instead of a length; 0 for the length.
    """
    last = source.index(times)
    if number:
        first = last - number + 1
    else:
        usual = FRAME_TIME * frames
        first = source.index([_start(time, before, usual, window) for time, before in zip(times, earlier, strict=True)])
    windows: list[tuple[int, int] | None] = []
    for start, finish in zip(first.tolist(), last.tolist(), strict=True):
        lasts = 0 <= start < finish and source.duration(start, finish) > 0
        windows.append((start, finish) if lasts else None)
    return windows


def _start(time: int, before: int | None, usual: int, window: int | None) -> int:
    """Start of the window of an image, see :func:`find_windows`."""
    if window:
        return time - window
    near = before is not None and abs(time - before - usual) <= FRAME_TIME_TOLERANCE * usual
    return before if before is not None and near else time - usual
