"""The one way from a published data set to the content of a manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmseg.errors import ConfigError, DataError, did_you_mean
from mmseg.preparation.layouts import LAYOUTS, Selection, acdc, bdd100k, dsec, dsec_semantic, muses, nightcity
from mmseg.preparation.layouts import nighttime_driving as driving
from mmseg.preparation.manifests import ManifestContent

FINDERS: dict[str, Callable[[Path, Selection], ManifestContent]] = {
    "acdc": acdc.find,
    "bdd100k": bdd100k.find,
    "dsec": dsec.find,
    "dsec-semantic": dsec_semantic.find,
    "muses": muses.find,
    "nightcity": nightcity.find,
    "nighttime-driving": driving.find,
}
# Field of a selection -> option of tools/make_manifest.py
OPTIONS = {
    "split": "--split",
    "condition": "--condition",
    "weather": "--weather",
    "time_of_day": "--time-of-day",
    "sequences": "--sequences",
    "classes": "--classes",
    "names": "--names",
    "events": "--without-events",
}


def find(name: str, root: Path, selection: Selection) -> ManifestContent:
    """Images, labels and events of a published data set.

    Args:
        name: key of :data:`.LAYOUTS`.
        root: folder of the data set.
        selection: what to take.

    Raises:
        ConfigError: an option that the layout does not have, lacks, or a value that it does not know.
        DataError: a wrong root, missing files, or nothing left.
    """
    _check(name, selection)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder of {LAYOUTS[name].title}")
    return FINDERS[name](root, selection)


def _check(name: str, selection: Selection) -> None:
    layout = LAYOUTS[name]
    known = (*layout.required, *layout.optional)
    options = ", ".join(OPTIONS[field] for field in known) or "none"
    for field, option in OPTIONS.items():
        given = getattr(selection, field) if field != "events" else not selection.events
        if given and field not in known:
            raise ConfigError(f"--layout {name} has no {option}; leave it out (its options: {options})")
        choices = (layout.values or {}).get(field, ())
        if not given and field in layout.required:
            raise ConfigError(f"--layout {name} needs {option}: {', '.join(choices) if choices else 'a file'}")
        for value in (given if isinstance(given, tuple) else (given,)) if given and choices else ():
            if value not in choices:
                meant = did_you_mean(value, choices)
                raise ConfigError(f"--layout {name}: {option} is {value!r}{meant}; known: {', '.join(choices)}")
