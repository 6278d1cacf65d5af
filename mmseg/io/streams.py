"""Frames of a camera or a network stream, as they come: whoever takes them gets the newest, and misses others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Condition, Thread
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from mmseg.errors import DataError
from mmseg.io.videos import Picture, quiet_ffmpeg

ADDRESSES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "rtp")
# No frame for so long ends a stream, in s.
PATIENCE = 30.0


def is_stream(given: str | Path) -> bool:
    """Whether an input is the number of a camera, or the address of a stream; an existing file is neither."""
    text = str(given)
    if Path(text).exists():
        return False
    return re.fullmatch(r"\d{1,2}", text) is not None or text.partition("://")[0].lower() in ADDRESSES


def shown_address(given: str) -> str:
    """An address without the name and password that it may hold, or the number of a camera."""
    if "://" not in given:
        return f"camera {given}"
    parts = urlsplit(given)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{_port(parts)}' if _port(parts) else ''}{parts.path}"


def _port(parts: Any) -> int | None:
    try:
        return parts.port
    except ValueError:  # of an address that is none
        return None


class Stream:
    """The newest frame each time one is asked for, named ``<source>_<number from 0>``; numbers count all that came.

    Args:
        given: number of a camera, or an address that OpenCV can read.
        most: end after so many frames were taken; None for no limit.

    Raises:
        DataError: it cannot be opened; on iteration: it gives no frame.
    """

    def __init__(self, given: str, most: int | None = None) -> None:
        self.shown, self.most = shown_address(given), most
        quiet_ffmpeg()
        try:
            self._capture = cv2.VideoCapture(int(given) if given.isdigit() else given)
            opened = self._capture.isOpened()
        except cv2.error:
            opened = False
        if not opened:
            remedy = "is it connected, and free?" if given.isdigit() else "check the address, and whether it sends"
            raise DataError(f"{self.shown} cannot be opened by OpenCV; {remedy}")
        words = urlsplit(given).hostname if "://" in given else f"camera{given}"
        self.stem = re.sub(r"[^\w.-]", "_", words or "stream")
        self.came = 0
        self._newest: tuple[int, np.ndarray] | None = None
        self.ended = False
        self._changed = Condition()

    def stop(self) -> None:
        """Take no more frames; those on their way are still given."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Picture]:
        reader = Thread(target=self._read, name="stream", daemon=True)
        reader.start()
        taken = 0
        try:
            while self.most is None or taken < self.most:
                frame = self._next()
                if frame is None:
                    break
                number, bgr = frame
                rgb = np.ascontiguousarray(bgr[..., ::-1])
                yield Picture(f"{self.stem}_{number:06d}", partial(_same, rgb))
                taken += 1
        finally:
            self.stop()
            reader.join(PATIENCE)
            if not reader.is_alive():
                self._capture.release()
        if not self.came:
            raise DataError(f"{self.shown} gives no frame; check that it sends pictures")

    def _next(self) -> tuple[int, np.ndarray] | None:
        """The newest frame that was not taken, as soon as there is one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self.ended, PATIENCE)
            frame, self._newest = self._newest, None
            return frame

    def _read(self) -> None:
        """Read frames until the end, and keep the newest."""
        while not self.ended:
            try:
                good, frame = self._capture.read()
            except cv2.error:
                good, frame = False, None
            if not good or frame is None:
                break
            with self._changed:
                self._newest = (self.came, frame)
                self.came += 1
                self._changed.notify_all()
        self.stop()


def _same(rgb: np.ndarray) -> np.ndarray:
    return rgb
