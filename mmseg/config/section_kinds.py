"""Sections of which there are several kinds, each with keys of its own: optimisers and schedules."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmseg.config.dotted import Loaded, get_key, set_key
from mmseg.config.run import OPTIMIZER_OPTIONS, SCHEDULE_OPTIONS
from mmseg.errors import ConfigError

# Section -> the key that names its kind, and for each kind the keys that not every kind has.
KINDS: dict[str, tuple[str, Mapping[str, tuple[str, ...]]]] = {
    "optimizer": ("type", OPTIMIZER_OPTIONS),
    "lr_config": ("policy", SCHEDULE_OPTIONS),
}
DELETE = "_delete_"


def _of_others(section: str, kind: str) -> set[str]:
    """Keys of a section that its kind does not have."""
    keys = KINDS[section][1]
    return {name for names in keys.values() for name in names}.difference(keys[kind])


def check_kinds(config: Mapping[str, Any]) -> None:
    """Refuse keys that the kind of their section does not have.

    Raises:
        ConfigError: naming key, kind and remedy.
    """
    for section, (name, _) in KINDS.items():
        kind = config[section][name]
        unknown = sorted(_of_others(section, kind) & config[section].keys())
        if unknown:
            raise ConfigError(
                f"{section}.{unknown[0]} is not a setting of {kind}; leave it out. A config that inherits it drops all "
                f"keys of its base with {section}=dict(_delete_=True, ...)"
            )


def without_other_kinds(config: Loaded, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Options that, where they choose another kind of a section, drop what only the config's kind has.

    Args:
        config: what the options are for.
        options: dotted key -> value. Keys that they name themselves are kept, and checked later.

    Returns:
        The options, in which such a section is replaced as a whole, and a note for each.
    """
    changed, notes = dict(options), []
    for section, (name, kinds) in KINDS.items():
        present, given = get_key(config, section), _given(options, section)
        kind = given.get(name)
        if not isinstance(present, Mapping) or not isinstance(kind, str) or DELETE in given:
            continue
        if kind not in kinds or kind == present.get(name):
            continue
        dropped = sorted((_of_others(section, kind) & present.keys()) - given.keys())
        if not dropped:
            continue
        kept = Config({section: {key: value for key, value in present.items() if key not in dropped}})
        try:
            kept.merge_from_dict({section: given})
        except Exception:  # a value that does not fit, which is reported when the options are applied
            continue
        changed = {key: value for key, value in changed.items() if key.split(".")[0] != section}
        changed[section] = {**kept.to_dict()[section], DELETE: True}
        names = ", ".join(f"{section}.{key}" for key in dropped)
        notes.append(f"{section}.{name}={kind} drops {names} of {present.get(name)}")
    return changed, notes


def _given(options: Mapping[str, Any], section: str) -> dict[str, Any]:
    """What options give for a section."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        if key == section and isinstance(value, Mapping):
            found |= copy.deepcopy(dict(value))
        elif key.startswith(f"{section}."):
            set_key(found, key.removeprefix(f"{section}."), copy.deepcopy(value))
    return found
