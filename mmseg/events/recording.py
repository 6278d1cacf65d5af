"""Reader of DSEC event recordings (Gehrig et al., RA-L 2021)."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from mmseg.errors import DataError
from mmseg.events.columns import (
    brighter,
    check_count,
    check_order,
    faults_in,
    raw_pixels,
    whole_times,
)
from mmseg.events.hdf5 import event_columns, h5_reading, open_h5, read_rectify_map
from mmseg.events.voxel_grid import normalized_time, rectified_voxel_grid

HEIGHT, WIDTH = 480, 640
EVENT_FILE = "DSEC event file"
REMEDY = "download the file again, or rewrite it with a single clock, pixels of its sensor and polarity 0 and 1"


@dataclass(frozen=True)
class Events:
    """Events of a window, in order of time.

    Attributes:
        t: (N,) int64, µs since the start of the recording.
        x, y: (N,) float32, rectified pixel positions; they may lie outside the frame.
        p: (N,) uint8 polarity, 1 for brighter, 0 for darker.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray


class EventRecording:
    """Events of one sequence, rectified. The file is opened on first use and stays open, once per process.

    Columns may have any numeric type, see :mod:`mmseg.events.columns`; everything read is checked.

    Args:
        events_file: ``events.h5`` with ``events/{t,x,y,p}``.
        rectify_map_file: ``rectify_map.h5`` with ``rectify_map`` (height, width, 2): x and y of every raw pixel; None
            keeps events on their pixels.
        size: (height, width) of the sensor.
    """

    def __init__(
        self,
        events_file: str | Path,
        rectify_map_file: str | Path | None,
        size: tuple[int, int] = (HEIGHT, WIDTH),
    ) -> None:
        self.events_file = Path(events_file)
        self.rectify_map_file = Path(rectify_map_file) if rectify_map_file is not None else None
        self.size = size
        self._handle: tuple[int, h5py.File, dict[str, h5py.Dataset]] | None = None
        self._times: dict[int, int] = {}
        self._in_order: set[tuple[int, int]] = set()

    def __getstate__(self) -> dict:
        # An open file cannot be pickled.
        return {**self.__dict__, "_handle": None}

    def _columns(self) -> dict[str, h5py.Dataset]:
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), *self._open())
        return self._handle[2]

    def _open(self) -> tuple[h5py.File, dict[str, h5py.Dataset]]:
        """Open the file and check its columns."""
        with h5_reading(self.events_file, EVENT_FILE):
            file = open_h5(self.events_file)
            try:
                return file, event_columns(file)
            except BaseException:
                file.close()
                raise

    def close(self) -> None:
        """Close the file; the next use reopens it.

        Call it before forking: the processes would share the open file, and its position, with this one.
        """
        if self._handle is not None and self._handle[0] == os.getpid():
            self._handle[1].close()
        self._handle = None

    def __len__(self) -> int:
        """Number of events of the file."""
        return len(self._columns()["t"])

    @cached_property
    def rectify_map(self) -> np.ndarray:
        """(height, width, 2) float32: rectified (x, y) of every raw pixel."""
        if self.rectify_map_file is None:
            height, width = self.size
            return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
        return read_rectify_map(self.rectify_map_file, self.size)

    def duration(self, start: int, finish: int) -> int:
        """Time between two events in µs, 0 <= start <= finish.

        Raises:
            DataError: the file is damaged, ends before ``finish``, or ``finish`` is earlier than ``start``.
        """
        first, last = (self._time(index) for index in (start, finish))
        if last < first:
            raise DataError(
                f"events {start}..{finish} of {self.events_file} hold times that are not in order (the last is at "
                f"{last} µs, the first at {first} µs); {REMEDY}"
            )
        return last - first

    def _time(self, index: int) -> int:
        # Windows of consecutive frames share their ends.
        if index not in self._times:
            self._times[index] = int(self._checked_times(index, index)[0])
        return self._times[index]

    def _checked_times(self, start: int, finish: int) -> np.ndarray:
        """Times of a window, (N,) int64, µs, in order."""
        (t,) = self._read(start, finish, ("t",))
        with self._faults(start, finish):
            times = whole_times(t)
            check_order(times)
        self._in_order.add((start, finish))
        return times

    def _check_order(self, start: int, finish: int) -> None:
        """Check the times of a window that is read without them, the first time that it is read."""
        if (start, finish) not in self._in_order:
            self._checked_times(start, finish)

    def _pixels(self, start: int, finish: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Raw columns and rows (N,) uint16 and polarity (N,) uint8 of a window."""
        x, y, p = self._read(start, finish, ("x", "y", "p"))
        with self._faults(start, finish):
            return *raw_pixels(x, y, self.size), brighter(p)

    def _faults(self, start: int, finish: int) -> AbstractContextManager[None]:
        return faults_in(f"events {start}..{finish} of {self.events_file} hold", REMEDY, start)

    def window(self, start: int, finish: int) -> Events:
        """Events from index ``start`` to ``finish``, both included.

        Raises:
            DataError: the file is damaged or too short, or has times out of order, pixels outside the sensor, or
                values that are not numbers.
        """
        t, x, y, p = self.raw_window(start, finish)
        position = self.rectify_map[y, x]
        return Events(t, position[:, 0], position[:, 1], p)

    def raw_window(self, start: int, finish: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Times (N,) int64 in µs, raw columns and rows (N,) uint16, and polarity (N,) uint8 of a window.

        Raises:
            DataError: as in :meth:`window`.
        """
        return self._checked_times(start, finish), *self._pixels(start, finish)

    def voxel_grid(self, start: int, finish: int, bins: int) -> np.ndarray:
        """Voxel grid (bins, height, width) float32 of the events from ``start`` to ``finish``, both included.

        With one bin it does not depend on their times, which are only read once to check their order.

        Raises:
            DataError: as in :meth:`window`; or all events have the same timestamp.
        """
        if self.duration(start, finish) == 0:
            where = f"events {start}..{finish} of {self.events_file}"
            raise DataError(f"all {where} have the same timestamp; remove the frame from the list")
        times = None
        if bins == 1:
            self._check_order(start, finish)
        else:
            times = normalized_time(self._checked_times(start, finish))
        return rectified_voxel_grid(times, *self._pixels(start, finish), self.rectify_map, bins)

    def _read(self, start: int, finish: int, keys: tuple[str, ...]) -> list[np.ndarray]:
        columns = self._columns()
        if not 0 <= start <= finish < len(columns["t"]):
            raise DataError(
                f"{self.events_file} ends before event {finish}, which the frame list asks for; make the list again "
                "with create_dsec_dataset_txt.py"
            )
        with self._faults(start, finish):
            check_count(finish + 1 - start)
        with h5_reading(self.events_file, EVENT_FILE, f"events {start}..{finish}"):
            return [columns[key][start : finish + 1] for key in keys]
