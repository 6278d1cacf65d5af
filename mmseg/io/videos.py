"""Frames of a video file, with the time of each."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from mmseg.errors import DataError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".wmv")
# At a constant rate, intervals differ by what the container rounds times to: 1 ms.
ROUNDING = 1000  # µs


@dataclass(frozen=True)
class Picture:
    """One image of a source.

    Attributes:
        name: name of the files made from it, without suffix.
        read: returns it as (H, W, 3) uint8 RGB, or raises a DataError.
    """

    name: str
    read: Callable[[], np.ndarray]


class Video:
    """Frames of a video, named ``<stem>_<number from 0>``.

    Their number and times come from one pass through the file: headers are wrong if a video was cut or has a variable
    frame rate.

    Args:
        path: a file that OpenCV can read.

    Raises:
        DataError: it cannot be read; from the attributes: no frame can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open().release()

    def _open(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise DataError(f"video {self.path} does not exist")
        quiet_ffmpeg()
        try:
            capture = cv2.VideoCapture(str(self.path))
        except cv2.error as error:
            raise DataError(f"{self.path} is not a video that OpenCV can read ({error.err}); convert it") from None
        if not capture.isOpened():
            raise DataError(f"{self.path} is not a video that OpenCV can read; convert it, e.g. to .mp4")
        return capture

    @cached_property
    def _shown(self) -> tuple[int | None, ...]:
        """Time of every frame in µs, 0 for the first; None where the file does not say it."""
        capture, times = self._open(), list[int | None]()
        try:
            while capture.grab():
                milliseconds = capture.get(cv2.CAP_PROP_POS_MSEC)
                known = math.isfinite(milliseconds) and (not times or milliseconds > 0)
                times.append(round(milliseconds * 1000) if known else None)
        finally:
            capture.release()
        if not times:
            raise self._empty()
        first = times[0] or 0
        return tuple(time if time is None else time - first for time in times)

    def __len__(self) -> int:
        return len(self._shown)

    @cached_property
    def times(self) -> tuple[int, ...]:
        """Time of every frame in µs, ascending, 0 for the first.

        Some formats lack the times of the last frames; these are extrapolated if the frames before have one rate.

        Raises:
            DataError: the file does not say the times.
        """
        shown = list(self._shown)
        while len(shown) > 1 and shown[-1] is None:
            shown.pop()
        unsaid = len(self) - len(shown)
        times = [time for time in shown if time is not None]
        steps = [after - before for before, after in pairwise(times)]
        whole = len(times) == len(shown) and all(step > 0 for step in steps)
        if not whole or (unsaid and (not steps or max(steps) - min(steps) > ROUNDING)):
            raise DataError(f"{self.path} does not say when its frames were taken; give --timestamps FILE")
        step = times[-1] / (len(times) - 1) if unsaid else 0
        return tuple(times) + tuple(times[-1] + round(step * number) for number in range(1, unsaid + 1))

    @property
    def frame_rate(self) -> float | None:
        """Mean frames per second; None if the file does not say the times or has a single frame."""
        try:
            times = self.times
        except DataError:
            return None
        return (len(times) - 1) * 1e6 / times[-1] if len(times) > 1 else None

    def __iter__(self) -> Iterator[Picture]:
        capture = self._open()
        try:
            number = 0
            while capture.grab():
                decoded, frame = capture.retrieve()
                rgb = np.ascontiguousarray(frame[..., ::-1]) if decoded else None
                yield Picture(f"{self.path.stem}_{number:06d}", partial(self._frame, number, rgb))
                number += 1
        finally:
            capture.release()
        if number == 0:
            raise self._empty()

    def _frame(self, number: int, rgb: np.ndarray | None) -> np.ndarray:
        if rgb is None:
            raise DataError(f"{self.path}: frame {number} cannot be decoded")
        return rgb

    def _empty(self) -> DataError:
        return DataError(f"{self.path}: no frame can be read; convert it, e.g. to .mp4")


def quiet_ffmpeg() -> None:
    """Keep FFmpeg's messages off stderr; ours say what is wrong. FFmpeg reads the setting once, at its first file."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
