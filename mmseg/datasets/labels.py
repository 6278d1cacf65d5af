"""Label maps of a data set in the classes of a class set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from mmseg.classes import CITYSCAPES_19, OUTSIDE_LABEL, ClassSet
from mmseg.errors import DataError
from mmseg.io.image_files import TRAIN_IDS, LabelKind
from mmseg.registry import DATASETS


def build_dataset(config: Mapping[str, Any], classes: ClassSet) -> Any:
    """Build a data set of a config, whose labels are mapped into a class set."""
    dataset = DATASETS.build(dict(config))
    dataset.classes = classes
    return dataset


def stored_labels(classes: ClassSet) -> LabelKind:
    """Values that stored label maps may have."""
    if classes.from_cityscapes:
        return TRAIN_IDS
    return LabelKind(frozenset(classes.label_map), "label id", f"of the class set {classes.name!r}")


def to_classes(label: Image.Image, classes: ClassSet, path: Path) -> Image.Image:
    """Map a stored label map of mode ``L`` to the indices of classes.

    Args:
        path: its file, for messages.

    Raises:
        DataError: a value that the class set does not know.
    """
    if classes == CITYSCAPES_19:
        return label
    mapped = label.point(classes.label_table())
    if mapped.histogram()[OUTSIDE_LABEL]:
        known = classes.label_map
        outside = next(value for value, count in enumerate(label.histogram()) if count and value not in known)
        raise DataError(
            f"{path} holds the value {outside}, which the class set {classes.name!r} does not know; add it to 'from' "
            "of a class or to 'ignore'"
        )
    return mapped
