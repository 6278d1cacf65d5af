"""Label maps of a data set in the classes of a class set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from mmseg.classes import CITYSCAPES_19, OUTSIDE_LABEL, ClassSet
from mmseg.errors import ConfigError, DataError
from mmseg.io.image_files import LabelKind, open_label
from mmseg.registry import DATASETS

KNOW_IT = "add the value to 'from' of a class or to 'ignore' in the class set, or replace the file"


def build_dataset(config: Mapping[str, Any], classes: ClassSet) -> Any:
    """Build a data set of a config, whose labels are mapped into a class set.

    Label maps in a published layout hold Cityscapes train ids, or the label ids of a class set without a map from them;
    a manifest names the class set of its labels.
    """
    dataset = DATASETS.build(dict(config))
    dataset.classes = classes if hasattr(dataset, "manifest") else in_published_layout(classes)
    return dataset


def stored_class_set(class_set: str, classes: ClassSet, where: str | Path) -> ClassSet:
    """Classes of a config with the label ids that label maps of a class set hold.

    Args:
        class_set: name of the class set of the labels.
        classes: class set of the config.
        where: what names the labels' class set, for the message.

    Raises:
        ConfigError: labels of the one cannot be mapped to the other.
    """
    mapped = classes.of_cityscapes()
    if class_set == CITYSCAPES_19.name and mapped is not None:
        return mapped
    if class_set == classes.name:
        return classes.by_index() if classes.from_cityscapes else classes
    if class_set == CITYSCAPES_19.name:
        remedy = "add 'cityscapes' to its classes (docs/train.md), or take labels with its ids"
    else:
        remedy = f"set classes to {class_set!r} (or its file) and model.decode_head.num_classes to None"
    raise ConfigError(
        f"{where} has labels of the class set {class_set!r}, which cannot become those of the config's class set "
        f"{classes.name!r}; {remedy}"
    )


def stored_classes(dataset: Any) -> ClassSet:
    """Classes of a data set with the label ids that its files hold, which class statistics count."""
    found: ClassSet = getattr(dataset, "stored_classes", None) or dataset.classes
    return found


def in_published_layout(classes: ClassSet) -> ClassSet:
    """A class set with the label ids that label maps in a published layout hold, see :func:`build_dataset`."""
    return classes.of_cityscapes() or classes


def open_stored_label(path: Path, remedy: str, classes: ClassSet) -> Image.Image:
    """Read a label map as it is stored: in Cityscapes train ids, or in the label ids of a class set.

    Args:
        path: the file.
        remedy: ends the messages about a file that does not hold train ids.
        classes: class set that :func:`to_classes` will map it to.

    Raises:
        DataError: it cannot be read, or holds other values.
    """
    if classes.from_cityscapes:
        return open_label(path, remedy)
    kind = LabelKind(frozenset(classes.label_map), "label id", f"of the class set {classes.name!r}")
    return open_label(path, KNOW_IT, kind)


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
            f"{path} holds the value {outside}, which is not a label id of the class set {classes.name!r}; {KNOW_IT}"
        )
    return mapped
