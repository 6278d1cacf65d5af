"""Reader of the class statistics that the Cityscapes converter writes and rare class sampling draws from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmseg.classes import CITYSCAPES_19, CLASSES, IGNORE_LABEL, ClassSet
from mmseg.config.kinds import Whole, shown
from mmseg.errors import DataError
from mmseg.io.json_files import read_json

# Pixels of every class by image, and images with their pixels by class.
STATISTICS_FILES = ("sample_class_stats.json", "samples_with_class.json")
REMEDY = (
    "run 'python tools/convert_datasets/cityscapes.py' on the Cityscapes folder (on a manifest: 'python "
    "tools/manifest_statistics.py'), or set data.train.source_json_root"
)
TRAIN_IDS = frozenset(map(str, range(len(CLASSES))))
# The upper limit is more than any image has.
PIXELS = Whole(0, 10**12)


def read_class_pixels(root: str | Path, classes: ClassSet = CITYSCAPES_19) -> list[dict[str, Any]]:
    """Entries of ``sample_class_stats.json``: ``file``, and pixels by class as text; at least one pixel in all.

    Args:
        root: folder of the file, which counts stored label ids.
        classes: class set that they are mapped to.

    Raises:
        DataError: the file is missing, or not what the converter writes; the message names file and entry.
    """
    path = Path(root) / STATISTICS_FILES[0]
    entries = read_json(path, REMEDY, kind=list)
    for number, entry in enumerate(entries):
        where = f"{path}, entry {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
            raise DataError(f"{where} is {shown(entry)}, not an object with a file; {REMEDY}")
        for key, count in _pixels(entry):
            _check_label_id(key, where, classes)
            _check_pixels(count, where)
    if classes != CITYSCAPES_19:
        entries = [_mapped(entry, classes) for entry in entries]
    if not any(count for entry in entries for _, count in _pixels(entry)):
        raise DataError(f"{path} counts no pixels of any class; {REMEDY}")
    return entries


def _mapped(entry: Mapping[str, Any], classes: ClassSet) -> dict[str, Any]:
    """An entry that counts classes, not stored label ids; ignored pixels are left out."""
    label_map, pixels = classes.label_map, dict[str, int]()
    for key, count in _pixels(entry):
        index = label_map[int(key)]
        if index != IGNORE_LABEL:
            pixels[str(index)] = pixels.get(str(index), 0) + count
    return {**pixels, "file": entry["file"]}


def read_files_by_class(root: str | Path, classes: ClassSet = CITYSCAPES_19) -> dict[int, list[tuple[str, int]]]:
    """``samples_with_class.json``: class -> label files with the class, and its pixels in each.

    Args:
        root, classes: see :func:`read_class_pixels`.

    Raises:
        DataError: the file is missing, or not what the converter writes; the message names file and class.
    """
    path = Path(root) / STATISTICS_FILES[1]
    found: dict[int, list[tuple[str, int]]] = {}
    for key, files in read_json(path, REMEDY).items():
        _check_label_id(key, str(path), classes)
        where = f"{path}, class {key}"
        if not isinstance(files, list):
            raise DataError(f"{where} is {shown(files)}, not a list of files with their pixels; {REMEDY}")
        for item in files:
            if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
                raise DataError(f"{where} holds {shown(item)}, not a file with its pixels; {REMEDY}")
            _check_pixels(item[1], where)
        found[int(key)] = [(file, count) for file, count in files]
    return found if classes == CITYSCAPES_19 else _joined(found, classes)


def _joined(files_by_id: Mapping[int, list[tuple[str, int]]], classes: ClassSet) -> dict[int, list[tuple[str, int]]]:
    """Files by class: where several stored label ids become one class, their pixels in a file are added."""
    found: dict[int, dict[str, int]] = {}
    for index, ids in enumerate(classes.sources):
        for file, count in (item for label_id in ids for item in files_by_id.get(label_id, ())):
            pixels = found.setdefault(index, {})
            pixels[file] = pixels.get(file, 0) + count
    return {index: list(pixels.items()) for index, pixels in found.items()}


def file_key(path: str | Path) -> str:
    """``<split>/<city>/<file>``: the part of a label path that does not depend on the root it was written under."""
    return "/".join(Path(path).parts[-3:])


def _pixels(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, count) for key, count in entry.items() if key != "file")


def _check_label_id(key: str, where: str, classes: ClassSet) -> None:
    if not classes.from_cityscapes:
        if key not in map(str, classes.label_map):
            raise DataError(f"{where} has the key {shown(key)}, a label that {classes.name!r} does not know; {REMEDY}")
    elif key not in TRAIN_IDS:
        raise DataError(f"{where} has the key {shown(key)}, which is not a train id (0..{len(CLASSES) - 1}); {REMEDY}")


def _check_pixels(count: Any, where: str) -> None:
    if not PIXELS.accepts(count):
        raise DataError(f"{where} counts {shown(count)} pixels, not a whole number; {REMEDY}")
