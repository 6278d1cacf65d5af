"""Frames of a video file, each with its own time."""

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
# Of a constant rate, intervals differ by what a container rounds times to: 1 ms.
ROUNDING = 1000  # µs


@dataclass(frozen=True)
class Picture:
    """One picture of a source.

    Attributes:
        name: of the files that are made of it, without suffix.
        read: gives it as (H, W, 3) uint8 RGB, or raises a DataError.
    """

    name: str
    read: Callable[[], np.ndarray]


class Video:
    """Frames of a video, named ``<stem>_<number from 0>``.

    How many there are, and when each is shown, is found by going through the file once: headers say something else
    where a film was cut or has a variable rate.

    Args:
        path: a file that OpenCV reads.

    Raises:
        DataError: it cannot be read; of the attributes, not one frame can.
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
        """Time of every frame in µs, 0 for the first; None for those that are not said."""
        capture, times = self._open(), []
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

        Some formats do not say it of the last frames; where those before have one rate, they have it too.

        Raises:
            DataError: the file does not say the times.
        """
        times = list(self._shown)
        while len(times) > 1 and times[-1] is None:
            times.pop()
        steps = [after - before for before, after in pairwise(times) if None not in (before, after)]
        whole = len(steps) == len(times) - 1 and all(step > 0 for step in steps)
        unsaid = len(self) - len(times)
        if not whole or (unsaid and (not steps or max(steps) - min(steps) > ROUNDING)):
            raise DataError(f"{self.path} does not say when its frames were taken; give --timestamps FILE")
        step = times[-1] / (len(times) - 1) if unsaid else 0
        return tuple(times) + tuple(times[-1] + round(step * number) for number in range(1, unsaid + 1))

    @property
    def frame_rate(self) -> float | None:
        """Frames a second, the mean over the film; None where the times are not said, or of a single frame."""
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
        return DataError(f"{self.path}: not one frame can be read; convert it, e.g. to .mp4")


def quiet_ffmpeg() -> None:
    """Keep FFmpeg's own messages from stderr: ours say what is wrong. It looks once, at its first file."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
