"""Writing films that browsers can play."""

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

# Frames per second that players support.
RATES = (1.0, 240.0)
# Maximum number of frames queued for the encoder.
WAITING = 8
PROBE_FRAMES = 2


@dataclass(frozen=True)
class Codec:
    """A way to encode an .mp4: its code, name, codes it may have when read, and whether browsers play it."""

    code: str
    name: str
    read_as: tuple[str, ...]
    in_browsers: bool = True


# Most widely supported first. The build of OpenCV decides which are available.
CODECS = (
    Codec("avc1", "H.264", ("avc1", "h264", "H264")),
    Codec("vp09", "VP9", ("vp09", "VP90")),
    Codec("mp4v", "MPEG-4 part 2", ("mp4v", "FMP4"), in_browsers=False),
)


class Film:
    """An .mp4 that is being written; a thread encodes it.

    Args:
        path: the file.
        rate: frames per second, clipped to :data:`RATES`.

    Attributes:
        codec: chosen codec; None before the first frame.
        frames: number of encoded frames.
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
        """Add a frame (H, W, 3) uint8 RGB; it is resized to the size of the first.

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
            DataError: the film is incomplete.
        """
        try:
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            self.release()
        if self.frames:
            self._check()

    def release(self) -> None:
        """Close the file, whatever it contains."""
        self._pool.shutdown(cancel_futures=True)
        if self._writer is not None:
            self._writer.release()

    def _check(self) -> None:
        """Count the frames of the file: OpenCV does not report a full disk."""
        capture = cv2.VideoCapture(str(self.path))
        whole = capture.isOpened() and capture.get(cv2.CAP_PROP_FRAME_COUNT) == self.frames
        capture.release()
        if not whole:
            raise DataError(
                f"{self.path.parent}: the film of the overlays is incomplete; free disk space, or leave "
                "'overlay' out of --save"
            )


class _NoFrame(Exception):
    """The film has no frames, so its file is dropped."""


@contextmanager
def film_file(path: Path, rate: float) -> Iterator[Film]:
    """Yield a film. The file gets its name when the film is complete; without frames there is no file.

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
    """The first of :data:`CODECS` that this build of OpenCV supports, tested by writing and reading a short film.

    Args:
        rate: frames per second.
        picture: (H, W, 3) uint8 BGR.

    Raises:
        DataError: there is none.
    """
    level = cv2.utils.logging.getLogLevel()
    # a missing encoder is not an error here
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for codec in CODECS:
                if _writes(Path(folder) / f"{codec.code}.mp4", codec, rate, picture):
                    return codec
    finally:
        cv2.utils.logging.setLogLevel(level)
    raise DataError("this build of OpenCV cannot write a film of this size; leave 'overlay' out of --save")


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
    # H.264 only has even sides
    sizes = {frame.shape[:2] for frame in frames}
    alike = sizes <= {(height, width), (height // 2 * 2, width // 2 * 2)}
    return code.to_bytes(4, "little").decode("latin1") in codec.read_as and len(frames) == PROBE_FRAMES and alike
