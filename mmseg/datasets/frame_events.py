"""Events of the frames of a manifest: windows of any recording, mapped onto the image's view.

Every mapping becomes a map of the sensor's size: position of every pixel in a frame of that size which shows what the
image shows. A voxel grid thus has the resolution of the sensor, and is resized with the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from mmseg.datasets.base import Size
from mmseg.datasets.manifest import Alignment, Manifest, ManifestFrame, Window
from mmseg.errors import DataError
from mmseg.events.columns import faults_in, raw_pixels
from mmseg.events.event_index import image_event_index
from mmseg.events.files import DSEC_SUFFIXES, EVENT_SUFFIXES, ArrayEvents
from mmseg.events.hdf5 import read_rectify_map, rectify_map_size
from mmseg.events.recording import HEIGHT, WIDTH, EventRecording
from mmseg.events.tables import read_event_table
from mmseg.events.voxel_grid import normalized_time, rectified_voxel_grid, voxel_grid

# Images whose shape differs more than this from that of the sensor do not show its view.
SHAPE_TOLERANCE = 0.02
# Stands for a position behind the camera: outside of every frame.
OUTSIDE = np.float32(-1e6)


class FrameRecording:
    """One recording of a manifest and the frames that read it.

    Args:
        manifest: it names the mapping.
        frames: its frames with this recording.
        image_size: (height, width) of their images.
        maps: maps of the recordings of a manifest, which most of them share.

    Raises:
        DataError: naming manifest and line: a missing or damaged file, an unknown sensor size, images that do not show
            the sensor's view, or frames whose window the recording does not cover.
    """

    def __init__(
        self, manifest: Manifest, frames: Sequence[ManifestFrame], image_size: Size, maps: PositionMaps
    ) -> None:
        first = frames[0]
        assert first.events is not None, "frames with events only"
        self.path: Path = first.events
        where = manifest.where(first)
        try:
            self._columns, size = self._open()
            self.size: Size = _sensor_size(manifest, first, self.path, size, image_size)
            self.map = maps.of(manifest.alignment, first, self.size, image_size)
            self.recording = _Mapped(self.path, self.size, self.map) if self._columns is None else None
            self.array = self._array()
            self.windows = self._find_windows(manifest, frames)
        except DataError as error:
            text = str(error)
            raise error if text.startswith(str(manifest.path)) else DataError(f"{where}: {text}") from error
        finally:
            self.close()

    def _open(self) -> tuple[dict[str, np.ndarray] | None, Size | None]:
        """Columns of a recording that is read completely, and (height, width) of its sensor if it says that."""
        if not self.path.is_file():
            raise DataError(f"event recording {self.path} does not exist")
        suffix = self.path.suffix.lower()
        if suffix in DSEC_SUFFIXES:
            return None, None
        if suffix not in EVENT_SUFFIXES:
            known = ", ".join(EVENT_SUFFIXES)
            raise DataError(f"{self.path} does not have the suffix of an event recording; known: {known}")
        return read_event_table(self.path)

    def _array(self) -> ArrayEvents | None:
        columns, self._columns = self._columns, None
        if columns is None:
            return None
        if self.map is not None:
            with faults_in(f"{self.path} holds", "give pixels of the sensor, which the mapping of the manifest needs"):
                raw_pixels(columns["x"], columns["y"], self.size)
        return ArrayEvents(self.path, columns, self.size)

    def close(self) -> None:
        """Close the file, so that other processes do not share its position."""
        recording = getattr(self, "recording", None)
        if recording is not None:
            recording.close()

    def _index(self, times: Sequence[int]) -> list[int]:
        """Index of the last event at or before each time; -1 outside the recording."""
        if self.array is None:
            return image_event_index(self.path, times, missing_offset=0).tolist()
        return self.array.index(times).tolist()

    def _duration(self, start: int, finish: int) -> int:
        reader = self.recording or self.array
        assert reader is not None, "one of them reads the file"
        return reader.duration(start, finish)

    def _find_windows(self, manifest: Manifest, frames: Sequence[ManifestFrame]) -> list[tuple[int, int]]:
        times = [frame.time or 0 for frame in frames]
        starts = [_start(frame.window, time) for frame, time in zip(frames, times, strict=True)]
        last, first = self._index(times), self._index([0 if start is None else start for start in starts])
        windows = []
        for frame, begin, finish in zip(frames, first, last, strict=True):
            start = finish - frame.window.count + 1 if frame.window and frame.window.count else begin
            if not 0 <= start < finish or self._duration(start, finish) == 0:
                raise DataError(
                    f"{manifest.where(frame)}: {self.path} has no events for the window that ends at {frame.time} µs "
                    f"({_words(frame.window)}); give times on its clock, or take the events off the line"
                )
            windows.append((start, finish))
        return windows

    def grid(self, start: int, finish: int, bins: int) -> np.ndarray:
        """Voxel grid (bins, height, width) float32 of the events from ``start`` to ``finish``, inclusive.

        Raises:
            DataError: the file is damaged, or has events outside its sensor.
        """
        if self.recording is not None:
            return self.recording.voxel_grid(start, finish, bins)
        assert self.array is not None, "one of them reads the file"
        events = self.array.events(start, finish)
        if self.map is None:
            scaled = events.t if bins == 1 else normalized_time(events.t)
            return voxel_grid(scaled, events.x, events.y, events.p, bins, *self.size)
        times = None if bins == 1 else normalized_time(events.t)
        x, y = (column.astype(np.uint16) for column in (events.x, events.y))
        return rectified_voxel_grid(times, x, y, events.p, self.map, bins)


class _Mapped(EventRecording):
    """A recording in DSEC's format whose positions a given map (height, width, 2) float32 decides."""

    def __init__(self, path: Path, size: Size, positions: np.ndarray | None) -> None:
        super().__init__(path, None, size)
        self._positions = positions

    @cached_property
    def rectify_map(self) -> np.ndarray:
        """See :class:`.EventRecording`."""
        return super().rectify_map if self._positions is None else self._positions


class PositionMaps:
    """Position maps by what they depend on: a map takes megabytes, and a set may have thousands of recordings."""

    def __init__(self) -> None:
        self._maps: dict[tuple[Path | None, Size, Size], np.ndarray | None] = {}

    def of(self, alignment: Alignment, frame: ManifestFrame, size: Size, image_size: Size) -> np.ndarray | None:
        """See :func:`position_map`.

        Raises:
            DataError: also for images of several sizes, if a matrix maps events to their pixels.
        """
        others = {known for _, _, known in self._maps} - {image_size}
        if alignment.matrix is not None and others:
            height, width = others.pop()
            raise DataError(
                f"{frame.image} is {image_size[1]}x{image_size[0]}, images before it {width}x{height}; the mapping of "
                "events is for images of one size"
            )
        key = (frame.rectify_map or alignment.rectify_map, size, image_size)
        if key not in self._maps:
            self._maps[key] = position_map(alignment, frame, size, image_size)
        return self._maps[key]


def _start(window: Window | None, time: int) -> int | None:
    """Time at which a window starts; None if a number of events decides."""
    if window is None or window.count:
        return None
    return window.since if window.since is not None else time - (window.duration or 0)


def _words(window: Window | None) -> str:
    if window is None:
        return "no window"
    if window.count:
        return f"{window.count} events"
    return f"since {window.since} µs" if window.since is not None else f"{window.duration} µs"


def _sensor_size(manifest: Manifest, frame: ManifestFrame, path: Path, found: Size | None, image_size: Size) -> Size:
    """(height, width) of the sensor: of the recording, the rectify map or the first line.

    Files in DSEC's format have DSEC's sensor, unless aligned images have another size: such files may be of any camera.
    """
    given = manifest.sensor
    if given and found and given != found:
        raise DataError(
            f"{path} is of a sensor of {found[1]}x{found[0]} pixels, the first line of {manifest.path} says "
            f"{given[1]}x{given[0]}; correct its key sensor"
        )
    size = given or found
    if size is None and manifest.alignment.kind == "rectify_map":
        size = rectify_map_size(_map_file(manifest.alignment, frame))
    is_aligned = manifest.alignment.kind == "aligned"
    if size is None and path.suffix.lower() in DSEC_SUFFIXES and (not is_aligned or image_size == (HEIGHT, WIDTH)):
        size = (HEIGHT, WIDTH)
    if size is None:
        raise DataError(
            f'{path} does not say the size of its sensor; add "sensor": [width, height] to the first line of '
            f"{manifest.path}"
        )
    return size


def _map_file(alignment: Alignment, frame: ManifestFrame) -> Path:
    file = frame.rectify_map or alignment.rectify_map
    if file is None:
        raise DataError("the mapping is rectify_map, but neither this line nor the first one names the file; add it")
    if not file.is_file():
        raise DataError(f"rectify map {file} does not exist")
    return file


def position_map(alignment: Alignment, frame: ManifestFrame, size: Size, image_size: Size) -> np.ndarray | None:
    """(height, width, 2) float32: x and y of every pixel of the sensor; None where they stay."""
    (height, width), (image_height, image_width) = size, image_size
    if alignment.matrix is None:
        if abs(width * image_height / (height * image_width) - 1) > SHAPE_TOLERANCE:
            raise DataError(
                f"{frame.image} is {image_width}x{image_height}, its sensor {width}x{height}: they do not show "
                "the same view; crop the images, or give a homography or the calibration of both cameras"
            )
        if alignment.kind == "aligned":
            return None
        return read_rectify_map(_map_file(alignment, frame), size)
    pixels = np.stack([*np.meshgrid(np.arange(width), np.arange(height)), np.ones(size)], axis=-1)
    if alignment.kind == "rectify_map":
        pixels[..., :2] = read_rectify_map(_map_file(alignment, frame), size)
    mapped = pixels.reshape(-1, 3) @ alignment.matrix.T
    # A homography may be given with any sign; what the sensor's centre sees lies before the camera.
    mapped *= np.sign(alignment.matrix[2] @ ((width - 1) / 2, (height - 1) / 2, 1)) or 1
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        positions = mapped[:, :2] / mapped[:, 2:]
    # Centres of pixels lie at whole numbers, so a frame of w pixels reaches from -0.5 to w - 0.5.
    scale = np.array([width / image_width, height / image_height])
    positions = (positions + 0.5) * scale - 0.5
    # Compiled loops convert positions to integers: what is far away or behind the camera must stay a small number.
    seen = np.isfinite(positions).all(axis=1) & (np.abs(positions) < -OUTSIDE).all(axis=1) & (mapped[:, 2] > 0)
    positions = np.where(seen[:, None], positions, OUTSIDE)
    inside = ((positions > -1) & (positions < (width, height))).all(axis=1)
    if not inside.any():
        raise DataError(
            f"the mapping puts no pixel of the {width}x{height} sensor into {frame.image} ({image_width}x"
            f"{image_height}); check its matrices, which map pixels of the event camera to pixels of the image"
        )
    return positions.astype(np.float32).reshape(height, width, 2)
