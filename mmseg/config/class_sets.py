"""The key ``classes`` of a config: a built-in class set, a file of one, or its content.

Needs the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmseg.classes import CITYSCAPES_19, CLASS_SETS, CLASSES, OUTSIDE_LABEL, ClassSet
from mmseg.config.dotted import Loaded
from mmseg.config.kinds import ListOf, PathText, Text, Whole, refuse, shown
from mmseg.errors import ConfigError, did_you_mean
from mmseg.io.json_files import read_json

LEAST_CLASSES, MOST_CLASSES = 2, OUTSIDE_LABEL
DEFAULT = CITYSCAPES_19.name
NAME = Text("a text of 1 to 60 printable characters, without spaces at its ends", r"\S(?:.{0,58}\S)?")
COLOR = ListOf(Whole(0, 255), 3, 3, "(red, green, blue)")
LABEL_ID = Whole(0, OUTSIDE_LABEL - 1)
BLACK = (0, 0, 0)
# What the label maps hold.
CITYSCAPES, OWN = "cityscapes", "own"
DISTANCE = "imnet_feature_dist_classes"
KEYS = ("name", "labels", "classes", "ignore", "ignore_cityscapes")
CLASS_KEYS = ("name", "color", "from", "cityscapes")


@dataclass(frozen=True)
class ClassSetKind:
    """Kind of the key ``classes``; :func:`class_set` reads the file or the content."""

    text: str = field(default=f"{', '.join(map(repr, CLASS_SETS))}, or the path of a .json file", init=False)

    def check(self, key: str, value: Any) -> None:
        if isinstance(value, str):
            PathText().check(key, value)
        elif not isinstance(value, Mapping):
            raise refuse(key, value, self)


def class_set(value: str | Mapping[str, Any] | None) -> ClassSet:
    """Class set of a value of the key ``classes``; None stands for the 19 Cityscapes classes.

    Raises:
        ConfigError: one line that names the file, and the class or value in it.
    """
    if value is None:
        return CITYSCAPES_19
    if isinstance(value, Mapping):
        return parse_class_set(value, "classes")
    if value in CLASS_SETS:
        return CLASS_SETS[value]
    return parse_class_set(_content(value), value)


def class_set_of(config: Mapping[str, Any] | Loaded) -> ClassSet:
    """Class set of a config; see :func:`class_set`."""
    values = config if isinstance(config, Mapping) else config.to_dict()
    return class_set(values.get("classes"))


def with_content(value: Any) -> Any:
    """A value of the key ``classes`` in which the content of a file takes the place of its path.

    The copy of a config in a work dir or a checkpoint thus needs no other file.

    Raises:
        ConfigError: the file cannot be used.
    """
    if not isinstance(value, str) or value in CLASS_SETS:
        return value
    ClassSetKind().check("classes", value)
    content = _content(value)
    parse_class_set(content, value)
    return content


def use_class_set(config: dict[str, Any], takes_number: bool = True) -> None:
    """Fill the head's number of classes into a checked config, in place, and check the classes that others name.

    Args:
        takes_number: whether the head has an argument ``num_classes``; one from outside may know its number.

    Raises:
        ConfigError: the number of classes is another, or a class is unknown.
    """
    classes = class_set_of(config)
    head = config["model"].get("decode_head")
    if not head:
        return  # check_config refuses it
    given = head.get("num_classes")
    if given is not None and given != len(classes):
        raise ConfigError(
            f"model.decode_head.num_classes is {given}, but the class set {classes.name!r} has {len(classes)} classes; "
            "set it to None, or choose another set by the key 'classes' (docs/train.md)"
        )
    if takes_number:
        head["num_classes"] = len(classes)
    uda = config.get("uda") or {}
    if uda.get(DISTANCE) is not None:
        distance_classes(uda[DISTANCE], classes)


def distance_classes(given: Sequence[int] | Sequence[str], classes: ClassSet) -> list[int]:
    """Indices of the classes of the feature distance, which are given by name, or by Cityscapes train id.

    Raises:
        ConfigError: naming the class.
    """
    key = f"uda.{DISTANCE}"
    named = [value for value in given if isinstance(value, str)]
    if named:
        unknown = [name for name in named if name not in classes.names]
        if unknown:
            raise ConfigError(
                f"{key} lists {shown(unknown[0])}, which is not a class of {classes.name!r}"
                f"{did_you_mean(unknown[0], classes.names)}; its classes: {', '.join(classes.names)}"
            )
        return [classes.names.index(name) for name in named]
    if not classes.from_cityscapes:
        raise ConfigError(
            f"{key} lists Cityscapes train ids, from which the class set {classes.name!r} has no map; give names of "
            "its classes, or None for all pixels"
        )
    indices = [classes.label_map[label_id] for label_id in given if isinstance(label_id, int)]
    chosen = list(dict.fromkeys(index for index in indices if index < len(classes)))
    if not chosen:
        raise ConfigError(f"{key}: the class set {classes.name!r} ignores all of these classes; give names of its own")
    return chosen


# ------------------------------------------------------------------------------------------------ the file


def _content(path: str) -> dict[str, Any]:
    if not path.endswith(".json"):
        raise ConfigError(
            f"classes={shown(path)} is not a class set{did_you_mean(path, CLASS_SETS)}; give {ClassSetKind().text}"
        )
    return read_json(Path(path), "give a class set (docs/train.md)", error=ConfigError)


def parse_class_set(content: Mapping[str, Any], where: str) -> ClassSet:
    """Class set of the content of a file.

    Args:
        content: ``name``; ``classes``, a list of objects with ``name``, ``color``, ``from`` and ``cityscapes``;
            ``labels``, ``ignore`` and ``ignore_cityscapes``. See docs/train.md.
        where: the file, for messages.

    Raises:
        ConfigError: one line that names file, class and value.
    """
    _check_keys(content, KEYS, where)
    if "name" not in content:
        raise ConfigError(f"{where} has no 'name' of the class set; add one")
    NAME.check(f"{where}: name", content["name"])
    if content["name"] in CLASS_SETS:
        raise ConfigError(f"{where}: name is {content['name']!r}, a built-in class set; give another name")
    entries = content.get("classes")
    if not isinstance(entries, (list, tuple)) or not LEAST_CLASSES <= len(entries) <= MOST_CLASSES:
        raise ConfigError(f"{where}: 'classes' must be a list of {LEAST_CLASSES} to {MOST_CLASSES} objects")
    labels = content.get("labels", CITYSCAPES)
    if labels not in (CITYSCAPES, OWN):
        raise ConfigError(f"{where}: labels is {shown(labels)}; give {CITYSCAPES!r} or {OWN!r}")
    names, colors = _names_and_colors(entries, where)
    sources, ignored = _label_ids(entries, content.get("ignore", ()), labels, where)
    cityscapes = _from_cityscapes(entries, content.get("ignore_cityscapes"), labels, where)
    return ClassSet(content["name"], names, colors, sources, ignored, labels == CITYSCAPES, cityscapes)


def _check_keys(content: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in content:
        if key not in known:
            raise ConfigError(f"{where} has the unknown key {shown(key)}{did_you_mean(str(key)[:60], known)}")


def _names_and_colors(entries: Sequence[Any], where: str) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    names: list[str] = []
    colors: list[tuple[int, int, int]] = []
    for number, entry in enumerate(entries):
        at = f"{where}: class {number}"
        if not isinstance(entry, Mapping):
            raise ConfigError(f"{at} is {shown(entry)}; give an object with name, color and from")
        _check_keys(entry, CLASS_KEYS, at)
        for key in ("name", "color"):
            if key not in entry:
                raise ConfigError(f"{at} has no {key!r}; add it")
        NAME.check(f"{at}: name", entry["name"])
        if entry["name"] in names:
            raise ConfigError(f"{at} has the name {entry['name']!r}, as class {names.index(entry['name'])}; rename one")
        COLOR.check(f"{at} ({entry['name']}): color", entry["color"])
        red, green, blue = entry["color"]
        if (red, green, blue) == BLACK:
            raise ConfigError(f"{at} ({entry['name']}) is black, the colour of ignored pixels; give another colour")
        if (red, green, blue) in colors:
            same = names[colors.index((red, green, blue))]
            raise ConfigError(f"{at} ({entry['name']}) has the colour of {same}: {red, green, blue}; change one")
        names.append(entry["name"])
        colors.append((red, green, blue))
    return tuple(names), tuple(colors)


def _label_ids(
    entries: Sequence[Any], ignore: Any, labels: str, where: str
) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Stored label ids of each class, and those that are ignored; no id twice."""
    if labels == OWN and not any("from" in entry for entry in entries):
        sources: list[tuple[int, ...]] = [(index,) for index in range(len(entries))]
    else:
        sources = [
            tuple(_ids(entry.get("from", ()), labels, f"{where}: from of class {number} ({entry['name']})"))
            for number, entry in enumerate(entries)
        ]
    ignored = tuple(_ids(ignore, labels, f"{where}: ignore"))
    _check_ids(entries, sources, ignored, where, labels, ("from", "ignore"))
    return tuple(sources), ignored


def _from_cityscapes(
    entries: Sequence[Any], ignore: Any, labels: str, where: str
) -> tuple[tuple[int, ...], ...] | None:
    """Cityscapes train ids of each class of a set with label ids of its own; None if it has no map from them."""
    named = ignore is not None or any("cityscapes" in entry for entry in entries)
    if not named:
        return None
    if labels == CITYSCAPES:
        raise ConfigError(
            f"{where} says which Cityscapes classes become each class in both 'from' and 'cityscapes'; use 'from', or "
            f"set labels to {OWN!r}"
        )
    sources = [
        tuple(_ids(entry.get("cityscapes", ()), CITYSCAPES, f"{where}: cityscapes of class {number} ({entry['name']})"))
        for number, entry in enumerate(entries)
    ]
    ignored = tuple(_ids(ignore or (), CITYSCAPES, f"{where}: ignore_cityscapes"))
    _check_ids(entries, sources, ignored, where, CITYSCAPES, ("cityscapes", "ignore_cityscapes"))
    return tuple(sources)


def _check_ids(
    entries: Sequence[Any],
    sources: Sequence[tuple[int, ...]],
    ignored: tuple[int, ...],
    where: str,
    labels: str,
    keys: tuple[str, str],
) -> None:
    """Refuse label ids that are named twice, and Cityscapes classes that are not named at all.

    Args:
        keys: of the ids of a class, and of those that are ignored.
    """
    seen: dict[int, str] = {}
    users = [*(f"class {entry['name']!r}" for entry in entries), f"{keys[1]!r}"]
    for name, ids in zip(users, [*sources, ignored], strict=True):
        for label_id in ids:
            if label_id in seen:
                what = f"{label_id} ({CLASSES[label_id]})" if labels == CITYSCAPES else label_id
                raise ConfigError(f"{where} names the label {what} twice, in {seen[label_id]} and {name}; remove one")
            seen[label_id] = name
    missing = [CLASSES[train_id] for train_id in range(len(CLASSES)) if train_id not in seen]
    if labels == CITYSCAPES and missing:
        raise ConfigError(
            f"{where} does not say what becomes of {', '.join(missing)}; add each to {keys[0]!r} of a class "
            f"or to {keys[1]!r}"
        )


def _ids(given: Any, labels: str, where: str) -> Iterator[int]:
    if not isinstance(given, (list, tuple)):
        raise ConfigError(f"{where} is {shown(given)}; give a list")
    for value in given:
        if labels == CITYSCAPES:
            if value in CLASSES:
                yield CLASSES.index(value)
                continue
            if not Whole(0, len(CLASSES) - 1).accepts(value):
                meant = did_you_mean(value[:60], CLASSES) if isinstance(value, str) else ""
                raise ConfigError(f"{where} lists {shown(value)}, which is not a Cityscapes class{meant}")
        else:
            LABEL_ID.check(where, value)
        yield value
