"""Manifests: what a manifest holds, and writing it, see :mod:`mmseg.datasets.manifest`."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmseg.classes import CITYSCAPES_19
from mmseg.classes import CLASS_SETS as BUILT_IN
from mmseg.datasets.class_statistics import file_key
from mmseg.datasets.labels import open_stored_label, stored_class_set
from mmseg.datasets.manifest import FORMAT, HEADER_KEYS, Manifest, ManifestFrame, read_manifest
from mmseg.errors import ConfigError, DataError
from mmseg.events.files import EventSource, open_events
from mmseg.io.files import atomic_path, visible, write_text
from mmseg.io.image_files import LabelKind, open_image, open_label
from mmseg.io.json_files import parse_json, read_json
from mmseg.io.videos import Picture, Video

WINDOW = {"duration": 50_000}  # the published training's, in µs
# Why images are left out of a manifest.
NO_EVENTS = "the recording does not cover their window"
NO_LABEL = "no label map of their name"
NO_IMAGE = "the image file is not there"


@dataclass
class ManifestContent:
    """Lines of a manifest that is to be written.

    Attributes:
        header: first line, without ``format``.
        lines: one per image; files as paths, relative to the working directory or absolute.
        left_out: reason -> number of images that were left out for it.
    """

    header: dict[str, Any] = field(default_factory=lambda: {"class_set": CITYSCAPES_19.name})
    lines: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def summary(self) -> str:
        """Number of images, and of those that were left out."""
        return "; ".join(
            [f"{len(self.lines):,} images", *(f"{n:,} left out: {reason}" for reason, n in self.left_out.items() if n)]
        )


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


def own_footage(
    images: Sequence[Path],
    events: EventOptions | None = None,
    labels: Path | None = None,
    previous: Sequence[Path] | None = None,
    sequences: Sequence[str | None] | None = None,
    class_set: str = CITYSCAPES_19.name,
    names: Iterable[str] = (),
) -> ManifestContent:
    """Lines of your own images.

    Args:
        images: image files, in the order of time.
        events: their recording; images whose window it does not cover are left out.
        labels: folder of label maps, named like the images; images without one are left out.
        previous: image before each one.
        sequences: name of the drive of each image.
        class_set: name of the class set of the labels.
        names: of further images, without suffix, whose labels are not those of these images.

    Raises:
        DataError: an unusable recording.
    """
    content = ManifestContent({"class_set": class_set, **_event_header(events)})
    windows = [events.window] * len(images) if events else []
    covered = covers(open_events(events.path), events.times, windows) if events else [True] * len(images)
    label_maps = _labels_of(images, labels, names) if labels else [None] * len(images)
    for index, (image, label) in enumerate(zip(images, label_maps, strict=True)):
        if not covered[index]:
            content.left_out[NO_EVENTS] += 1
            continue
        if labels and label is None:
            content.left_out[NO_LABEL] += 1
            continue
        line: dict[str, Any] = {"image": image, "label": label}
        line["previous_image"] = previous[index] if previous else None
        if events:
            line |= {"events": events.path, "time": events.times[index], "window": dict(events.window)}
            line["rectify_map"] = events.rectify_map
        content.lines.append({**line, "sequence": sequences[index] if sequences else None})
    return content


def _event_header(events: EventOptions | None) -> dict[str, Any]:
    if events is None:
        return {}
    mapping = {"mapping": "rectify_map"} if events.rectify_map else {"mapping": "aligned"}
    return {"events": dict(events.mapping or mapping)} | ({"sensor": list(events.sensor)} if events.sensor else {})


def covers(source: EventSource, times: Sequence[int], windows: Sequence[Mapping[str, int]]) -> list[bool]:
    """Whether a recording covers the window of each image.

    Args:
        source: the recording.
        times: time of each image in µs, on its clock.
        windows: of each image, with one of ``count``, ``duration`` and ``since``.
    """
    last = source.index(times).tolist()
    starts = [
        window.get("since", time - window.get("duration", 0)) for time, window in zip(times, windows, strict=True)
    ]
    first = source.index(starts).tolist()
    for index, window in enumerate(windows):
        if "count" in window:
            first[index] = last[index] - window["count"] + 1
    return [0 <= a < b and source.duration(a, b) > 0 for a, b in zip(first, last, strict=True)]


def write_manifest(path: Path, content: ManifestContent, append: bool = False) -> None:
    """Write a manifest, with paths relative to it.

    Args:
        path: the manifest.
        content: its lines.
        append: add to an existing manifest, whose first line must be the same.

    Raises:
        DataError: no image is left, or the result would not be a manifest.
        ConfigError: a first line that differs.
    """
    if not content.lines:
        raise DataError(f"no image is left for {path}: {content.summary()}")
    header = {"format": FORMAT, **content.header}
    kept = _kept_lines(path, header) if append and path.exists() else []
    lines = [json.dumps(_relative_line(line, path), ensure_ascii=False) for line in content.lines]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            write_text(temporary, "\n".join([json.dumps(header, ensure_ascii=False), *kept, *lines]) + "\n")
            # A manifest that the reader refuses must not replace one that it accepts.
            try:
                read_manifest(temporary)
            except DataError as error:
                raise DataError(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); choose another --out") from error


def _relative_line(line: Mapping[str, Any], manifest: Path) -> dict[str, Any]:
    """A line without empty keys, and with paths relative to the manifest."""
    return {
        key: relative(value, manifest) if isinstance(value, Path) else value
        for key, value in line.items()
        if value is not None
    }


def relative(file: Path, manifest: Path) -> str:
    """Path of a file relative to a manifest, with forward slashes."""
    return Path(os.path.relpath(file, manifest.parent)).as_posix()


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


def count_classes(manifest_path: Path) -> dict[str, dict[int, int]]:
    """Pixels by stored label id of every label map of a manifest, as :func:`.write_statistics` takes them.

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
        histogram = _label_map(manifest, frame).histogram()
        counted[path] = {label_id: pixels for label_id, pixels in enumerate(histogram[:-1]) if pixels}
    return counted


def _label_map(manifest: Manifest, frame: ManifestFrame) -> Image.Image:
    """Label map of a line, as it is stored."""
    assert frame.label is not None, "checked before"
    built_in = BUILT_IN.get(manifest.class_set)
    try:
        if built_in is None:
            return open_label(frame.label, kind=LabelKind(frozenset(range(256)), "label id"))
        stored = stored_class_set(manifest.class_set, built_in, manifest.path)
        return open_stored_label(frame.label, "replace the file", stored)
    except DataError as error:
        raise DataError(f"{manifest.where(frame)}: {error}") from error


def extract_frames(video: Video, folder: Path, numbers: Iterable[int]) -> dict[int, Path]:
    """Write frames of a video as PNG files; existing ones are kept if they show the same.

    Returns:
        Number of a frame, from 0 -> its file.

    Raises:
        DataError: a frame cannot be decoded or written, or its file shows another one.
    """
    wanted, files = set(numbers), dict[int, Path]()
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(video):
        if number in wanted:
            files[number] = folder / f"{picture.name}.png"
            if not files[number].is_file():
                _save(picture, files[number])
            elif not np.array_equal(np.asarray(open_image(files[number], "RGB")), picture.read()):
                raise DataError(
                    f"{files[number]} is not this frame of {video.path}; choose another --frames, or remove the folder"
                )
    return files


def _save(picture: Picture, path: Path) -> None:
    try:
        with atomic_path(path) as temporary:
            Image.fromarray(picture.read()).save(temporary, format="PNG")
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); choose another --frames") from error


def _labels_of(images: Sequence[Path], folder: Path, names: Iterable[str]) -> list[Path | None]:
    """Label map of each image: ``<name>.png``, or the only file ``<name>_*.png`` that is not of a longer name."""
    known = {*names, *(image.stem for image in images)}
    # Images next to the given ones may have labels too; labels in the folder of images are no images.
    beside = {(image.parent, image.suffix) for image in images if not image.parent.samefile(folder)}
    known |= {path.stem for parent, suffix in beside for path in visible(parent, "*") if path.suffix == suffix}
    of_name: dict[str, list[Path]] = {}
    for path in visible(folder, "*.png"):
        parts = path.stem.split("_")
        begins = ("_".join(parts[:count]) for count in range(len(parts), 0, -1))
        of_name.setdefault(next((name for name in begins if name in known), ""), []).append(path)
    labels: list[Path | None] = []
    for image in images:
        exact, found = folder / f"{image.stem}.png", of_name.get(image.stem, [])
        labels.append(exact if exact.is_file() else found[0] if len(found) == 1 else None)
    return labels


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a file with the key ``events`` of a first line, such as ``{"mapping": "homography", "matrix": ...}``.

    Raises:
        DataError: it is not an object with a mapping.
    """
    found = read_json(path, "see docs/own_data.md")
    if "mapping" not in found:
        raise DataError(f"{path} has no key mapping; see docs/own_data.md")
    return found
