"""Published data sets whose files become manifests, each by a module of its own.

Light to import: the help of ``tools/make_manifest.py`` shows names and options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONDITIONS = ("fog", "night", "rain", "snow")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Layout:
    """What a user can choose of a data set.

    Attributes:
        title: its name.
        module: module of this package with ``find(root, selection)``.
        required, optional: fields of :class:`Selection` that it reads; those of the first must be given.
        values: field -> its possible values.
    """

    title: str
    module: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class Selection:
    """What to take of a data set; None and () take everything.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        condition: conditions, such as ``night``.
        weather: weathers, such as ``clear``.
        time_of_day: ``day`` or ``night``.
        sequences: names of sequences.
        classes: ``11`` or ``19``: which label maps of DSEC-Semantic.
        names: text file with names of images.
        labels, events: name label maps and recordings.
        every, skip: leave out the first ``skip`` images of each sequence, then take every ``every``-th.
        converted: folder for label maps that must be converted.
    """

    split: str | None = None
    condition: tuple[str, ...] = ()
    weather: tuple[str, ...] = ()
    time_of_day: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()
    classes: str | None = None
    names: Path | None = None
    labels: bool = True
    events: bool = True
    every: int = 1
    skip: int = 0
    converted: Path = Path("labels")


LAYOUTS: dict[str, Layout] = {
    "acdc": Layout("ACDC", "acdc", ("split", "condition"), (), {"split": SPLITS, "condition": CONDITIONS}),
    "bdd100k": Layout("BDD100K", "bdd100k", ("names",)),
    "dsec": Layout("DSEC without labels", "dsec", (), ("sequences",)),
    "dsec-semantic": Layout(
        "DSEC-Semantic",
        "dsec_semantic",
        ("split",),
        ("classes", "sequences"),
        {"split": ("train", "test"), "classes": ("11", "19")},
    ),
    "muses": Layout(
        "MUSES",
        "muses",
        ("split",),
        ("weather", "time_of_day", "events"),
        {"split": SPLITS, "weather": ("clear", "fog", "rain", "snow"), "time_of_day": ("day", "night")},
    ),
    "nightcity": Layout("NightCity", "nightcity", ("split",), (), {"split": ("train", "val")}),
    "nighttime-driving": Layout("Nighttime Driving", "nighttime_driving"),
}
