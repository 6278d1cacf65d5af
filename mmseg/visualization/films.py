"""Writing a film that browsers play."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmseg.errors import DataError
from mmseg.io.files import atomic_path
from mmseg.io.videos import quiet_ffmpeg

# Frames a second that players show.
RATES = (1.0, 240.0)
# Frames that wait for the encoder.
WAITING = 8
PROBE_FRAMES = 2


@dataclass(frozen=True)
class Codec:
    """A way to encode an .mp4: its code, name, codes that it may bear when read, and whether browsers play it."""

    code: str
    name: str
    read_as: tuple[str, ...]
    in_browsers: bool = True


# In order of how widely they are played. Which of them there are depends on the build of OpenCV.
CODECS = (
    Codec("avc1", "H.264", ("avc1", "h264", "H264")),
    Codec("vp09", "VP9", ("vp09", "VP90")),
    Codec("mp4v", "MPEG-4 part 2", ("mp4v", "FMP4"), in_browsers=False),
)


class Film:
    """An .mp4 in the making; its encoder works beside the caller.

    Args:
        path: the file.
        rate: frames a second, brought into :data:`RATES`.

    Attributes:
        codec: how it is encoded; None before the first frame.
        frames: number of frames that are in.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path = path
        self.rate = min(max(rate, RATES[0]), RATES[1])
        self.codec: Codec | None = None
        self.frames = 0
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def add(self, frame: np.ndarray) -> None:
        """Add a frame (H, W, 3) uint8 RGB; one of another size than the first is brought to it.

        Raises:
            DataError: OpenCV cannot write a film.
        """
        self._waiting.append(self._pool.submit(self._write, frame))
        if len(self._waiting) > WAITING:
            self._waiting.popleft().result()

    def _write(self, frame: np.ndarray) -> None:
        picture = np.ascontiguousarray(frame[..., ::-1])
        if self._writer is None:
            self._size = picture.shape[1::-1]
            self.codec = working_codec(self.rate, picture)
            self._writer = _writer(self.path, self.codec, self.rate, self._size)
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(picture)
        self.frames += 1

    def close(self) -> None:
        """Wait for the encoder.

        Raises:
            DataError: the film cannot be written whole.
        """
        try:
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            self.release()
        if self.frames:
            self._check()

    def release(self) -> None:
        """Let go of the file, whatever is in it."""
        self._pool.shutdown(cancel_futures=True)
        if self._writer is not None:
            self._writer.release()

    def _check(self) -> None:
        """OpenCV does not say when a disk is full."""
        capture = cv2.VideoCapture(str(self.path))
        whole = capture.isOpened() and capture.get(cv2.CAP_PROP_FRAME_COUNT) == self.frames
        capture.release()
        if not whole:
            raise DataError(
                f"{self.path.parent}: the film of the overlays cannot be written whole; make room on the disk, or "
                "leave 'overlay' out of --save"
            )


class _NoFrame(Exception):
    """There is nothing to rename."""


@contextmanager
def film_file(path: Path, rate: float) -> Iterator[Film]:
    """Yield a film; the file gets its name when all frames are in, and there is none where no frame came.

    Raises:
        DataError: see :class:`Film`.
    """
    quiet_ffmpeg()
    with suppress(_NoFrame), atomic_path(path) as temporary:
        film = Film(temporary, rate)
        try:
            yield film
        except BaseException:
            film.release()
            raise
        film.close()
        if not film.frames:
            raise _NoFrame


def working_codec(rate: float, picture: np.ndarray) -> Codec:
    """The first of :data:`CODECS` that this build of OpenCV writes, as reading a short film of the picture shows.

    Args:
        rate: frames a second.
        picture: (H, W, 3) uint8 BGR.

    Raises:
        DataError: none.
    """
    level = cv2.utils.logging.getLogLevel()
    # That an encoder is not there is no error here.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for codec in CODECS:
                if _writes(Path(folder) / f"{codec.code}.mp4", codec, rate, picture):
                    return codec
    finally:
        cv2.utils.logging.setLogLevel(level)
    raise DataError("this OpenCV writes no film of this size; leave 'overlay' out of --save")


def _writer(path: Path, codec: Codec, rate: float, size: tuple[int, int]) -> cv2.VideoWriter:
    return cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec.code), rate, size)


def _writes(path: Path, codec: Codec, rate: float, picture: np.ndarray) -> bool:
    height, width = picture.shape[:2]
    writer = _writer(path, codec, rate, (width, height))
    for _ in range(PROBE_FRAMES):
        writer.write(picture)
    writer.release()
    capture = cv2.VideoCapture(str(path))
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    frames = [frame for decoded, frame in (capture.read() for _ in range(PROBE_FRAMES)) if decoded]
    capture.release()
    # H.264 has even sides only
    sizes = {frame.shape[:2] for frame in frames}
    alike = sizes <= {(height, width), (height // 2 * 2, width // 2 * 2)}
    return code.to_bytes(4, "little").decode("latin1") in codec.read_as and len(frames) == PROBE_FRAMES and alike
