"""Event recordings of one's own: several file formats, and the events that end with an image.

Windows are those of :mod:`mmseg.datasets.dsec_night`: from the last event at or before their start to the last one at
or before the image.
"""

from __future__ import annotations

import csv
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from mmseg.datasets.dsec_lists import image_event_index
from mmseg.errors import DataError
from mmseg.events.recording import HEIGHT, WIDTH, EventRecording, Events

# Time between two images of DSEC (20 a second), in µs: the window of the published training.
FRAME_TIME = 50_000
# An image before is the start of the window where it lies within this share of the usual time.
FRAME_TIME_TOLERANCE = 0.1
COLUMNS = ("t", "x", "y", "p")
DSEC_SUFFIXES = (".h5", ".hdf5")
CAMERA_SUFFIXES = (".raw", ".dat", ".aedat4")
EVENT_SUFFIXES = (*DSEC_SUFFIXES, ".npz", ".csv", ".txt", *CAMERA_SUFFIXES)
# What faery answers, told so, where a file does not say its size.
_NO_SIZE = (65535, 65535)


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
    """Events of a file in DSEC's format, read as they are needed; the sensor has 640x480 pixels.

    Args:
        path: HDF5 file with ``events/{t,x,y,p}`` and ``t_offset``.
        rectify_map: HDF5 file with the map to rectified positions; None leaves events on their pixels.
    """

    def __init__(self, path: Path, rectify_map: Path | None) -> None:
        self.path = path
        self._rectified = rectify_map is not None
        self._recording = EventRecording(path, rectify_map) if rectify_map else _PlainRecording(path, path)
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
        return FrameEvents(found.t, found.x, found.y, found.p, (HEIGHT, WIDTH), self._rectified)


class _PlainRecording(EventRecording):
    """Recording whose events stay on their pixels."""

    @cached_property
    def rectify_map(self) -> np.ndarray:
        """(480, 640, 2) float32: x and y of every pixel."""
        return np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).astype(np.float32)


class ArrayEvents:
    """Events of a file that was read whole.

    Args:
        path: the file, for messages.
        columns: ``t`` (µs), ``x``, ``y`` (pixels) and ``p`` (above 0 for brighter), each (N,).
        size: (height, width) of the frame of x and y; None for that of the images.
        rectify_map: as for :class:`DSECEvents`; x and y are whole numbers on its 640x480 pixels then.

    Raises:
        DataError: no events, columns of several lengths, times that are not whole or not in order, or positions
            outside the rectify map.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, np.ndarray],
        size: tuple[int, int] | None = None,
        rectify_map: Path | None = None,
    ) -> None:
        self.path, self.size = path, size
        t, x, y, p = (np.asarray(columns[key]) for key in COLUMNS)
        if t.ndim != 1 or len({len(column) for column in (t, x, y, p)}) != 1 or not len(t):
            raise DataError(f"{path}: t, x, y and p must be columns of one length, of at least one event")
        self._t = t.astype(np.int64)
        if not np.array_equal(self._t, t):
            raise DataError(f"{path}: t holds {t[self._t != t][0]}; give whole microseconds")
        if (np.diff(self._t) < 0).any():
            raise DataError(f"{path}: the events are not in order of time; sort them by t")
        self._x, self._y, self._p = x.astype(np.float32), y.astype(np.float32), (p > 0).astype(np.uint8)
        self._rectified = rectify_map is not None
        if rectify_map is not None:
            self._rectify(EventRecording(path, rectify_map).rectify_map)

    def _rectify(self, rectify_map: np.ndarray) -> None:
        column, row = self._x.astype(np.int64), self._y.astype(np.int64)
        inside = (column == self._x) & (row == self._y)
        inside &= (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
        if not inside.all():
            first = int(np.argmin(inside))
            raise DataError(
                f"{self.path}: event {first} at x={self._x[first]:g}, y={self._y[first]:g} is none of the "
                f"{WIDTH}x{HEIGHT} pixels of the rectify map; leave the map out if positions are rectified already"
            )
        self._x, self._y = rectify_map[row, column].T
        self.size = (HEIGHT, WIDTH)

    def index(self, times: Sequence[int]) -> np.ndarray:
        """See :class:`EventSource`."""
        times = np.asarray(times, np.int64)
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


def open_events(path: str | Path, rectify_map: str | Path | None = None) -> EventSource:
    """Open an event recording.

    ``.h5``: DSEC's format. ``.npz``: arrays ``t`` (µs), ``x``, ``y``, ``p`` and, if known, ``height`` and ``width``.
    ``.csv``, ``.txt``: the same four columns between commas; a first line of names says their order. ``.raw`` (EVT2,
    EVT3) and ``.dat`` of Prophesee's cameras, ``.aedat4`` of iniVation's: by the package ``faery``. All but the first
    are read whole.

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
    size = None
    if suffix == ".npz":
        columns, size = _read_npz(path)
    elif suffix in (".csv", ".txt"):
        columns = _read_csv(path)
    elif suffix in CAMERA_SUFFIXES:
        columns, size = _read_camera_file(path)
    else:
        raise DataError(f"{path} is no event recording by its name; known: {', '.join(EVENT_SUFFIXES)}")
    return ArrayEvents(path, columns, size, rectify_map)


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], tuple[int, int] | None]:
    """Columns, and (height, width) where the file has them."""
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in COLUMNS if key not in file]
            if missing:
                raise DataError(f"{path} holds no {', '.join(missing)}; it needs the arrays {', '.join(COLUMNS)}")
            size = (int(file["height"]), int(file["width"])) if {"height", "width"} <= set(file) else None
            return {key: file[key] for key in COLUMNS}, size
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a readable .npz of numbers ({error})") from error


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    remedy = "give lines t,x,y,p: microseconds, pixels, polarity"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next(csv.reader(file), [])
        names = [name.strip().lower() for name in first]
        has_names = set(COLUMNS) <= set(names)
        wanted = [names.index(key) for key in COLUMNS] if has_names else list(range(len(COLUMNS)))
        # 64-bit floats hold every whole microsecond of 285 years.
        table = np.loadtxt(path, np.float64, delimiter=",", skiprows=int(has_names), usecols=wanted, ndmin=2)
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise DataError(f"{path} is not a readable table of events ({error}); {remedy}") from error
    return dict(zip(COLUMNS, table.T, strict=True))


def _read_camera_file(path: Path) -> tuple[dict[str, np.ndarray], tuple[int, int] | None]:
    """Columns, and (height, width) where the file says it."""
    try:
        import faery
    except ImportError as error:
        raise DataError(
            f"reading {path} needs the package faery, which is not there ({error}); 'pip install faery', or convert "
            "the recording to .npz or .csv"
        ) from error
    with path.open("rb") as file:
        start = file.read(1)
    # Without a header faery takes whatever it finds for events.
    if path.suffix.lower() != ".aedat4" and start != b"%":
        raise DataError(f"{path} does not start with a header as Prophesee's files do; export it again")
    try:
        stream = faery.events_stream_from_file(path, dimensions_fallback=_NO_SIZE)
        width, height = stream.dimensions()
        found = stream.to_array()
    except Exception as error:  # faery raises bare exceptions
        raise DataError(f"{path} is not a recording that faery reads ({error})") from error
    size = None if (width, height) == _NO_SIZE else (height, width)
    return {"t": found["t"], "x": found["x"], "y": found["y"], "p": found["on"]}, size


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
