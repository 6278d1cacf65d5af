"""Manifests of your own footage, see :mod:`mmseg.datasets.manifest`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from mmseg.classes import CLASSES
from mmseg.datasets.class_statistics import file_key
from mmseg.datasets.manifest import CLASS_SETS, FORMAT, HEADER_KEYS, read_manifest
from mmseg.errors import ConfigError, DataError
from mmseg.events.files import open_events
from mmseg.io.files import atomic_path, visible, write_text
from mmseg.io.image_files import open_label
from mmseg.io.json_files import parse_json, read_json
from mmseg.io.videos import Picture, Video

WINDOW = {"duration": 50_000}  # the published training's, in µs


@dataclass(frozen=True)
class EventOptions:
    """The recording of some images.

    Attributes:
        path: the recording.
        times: time of each image in µs, on the clock of the recording.
        window: as in a manifest.
        mapping: the key ``events`` of the first line; None for aligned images.
        rectify_map: map of this recording.
        sensor: (width, height); None if the recording says it.
    """

    path: Path
    times: Sequence[int]
    window: Mapping[str, int] = field(default_factory=lambda: dict(WINDOW))
    mapping: Mapping[str, Any] | None = None
    rectify_map: Path | None = None
    sensor: tuple[int, int] | None = None


@dataclass
class ManifestReport:
    """What was written.

    Attributes:
        images: number of lines of these images.
        without_events, without_label: images that were left out.
    """

    images: int = 0
    without_events: int = 0
    without_label: int = 0

    def lines(self) -> list[str]:
        """Summary for people."""
        lines = [f"{self.images:,} images"]
        if self.without_events:
            lines.append(f"{self.without_events:,} left out: the recording does not cover their window")
        if self.without_label:
            lines.append(f"{self.without_label:,} left out: no label map of their name")
        return lines


def count_classes(manifest_path: Path) -> dict[str, dict[int, int]]:
    """Pixels by train id of every label map of a manifest, as :func:`.write_statistics` takes them.

    Raises:
        DataError: a damaged label map, a line without one, or two whose paths end alike.
    """
    manifest = read_manifest(manifest_path)
    counted: dict[str, dict[int, int]] = {}
    lines: dict[str, int] = {}
    for frame in manifest.frames:
        where = manifest.where(frame)
        if frame.label is None:
            raise DataError(f"{where}: the line has no label; class statistics are for a labelled source")
        path = os.path.abspath(frame.label)
        line = lines.setdefault(file_key(path), frame.line)
        if line != frame.line:
            raise DataError(
                f"{where}: the label's path ends like that of line {line} ({file_key(path)}), which class statistics "
                "cannot tell apart; rename one of the folders"
            )
        try:
            histogram = open_label(frame.label).histogram()
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        counted[path] = {train_id: pixels for train_id, pixels in enumerate(histogram[: len(CLASSES)]) if pixels}
    return counted


def extract_frames(video: Video, folder: Path, numbers: Iterable[int]) -> dict[int, Path]:
    """Write frames of a video as PNG files; existing ones are kept.

    Returns:
        Number of a frame, from 0 -> its file.

    Raises:
        DataError: a frame cannot be decoded or written.
    """
    wanted, files = set(numbers), dict[int, Path]()
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(video):
        if number in wanted:
            files[number] = folder / f"{picture.name}.png"
            if not files[number].is_file():
                _save(picture, files[number])
    return files


def _save(picture: Picture, path: Path) -> None:
    try:
        with atomic_path(path) as temporary:
            Image.fromarray(picture.read()).save(temporary, format="PNG")
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); choose another --frames") from error


def write_manifest(
    path: Path,
    images: Sequence[Path],
    events: EventOptions | None = None,
    labels: Path | None = None,
    previous: Sequence[Path | None] | None = None,
    sequence: str | None = None,
    append: bool = False,
) -> ManifestReport:
    """Write a manifest of images, with paths relative to it.

    Args:
        path: the manifest.
        images: image files, in the order of time.
        events: their recording.
        labels: folder of label maps, named like the images; images without one are left out.
        previous: image before each one; None where there is none, and the image is left out.
        sequence: name of the drive.
        append: add to an existing manifest, whose first line must be the same.

    Raises:
        DataError: an unusable recording, no image is left, or the result would not be a manifest.
        ConfigError: a first line that differs.
    """
    report = ManifestReport()
    covered = _covered(events) if events else [True] * len(images)
    lines: list[dict[str, Any]] = []
    for index, image in enumerate(images):
        label = _label_of(image, labels) if labels else None
        if not covered[index]:
            report.without_events += 1
            continue
        if labels and label is None:
            report.without_label += 1
            continue
        before = previous[index] if previous else None
        if previous and before is None:
            continue
        files = {"image": image, "label": label, "previous_image": before}
        line: dict[str, Any] = {key: relative(file, path) for key, file in files.items() if file is not None}
        if events:
            line |= {"events": relative(events.path, path), "time": events.times[index], "window": dict(events.window)}
            if events.rectify_map:
                line["rectify_map"] = relative(events.rectify_map, path)
        lines.append(line | ({"sequence": sequence} if sequence else {}))
    if not lines:
        raise DataError(f"no image is left for {path}: {'; '.join(report.lines())}")
    header = _header(events)
    kept = _kept_lines(path, header) if append and path.exists() else []
    report.images = len(lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = [json.dumps(header), *kept, *(json.dumps(line, ensure_ascii=False) for line in lines)]
    try:
        with atomic_path(path) as temporary:
            write_text(temporary, "\n".join(written) + "\n")
            # A manifest that the reader refuses must not replace one that it accepts.
            try:
                read_manifest(temporary)
            except DataError as error:
                raise DataError(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); choose another --out") from error
    return report


def relative(file: Path, manifest: Path) -> str:
    """Path of a file relative to a manifest, with forward slashes."""
    return Path(os.path.relpath(file, manifest.parent)).as_posix()


def _header(events: EventOptions | None) -> dict[str, Any]:
    header: dict[str, Any] = {"format": FORMAT, "class_set": CLASS_SETS[0]}
    if events is not None:
        mapping = {"mapping": "rectify_map"} if events.rectify_map else {"mapping": "aligned"}
        header["events"] = dict(events.mapping or mapping)
        if events.sensor:
            header["sensor"] = list(events.sensor)
    return header


def _kept_lines(path: Path, header: Mapping[str, Any]) -> list[str]:
    """Lines of the images of a manifest that has the same first line, apart from events."""
    read_manifest(path)
    first, *lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    found = parse_json(first, f"{path}, line 1")
    for key in HEADER_KEYS:
        if found.get(key) != header.get(key):
            raise ConfigError(
                f"--append: the first line of {path} says {key}={json.dumps(found.get(key))}, these images need "
                f"{json.dumps(header.get(key))}; write another manifest"
            )
    return lines


def _covered(events: EventOptions) -> list[bool]:
    """Whether the recording covers the window of each image."""
    source = open_events(events.path)
    last = source.index(events.times).tolist()
    count = events.window.get("count")
    if count:
        first = [index - count + 1 for index in last]
    else:
        first = source.index([max(time - events.window["duration"], 0) for time in events.times]).tolist()
    return [0 <= a < b and source.duration(a, b) > 0 for a, b in zip(first, last, strict=True)]


def _label_of(image: Path, folder: Path) -> Path | None:
    """Label map of an image: ``<name>.png``, or the only file ``<name>_*.png``."""
    exact = folder / f"{image.stem}.png"
    if exact.is_file():
        return exact
    found = [path for path in visible(folder, "*.png") if path.name.startswith(f"{image.stem}_")]
    return found[0] if len(found) == 1 else None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a file with the key ``events`` of a first line, such as ``{"mapping": "homography", "matrix": ...}``.

    Raises:
        DataError: it is not an object with a mapping.
    """
    found = read_json(path, "see docs/own_data.md")
    if "mapping" not in found:
        raise DataError(f"{path} has no key mapping; see docs/own_data.md")
    return found
