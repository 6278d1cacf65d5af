"""Reader of DSEC event recordings (Gehrig et al., RA-L 2021)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  h5py finds the Blosc filter of DSEC files only after this import
import numpy as np

from mmseg.errors import DataError
from mmseg.events.voxel_grid import normalized_time, rectified_voxel_grid

HEIGHT, WIDTH = 480, 640
# what h5py raises for files that are damaged or hold something else
H5_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True)
class Events:
    """Events of a window, in order of time.

    Attributes:
        t: (N,) int64, µs since the start of the recording.
        x, y: (N,) float32, rectified pixel positions; they may lie outside the frame.
        p: (N,) uint8 polarity, 0 or 1.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray


class EventRecording:
    """Events of one sequence, rectified. The file is opened on first use and stays open, once per process.

    Args:
        events_file: ``events.h5`` with ``events/{t,x,y,p}``.
        rectify_map_file: ``rectify_map.h5`` with ``rectify_map`` (480, 640, 2): x and y of every raw pixel.
    """

    def __init__(self, events_file: str | Path, rectify_map_file: str | Path) -> None:
        self.events_file = Path(events_file)
        self.rectify_map_file = Path(rectify_map_file)
        self._handle: tuple[int, h5py.File] | None = None
        self._times: dict[int, int] = {}

    def __getstate__(self) -> dict:
        # An open file cannot travel to another process.
        return {**self.__dict__, "_handle": None}

    def _events(self) -> h5py.Group:
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), self._open())
        return self._handle[1]["events"]

    def _open(self) -> h5py.File:
        """Open the file and see that it has what events are made of."""
        file = None
        try:
            file = h5py.File(self.events_file, "r")
            for name in ("t", "x", "y", "p"):
                column = file["events"][name]
                if column.ndim != 1 or column.dtype.kind not in "iu":
                    raise ValueError(f"events/{name} is no row of whole numbers")
        except H5_ERRORS as error:
            if file is not None:
                file.close()
            raise DataError(
                f"{self.events_file} is not a readable DSEC event file ({error}); download it again"
            ) from error
        return file

    def close(self) -> None:
        """Close the file; the next use opens it again.

        Call it before processes are forked: they would share the open file, and its position, with this one.
        """
        if self._handle is not None and self._handle[0] == os.getpid():
            self._handle[1].close()
        self._handle = None

    @cached_property
    def rectify_map(self) -> np.ndarray:
        """(480, 640, 2) float32: rectified (x, y) of every raw pixel."""
        try:
            with h5py.File(self.rectify_map_file, "r") as file:
                rectify_map = file["rectify_map"][:].astype(np.float32)
        except H5_ERRORS as error:
            raise DataError(
                f"{self.rectify_map_file} is not a readable rectify map ({error}); download it again"
            ) from error
        if rectify_map.shape != (HEIGHT, WIDTH, 2):
            raise DataError(
                f"{self.rectify_map_file}: rectify_map has shape {rectify_map.shape}, not {(HEIGHT, WIDTH, 2)}"
            )
        broken = int((~np.isfinite(rectify_map)).any(axis=2).sum())
        if broken:
            raise DataError(
                f"{self.rectify_map_file}: {broken} of {HEIGHT * WIDTH} positions of rectify_map are not finite; "
                "download it again"
            )
        return rectify_map

    def duration(self, start: int, finish: int) -> int:
        """Time between two events in µs, 0 <= start <= finish.

        Raises:
            DataError: the file is damaged, or ends before ``finish``.
        """
        first, last = (self._time(index) for index in (start, finish))
        return last - first

    def _time(self, index: int) -> int:
        # Windows of consecutive frames share their ends.
        if index not in self._times:
            times = self._events()["t"]
            self._check_length(len(times), index)
            try:
                self._times[index] = int(times[index])
            except H5_ERRORS as error:
                raise self._unreadable(index, index, error) from error
        return self._times[index]

    def _unreadable(self, start: int, finish: int, error: Exception) -> DataError:
        return DataError(f"{self.events_file} cannot be read at events {start}..{finish} ({error}); download it again")

    def _check_length(self, length: int, last: int) -> None:
        if last >= length:
            raise DataError(
                f"{self.events_file} ends before event {last}, which the frame list asks for; make the list again "
                "with create_dsec_dataset_txt.py"
            )

    def window(self, start: int, finish: int) -> Events:
        """Events from index ``start`` to ``finish``, both included.

        Raises:
            DataError: the file is damaged, too short, or holds pixels outside the sensor.
        """
        t, x, y, p = self._read(start, finish, ("t", "x", "y", "p"))
        if x.max(initial=0) >= WIDTH or y.max(initial=0) >= HEIGHT:
            raise DataError(f"{self.events_file} holds pixels outside {WIDTH}x{HEIGHT} at events {start}..{finish}")
        position = self.rectify_map[y, x]
        return Events(t.astype(np.int64), position[:, 0], position[:, 1], p)

    def voxel_grid(self, start: int, finish: int, bins: int) -> np.ndarray:
        """Voxel grid (bins, 480, 640) float32 of the events from ``start`` to ``finish``, both included.

        With one bin their times are not read, but for the first and the last.

        Raises:
            DataError: as :meth:`window`; or all events carry one timestamp.
        """
        where = f"events {start}..{finish} of {self.events_file}"
        if self.duration(start, finish) == 0:
            raise DataError(f"all {where} carry one timestamp; take the frame off the list")
        if bins == 1:
            times, (x, y, p) = None, self._read(start, finish, ("x", "y", "p"))
        else:
            t, x, y, p = self._read(start, finish, ("t", "x", "y", "p"))
            times = normalized_time(t.astype(np.int64))
        try:
            return rectified_voxel_grid(times, x, y, p, self.rectify_map, bins)
        except IndexError as error:
            raise DataError(f"{where} hold {error}; download the file again") from error

    def _read(self, start: int, finish: int, keys: tuple[str, ...]) -> list[np.ndarray]:
        events = self._events()
        try:
            columns = [events[key][start : finish + 1] for key in keys]
        except H5_ERRORS as error:
            raise self._unreadable(start, finish, error) from error
        for column in columns:
            self._check_length(start + len(column), finish)
        return columns
