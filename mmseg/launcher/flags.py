"""The launcher's flags: adding them to a parser, reading them, and what they change in a config."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any

from mmseg.errors import ConfigError, did_you_mean
from mmseg.launcher.flag_rules import Base
from mmseg.launcher.flag_table import BY_NAME, DAY_EVENTS, EXCLUSIVE, FLAGS, GROUPS, Flag


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag, by group. Values stay text until :func:`read_flags`, which has one kind of message."""
    for group, title in GROUPS.items():
        section = parser.add_argument_group(title)
        for flag in (flag for flag in FLAGS if flag.group == group):
            keys = ", ".join(dict.fromkeys((*flag.keys, *flag.more_keys)))
            kind: dict[str, Any] = {"action": "store_true"}
            if flag.reader:
                kind = {"metavar": flag.reader.metavar}
                if flag.default is not None:
                    kind |= {"nargs": "?", "const": True}
            text = f"{flag.help} [{keys}]" if keys else flag.help
            section.add_argument(f"--{flag.name}", default=argparse.SUPPRESS, help=text, **kind)


def given_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The flags of a command line, as written."""
    return {name: getattr(args, name) for name in BY_NAME if hasattr(args, name)}


def read_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """Read the values of flags.

    Args:
        given: flag -> its text or number, True for a switch.

    Raises:
        ConfigError: an unknown flag, a value that cannot be read, or flags that exclude each other.
    """
    values = {}
    for name, value in given.items():
        if name not in BY_NAME:
            raise ConfigError(f"the launcher has no flag --{name}{did_you_mean(name, BY_NAME)}")
        values[name] = BY_NAME[name].read(value)
    for first, second, reason in EXCLUSIVE:
        if first in values and second in values:
            raise ConfigError(f"--{first} and --{second} exclude each other: {reason}")
    source = values.get("day_events_generate")
    if source and not DAY_EVENTS[source][1] and "icd2en" in values:
        raise ConfigError(
            f"--day_events_generate {source} and --icd2en exclude each other: {source} translates nothing"
        )
    return values


def flag_changes(values: Mapping[str, Any], base: Base) -> dict[str, Any]:
    """Config key -> value, of what :func:`read_flags` returned.

    Raises:
        ConfigError: a flag that has no meaning for the base config, or whose files are missing.
    """
    changes: dict[str, Any] = {}
    # In the order of the table: a generator given by name overrides that of --day_events_generate.
    for flag in FLAGS:
        if flag.name in values:
            changes |= flag.changes(values[flag.name], base)
    return changes


def flag_notes(values: Mapping[str, Any], resolved: Base) -> list[str]:
    """Notes on values that nothing in the resolved config reads."""
    notes = []
    for flag in (BY_NAME[name] for name in values):
        reason = flag.unread(resolved) if flag.unread else ""
        if reason:
            said = "is written, but nothing reads it" if flag.keys else "changes nothing"
            notes.append(f"--{flag.name} {said}: {reason}")
    return notes


def naming_flags(message: str, values: Mapping[str, Any]) -> str:
    """A message about config keys, prefixed with the flags that wrote them.

    Args:
        message: the message of a check that knows nothing about flags.
        values: what :func:`read_flags` returned.
    """
    words = set(re.findall(r"\w+(?:\.\w+)+", message))

    def wrote(flag: Flag) -> bool:
        keys = (*flag.keys, *flag.more_keys)
        return any(word == key or word.startswith(f"{key}.") for key in keys for word in words)

    blamed = [f"--{name}" for name in values if wrote(BY_NAME[name])]
    return f"{' and '.join(blamed)}: {message}" if blamed else message


def name_prefix(values: Mapping[str, Any]) -> str:
    """Prefix that the flags give to an experiment's name."""
    return "".join(BY_NAME[name].prefix for name in values)
