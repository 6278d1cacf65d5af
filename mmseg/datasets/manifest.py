"""The one reader of manifests: text files that say which images, labels and events make up a data set.

A manifest holds one JSON object per line. The first line describes the set, every other line one image; paths are
relative to the manifest. ``docs/own_data.md`` documents the format for users.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmseg.errors import DataError, did_you_mean
from mmseg.io.json_files import MAX_BYTES, parse_json

FORMAT = 1
# How positions of events become positions in an image.
MAPPINGS = ("aligned", "rectify_map", "homography", "calibration")
HEADER_KEYS = ("format", "class_set", "label_rows", "sensor", "events")
FRAME_KEYS = (
    "image",
    "label",
    "events",
    "time",
    "window",
    "rectify_map",
    "previous_image",
    "image_change",
    "sequence",
    "name",
)
# Window of the events of a frame: a text, or an object with one of these keys.
PREVIOUS = "previous"
WINDOW_KEYS = ("duration", "count", "since")
LARGEST = 2**53  # JSON readers of other languages keep whole numbers up to here
LARGEST_SENSOR = 1 << 14
# How far a rotation may be from one, since calibrations are rounded.
ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Window:
    """Which events belong to a frame; exactly one attribute is set.

    Attributes:
        duration: those of this many µs before the frame.
        count: this many events that end with the frame.
        since: those since this time, in µs.
    """

    duration: int | None = None
    count: int | None = None
    since: int | None = None


@dataclass(frozen=True)
class ManifestFrame:
    """One line of a manifest. Paths are absolute or relative to the working directory.

    Attributes:
        line: number of the line, from 1.
        name: name of the files made from it, unique in the manifest.
        image, label, events, rectify_map, previous_image, image_change: files; None where the line names none.
        time: time of the image in µs, on the clock of the recording; None without events.
        window: its events; None without events.
        sequence: name of the drive; '' if the line names none.
    """

    line: int
    name: str
    image: Path
    label: Path | None = None
    events: Path | None = None
    time: int | None = None
    window: Window | None = None
    rectify_map: Path | None = None
    previous_image: Path | None = None
    image_change: Path | None = None
    sequence: str = ""


@dataclass(frozen=True)
class Alignment:
    """How positions of events map onto images.

    Attributes:
        kind: one of :data:`MAPPINGS`.
        matrix: for ``homography`` and ``calibration``: (3, 3) float64, from pixels of the event camera to pixels of the
            image; for ``rectify_map``: from positions of the map to pixels of the image, None where the map shows what
            the image shows.
        rectify_map: for ``rectify_map``: the map of all recordings whose lines name none.
    """

    kind: str = "aligned"
    matrix: np.ndarray | None = None
    rectify_map: Path | None = None


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read and checked; whether its files exist is checked where they are needed.

    Attributes:
        path: the manifest.
        class_set: name of the set of classes of its labels.
        label_rows: labels show this many upper rows of their images only; None for all rows.
        alignment: how events map onto images.
        sensor: (height, width) of the event camera; None if recordings say it.
        frames: its images, in the order of the lines.
    """

    path: Path
    class_set: str
    label_rows: int | None
    alignment: Alignment
    sensor: tuple[int, int] | None
    frames: tuple[ManifestFrame, ...]

    def where(self, frame: ManifestFrame) -> str:
        """Manifest and line, for messages."""
        return f"{self.path}, line {frame.line}"


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest.

    Raises:
        DataError: one line that names manifest, line, key, and the remedy.
    """
    path = Path(path)
    lines = _lines(path)
    number, first = next(lines, (0, ""))
    if not first:
        raise DataError(f"{path} is empty; its first line must be an object with format and class_set")
    header = _Object(path, number, first, HEADER_KEYS)
    version = header.required("format")
    if isinstance(version, bool) or version != FORMAT:
        raise header.fault("format", version, f"this program reads {FORMAT}")
    header.required("class_set")
    class_set = header.text("class_set")
    assert class_set is not None, "it is required"
    rows = header.values.get("label_rows")
    label_rows = None if rows is None else header.whole("label_rows", rows, 1)
    sensor = header.sensor()
    alignment = header.alignment(path.parent)
    frames: list[ManifestFrame] = []
    named: dict[str, int] = {}
    latest: dict[Path, int] = {}
    for number, text in lines:
        frame = _frame(_Object(path, number, text, FRAME_KEYS), latest)
        if frame.name in named:
            raise DataError(
                f"{path}, line {number}: the name {frame.name!r} is that of line {named[frame.name]}, and so would be "
                "their predictions; add a key name or sequence"
            )
        named[frame.name] = number
        frames.append(frame)
    if not frames:
        raise DataError(f'{path} names no images; add one line per image, such as {{"image": "images/1.png"}}')
    return Manifest(path, class_set, label_rows, alignment, sensor, tuple(frames))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not blank."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise DataError(f"manifest {path} is not a file")
        if size > MAX_BYTES:
            raise DataError(f"manifest {path} is larger than {MAX_BYTES:,} bytes; split it")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"manifest {path} does not exist; make it with tools/make_manifest.py") from None
    except UnicodeDecodeError as error:
        raise DataError(f"manifest {path} is not text in UTF-8 ({error.reason}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise DataError(f"manifest {path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    # Only these end a line: str.splitlines knows more characters, which JSON texts may hold.
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if line.strip():
            yield number, line


class _Object:
    """The object of one line, whose values are checked as they are read."""

    def __init__(self, path: Path, number: int, text: str, known: tuple[str, ...]) -> None:
        self.path, self.number = path, number
        self.where = f"{path}, line {number}"
        self.values: dict[str, Any] = parse_json(text, f"{self.where}: the line", unique_keys=True)
        for key in self.values:
            if key not in known:
                raise DataError(
                    f"{self.where}: unknown key {key!r}{did_you_mean(key, known)}; known: {', '.join(known)}"
                )

    def fault(self, key: str, value: Any, remedy: str) -> DataError:
        """Error of a value."""
        shown = repr(value)
        return DataError(f"{self.where}: {key} is {shown if len(shown) <= 80 else shown[:77] + '...'}; {remedy}")

    def required(self, key: str) -> Any:
        """Value of a key that must be there."""
        if self.values.get(key) is None:
            raise DataError(f"{self.where}: the key {key!r} is missing; add it")
        return self.values[key]

    def text(self, key: str) -> str | None:
        """Text of a key; None if it is missing or null."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.fault(key, value, "give a printable text")
        return value

    def file(self, key: str) -> Path | None:
        """Path of a key; None if it is missing or null."""
        value = self.text(key)
        return None if value is None else self.path.parent / value

    def file_name(self, key: str) -> str | None:
        """Text of a key that can be the name of a file."""
        value = self.text(key)
        if value is not None and (set(value) & set('/\\:*?"<>|') or value.strip(". ") != value):
            raise self.fault(key, value, "give text that can be the name of a file, without / and a dot at its ends")
        return value

    def whole(self, key: str, value: Any, least: int) -> int:
        """A whole number."""
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
            raise self.fault(key, value, f"give a whole number from {least}")
        return value

    def sensor(self) -> tuple[int, int] | None:
        """(height, width) of the key ``sensor``, which has the width first."""
        value = self.values.get("sensor")
        if value is None:
            return None
        remedy = f"give [width, height] of the event camera in pixels, at most {LARGEST_SENSOR}"
        if not isinstance(value, list) or len(value) != 2:
            raise self.fault("sensor", value, remedy)
        for side in value:
            if isinstance(side, bool) or not isinstance(side, int) or not 2 <= side <= LARGEST_SENSOR:
                raise self.fault("sensor", value, remedy)
        return value[1], value[0]

    def alignment(self, folder: Path) -> Alignment:
        """The key ``events`` of the first line."""
        given = self.values.get("events")
        if given is None:
            return Alignment()
        if not isinstance(given, dict):
            raise self.fault("events", given, 'give an object such as {"mapping": "aligned"}')
        kind = given.get("mapping")
        if kind not in MAPPINGS:
            raise self.fault("events.mapping", kind, f"give one of {', '.join(MAPPINGS)}")
        keys = {
            "rectify_map": ("file", "matrix"),
            "homography": ("matrix",),
            "calibration": ("image", "events", "rotation"),
        }
        known = ("mapping", *keys.get(kind, ()))
        unknown = sorted(given.keys() - set(known))
        if unknown:
            raise self.fault(f"events.{unknown[0]}", given[unknown[0]], f"{kind!r} takes {', '.join(known)}")
        if kind == "rectify_map":
            file = given.get("file")
            if file is not None and (not isinstance(file, str) or not file.strip()):
                raise self.fault("events.file", file, "give the path of the rectify map, or one per line")
            matrix = self._invertible(given, "matrix") if given.get("matrix") is not None else None
            return Alignment(kind, matrix, None if file is None else folder / file)
        if kind == "homography":
            return Alignment(kind, self._invertible(given, "matrix"))
        if kind == "calibration":
            image, events = (self._camera(given, key) for key in ("image", "events"))
            # For a view at infinity, the distance between the cameras does not matter.
            return Alignment(kind, image @ self._rotation(given) @ np.linalg.inv(events))
        return Alignment(kind)

    def _matrix(self, given: Mapping[str, Any], key: str) -> np.ndarray:
        value = given.get(key)
        remedy = "give three rows of three numbers"
        rows = value if isinstance(value, list) and len(value) == 3 else []
        numbers = [number for row in rows if isinstance(row, list) and len(row) == 3 for number in row]
        if len(numbers) != 9 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
            raise self.fault(f"events.{key}", value, remedy)
        if not all(abs(number) < LARGEST and math.isfinite(number) for number in numbers):
            raise self.fault(f"events.{key}", value, remedy)
        return np.array(numbers, np.float64).reshape(3, 3)

    def _invertible(self, given: Mapping[str, Any], key: str) -> np.ndarray:
        matrix = self._matrix(given, key)
        if not abs(np.linalg.det(matrix)) > 1e-12:
            raise self.fault(f"events.{key}", given[key], "it maps an area to a line; give a matrix with an inverse")
        return matrix

    def _camera(self, given: Mapping[str, Any], key: str) -> np.ndarray:
        matrix = self._invertible(given, key)
        if matrix[0, 0] <= 0 or matrix[1, 1] <= 0 or not np.allclose(matrix[2], (0, 0, 1)) or matrix[1, 0]:
            raise self.fault(
                f"events.{key}", given[key], "give the camera matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels"
            )
        return matrix

    def _rotation(self, given: Mapping[str, Any]) -> np.ndarray:
        matrix = self._matrix(given, "rotation")
        near = np.abs(matrix @ matrix.T - np.eye(3)).max() <= ROTATION_TOLERANCE and np.linalg.det(matrix) > 0
        if not near:
            raise self.fault(
                "events.rotation", given["rotation"], "give the rotation from the event camera to the image's camera"
            )
        return matrix


def _frame(line: _Object, latest: dict[Path, int]) -> ManifestFrame:
    """A frame of a line; ``latest`` holds the time of the last frame of every recording and is updated."""
    line.required("image")
    image = line.file("image")
    assert image is not None, "it is required"
    sequence = line.file_name("sequence") or ""
    has_sequence = not sequence or image.stem.startswith(f"{sequence}_")
    name = line.file_name("name") or (image.stem if has_sequence else f"{sequence}_{image.stem}")
    events = line.file("events")
    time, window = None, None
    if events is not None:
        time = line.whole("time", line.required("time"), 0)
        window = _window(line, time, latest.get(events))
        latest[events] = time
    else:
        for key in ("window", "rectify_map"):
            if line.values.get(key) is not None:
                raise DataError(f"{line.where}: {key} without events; add the recording, or leave {key} out")
    return ManifestFrame(
        line.number,
        name,
        image,
        line.file("label"),
        events,
        time,
        window,
        line.file("rectify_map"),
        line.file("previous_image"),
        line.file("image_change"),
        sequence,
    )


def _window(line: _Object, time: int, before: int | None) -> Window:
    """Window of a frame; ``before`` is the time of the frame before it on the same recording."""
    given = line.required("window")
    if given == PREVIOUS:
        if before is None or before >= time:
            found = "is none" if before is None else f"is at {before} µs, not before {time} µs"
            raise line.fault("window", given, f"the line before it with this recording {found}; give a duration, in µs")
        return Window(since=before)
    remedy = f'give "{PREVIOUS}" or an object with one of {", ".join(WINDOW_KEYS)}, such as {{"duration": 50000}}'
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in WINDOW_KEYS:
        raise line.fault("window", given, remedy)
    ((kind, value),) = given.items()
    number = line.whole(f"window.{kind}", value, {"duration": 1, "count": 2, "since": 0}[kind])
    if kind == "since" and number >= time:
        raise line.fault("window.since", value, f"the frame is at {time} µs; give an earlier time")
    return Window(**{kind: number})
