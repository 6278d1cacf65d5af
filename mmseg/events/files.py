"""Event recordings of one's own: several file formats, and the events that end with an image.

Windows are those of :mod:`mmseg.datasets.dsec_night`: from the last event at or before their start to the last one at
or before the image.
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
from mmseg.events.hdf5 import read_rectify_map
from mmseg.events.recording import HEIGHT, WIDTH, EventRecording, Events
from mmseg.events.tables import CAMERA_SUFFIXES, TABLE_SUFFIXES, read_event_table

# Time between two images of DSEC (20 a second), in µs: the window of the published training.
FRAME_TIME = 50_000
# An image before is the start of the window where it lies within this share of the usual time.
FRAME_TIME_TOLERANCE = 0.1
DSEC_SUFFIXES = (".h5", ".hdf5")
EVENT_SUFFIXES = (*DSEC_SUFFIXES, *TABLE_SUFFIXES, *CAMERA_SUFFIXES)
# The size of a sensor is not known where a file does not say it; raw pixels have 16 bits.
_ANY_SIZE = (1 << 16, 1 << 16)


@dataclass(frozen=True)
class FrameEvents(Events):
    """Events that end with an image.

    Attributes:
        size: (height, width) of the frame that x and y are in; None for that of the image.
        rectified: a map has put them there, so that an image of another size may show the same view.
    """

    size: tuple[int, int] | None = None
    rectified: bool = False


class EventSource(Protocol):
    """Events of a file by their numbers, which ascend with time."""

    path: Path

    def index(self, times: Sequence[int]) -> np.ndarray:
        """Number of the last event at or before each time (µs on the clock of the file); -1 outside the recording."""

    def duration(self, start: int, finish: int) -> int:
        """Time between two events, in µs."""

    def events(self, start: int, finish: int) -> FrameEvents:
        """Events from ``start`` to ``finish``, both included."""


class DSECEvents:
    """Events of a file in DSEC's format, read as they are needed.

    Args:
        path: HDF5 file with ``events/{t,x,y,p}`` and ``t_offset``.
        rectify_map: HDF5 file with the map to rectified positions; None leaves events on their pixels.
        size: (height, width) of the sensor.
    """

    def __init__(self, path: Path, rectify_map: Path | None, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
        self.path, self.size = path, size
        self._rectified = rectify_map is not None
        self._recording = EventRecording(path, rectify_map, size)
        self._recording.rectify_map  # noqa: B018  a bad map shall show now
        self._lock = threading.Lock()

    def index(self, times: Sequence[int]) -> np.ndarray:
        """See :class:`EventSource`."""
        return image_event_index(self.path, times)

    def duration(self, start: int, finish: int) -> int:
        """See :class:`EventSource`."""
        with self._lock:
            return self._recording.duration(start, finish)

    def events(self, start: int, finish: int) -> FrameEvents:
        """See :class:`EventSource`."""
        with self._lock:
            found = self._recording.window(start, finish)
        return FrameEvents(found.t, found.x, found.y, found.p, self.size, self._rectified)


class ArrayEvents:
    """Events of a file that was read whole. They pass the checks of :mod:`mmseg.events.columns`, as DSEC's do.

    Args:
        path: the file, for messages.
        columns: ``t`` (µs), ``x``, ``y`` (pixels) and ``p`` (above 0 for brighter), each (N,).
        size: (height, width) of the frame of x and y; None for that of the images.
        rectify_map: HDF5 file with the map to rectified positions, of ``sensor``; x and y are its pixels then.
        sensor: (height, width) of the rectify map.

    Raises:
        DataError: no events, columns of several lengths or of other types than numbers, times that are not whole or
            not in order, pixels outside their frame, or positions or polarities that are not numbers.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, np.ndarray],
        size: tuple[int, int] | None = None,
        rectify_map: Path | None = None,
        sensor: tuple[int, int] = (HEIGHT, WIDTH),
    ) -> None:
        self.path, self.size = path, size
        self._rectified = rectify_map is not None
        t, x, y, p = (np.asarray(columns[key]) for key in KEYS)
        with faults_in(f"{path} holds", "t, x, y and p must be columns of one length, of at least one event"):
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
            remedy = "these are the pixels of the rectify map; leave it out if positions are rectified already"
            with faults_in(f"{path} holds", remedy):
                if size not in (None, sensor):
                    raise EventFault(f"events of {size[1]}x{size[0]} pixels, the map {sensor[1]}x{sensor[0]}")
                column, row = raw_pixels(x, y, sensor)
            self._x, self._y = read_rectify_map(rectify_map, sensor)[row, column].T
            self.size = sensor
            return
        with faults_in(f"{path} holds", "give the pixels of the sensor, from 0 on, or positions in pixels"):
            self._x, self._y = positions(x, y)
            if size is not None:
                check_size(*size)
            if _are_pixels(x) and _are_pixels(y):
                raw_pixels(x, y, size or _ANY_SIZE)

    def index(self, times: Sequence[int]) -> np.ndarray:
        """See :class:`EventSource`."""
        # no event lies beyond these, and 64 bits do not hold every whole number
        times = np.array([min(max(int(time), -LATEST_TIME), LATEST_TIME) for time in times], np.int64)
        last = np.searchsorted(self._t, times, side="right") - 1
        return np.where(times <= self._t[-1], last, -1)

    def duration(self, start: int, finish: int) -> int:
        """See :class:`EventSource`."""
        return int(self._t[finish] - self._t[start])

    def events(self, start: int, finish: int) -> FrameEvents:
        """See :class:`EventSource`."""
        part = slice(start, finish + 1)
        columns = (column[part] for column in (self._t, self._x, self._y, self._p))
        return FrameEvents(*columns, self.size, self._rectified)


def _are_pixels(values: np.ndarray) -> bool:
    """Whether positions are pixels of a sensor: rectified ones lie between them."""
    return values.dtype.kind != "f" or bool((np.floor(values) == values).all())


def open_events(path: str | Path, rectify_map: str | Path | None = None) -> EventSource:
    """Open an event recording.

    ``.h5``: DSEC's format. ``.npz``: arrays ``t`` (µs), ``x``, ``y``, ``p`` and, if known, ``height`` and ``width``.
    ``.csv``, ``.txt``: the same four columns between commas, semicolons or spaces; a first line of names, also one
    behind ``#``, says their order. ``.raw`` (EVT2, EVT3) and ``.dat`` of Prophesee's cameras, ``.aedat4`` of
    iniVation's: by the package ``faery``. All but the first are read whole.

    Args:
        path: the recording.
        rectify_map: HDF5 file with ``rectify_map`` (480, 640, 2): rectified x and y of every pixel, as of DSEC.

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
        return DSECEvents(path, rectify_map)
    if suffix not in EVENT_SUFFIXES:
        raise DataError(f"{path} is no event recording by its name; known: {', '.join(EVENT_SUFFIXES)}")
    columns, size = read_event_table(path)
    return ArrayEvents(path, columns, size, rectify_map)


def usable_events(events: Events) -> Events:
    """Events of a window, from anywhere, in the types that a voxel grid is made of.

    Raises:
        DataError: they are not columns of one length, not in order of time, not numbers, or all at one time.
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
        raise DataError(f"{len(t)} events at one time make no voxel grid; give None in their place")
    return replace(events, t=t, x=x, y=y, p=p)


def find_windows(
    source: EventSource,
    times: Sequence[int],
    earlier: Sequence[int | None],
    frames: int = 1,
    window: int | None = None,
    number: int = 0,
) -> list[tuple[int, int] | None]:
    """First and last event of every image; None where the recording has none for it, or not the whole window.

    Args:
        source: the recording.
        times: of the images, in µs on the clock of the recording.
        earlier: time of the image that lies ``frames`` before each; None where there is none.
        frames: images a window spans.
        window: length in µs. None: since the earlier image where that is 50 ms a frame before, give or take a tenth,
            else 50 ms a frame.
        number: events a window holds, in place of a length; 0 for the length.
    """
    last = source.index(times)
    if number:
        first = last - number + 1
    else:
        usual = FRAME_TIME * frames
        starts = []
        for time, before in zip(times, earlier, strict=True):
            near = before is not None and abs(time - before - usual) <= FRAME_TIME_TOLERANCE * usual
            starts.append(time - window if window else before if near else time - usual)
        first = source.index(starts)
    windows = []
    for start, finish in zip(first.tolist(), last.tolist(), strict=True):
        lasts = 0 <= start < finish and source.duration(start, finish) > 0
        windows.append((start, finish) if lasts else None)
    return windows
