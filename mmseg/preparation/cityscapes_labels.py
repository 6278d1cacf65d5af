"""Train id label maps of Cityscapes, from polygons or label ids; and their class counts.

Label tables and drawing rules are those of the public Cityscapes tools.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from mmseg.classes import CLASSES, IGNORE_LABEL, LABEL_ID_TO_TRAIN_ID, LABEL_NAME_TO_ID
from mmseg.config.kinds import Number, Whole, shown
from mmseg.errors import DataError, did_you_mean
from mmseg.io.image_files import LABEL_IDS, MAX_PIXELS, open_label
from mmseg.io.json_files import read_json
from mmseg.io.read_errors import READ_ERRORS, cause

# Pixels of an image side, and range of polygon coordinates.
SIDE, COORDINATE = Whole(1, 16384), Number(-1e6, 1e6)
EXTRACT = "extract it again from the archive"

# Entry i is the train id of label id i. -1 (license plate) reads as 255 in an 8-bit image and stays ignored.
LABEL_ID_TABLE = [LABEL_ID_TO_TRAIN_ID.get(label_id, IGNORE_LABEL) for label_id in range(256)]


def draw_polygons(path: Path) -> Image.Image:
    """Rasterise the objects of a ``*_polygons.json`` file, later ones over earlier ones.

    Args:
        path: JSON file with ``imgWidth``, ``imgHeight`` and ``objects``, a list of
            ``{"label": str, "polygon": [[x, y], ...]}`` in pixels.

    Returns:
        Image of mode ``L`` and size (imgWidth, imgHeight) with train ids 0..18 and 255.

    Raises:
        DataError: the file cannot be read, is incomplete or has an unknown label.
    """
    image, objects = _read_polygons(path)
    drawer = ImageDraw.Draw(image)
    for label, polygon in objects:
        label_id = _label_id(label, path)
        # Negative ids draw nothing: a license plate is part of its car.
        if label_id < 0:
            continue
        try:
            points = [(_coordinate(x), _coordinate(y)) for x, y in polygon]
            drawer.polygon(points, fill=LABEL_ID_TABLE[label_id])
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: the polygon of a {label!r} cannot be drawn ({error})") from error
    return image


def _read_polygons(path: Path) -> tuple[Image.Image, list[tuple[str, list[tuple[Any, Any]]]]]:
    """Return an image of the file's size, all ignored, and the label and points of every object; both unchecked."""
    annotation = read_json(path, EXTRACT)
    try:
        width, height = size = annotation["imgWidth"], annotation["imgHeight"]
        if not all(SIDE.accepts(side) for side in size):
            raise ValueError(f"imgWidth and imgHeight are {shown(list(size))}; each is {SIDE.text}")
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width}x{height} are more than {MAX_PIXELS:,} pixels")
        objects = [
            (str(item["label"]), [(x, y) for x, y in item["polygon"]])
            for item in annotation["objects"]
            if not item.get("deleted")
        ]
        return Image.new("L", size, IGNORE_LABEL), objects
    except READ_ERRORS as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else cause(error)
        raise DataError(f"{path} cannot be read ({reason}): {EXTRACT}") from error


def _coordinate(value: Any) -> float:
    if not COORDINATE.accepts(value):
        raise ValueError(f"{shown(value)} is not {COORDINATE.text}")
    return value


def _label_id(label: str, path: Path) -> int:
    name = label
    # A crowd that cannot be told apart ("cargroup") has the class of its members.
    if name not in LABEL_NAME_TO_ID and name.endswith("group"):
        name = name.removesuffix("group")
    if name not in LABEL_NAME_TO_ID:
        hint = did_you_mean(label, LABEL_NAME_TO_ID)
        raise DataError(f"{path}: {label!r} is not a Cityscapes label{hint}")
    return LABEL_NAME_TO_ID[name]


def map_label_ids(path: Path) -> Image.Image:
    """Turn a ``*_labelIds.png`` file (label ids 0..33) into train ids.

    Returns:
        Image of mode ``L`` and the same size with train ids 0..18 and 255.

    Raises:
        DataError: the file cannot be read, has more than one channel or holds an unknown id.
    """
    return open_label(path, EXTRACT, LABEL_IDS).point(LABEL_ID_TABLE)


def count_classes(image: Image.Image) -> dict[int, int]:
    """Return the number of pixels of every class (0..18) that a train id image shows, in class order."""
    return {c: n for c, n in enumerate(image.histogram()[: len(CLASSES)]) if n}
