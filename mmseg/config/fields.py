"""Config sections as dataclasses: every field is a key with its kind, default and one line of help.

:func:`section_of` derives the table that the checks read from a dataclass; :func:`build` makes the object from checked
values. Needs the standard library only.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, TypeVar

from mmseg.config.kinds import REQUIRED, Key, Kind
from mmseg.config.sections import MapOf, Section, Variants, check_complete

T = TypeVar("T")
_KEY, _INLINE = "key", "inline"


def key(kind: Kind, default: Any, help: str, *, none: bool = False) -> Any:
    """Field of a section.

    Args:
        kind: what the key takes.
        default: its value where a config lacks it; ``REQUIRED`` for none.
        help: one line of what it does.
        none: whether a config may set it to None, which stands for the default.
    """
    return shared(Key(kind, default, help, none))


def section(cls: type, help: str, *, none: bool = False, required: bool = False) -> Any:
    """Field that holds another section.

    Args:
        required: a config must have it; it must in any case if one of its keys has no default.
    """
    kind = section_of(cls)
    required = required or any(known.default is REQUIRED for known in kind.keys.values())
    metadata = {_KEY: Key(kind, REQUIRED if required else None, help, none)}
    return field(metadata=metadata) if required else field(default_factory=cls, metadata=metadata)


def inline(cls: type) -> Any:
    """Field that groups keys which stand next to the other keys of the section itself."""
    return field(default_factory=cls, metadata={_INLINE: cls})


def shared(described: Key) -> Any:
    """Field of a key that several sections have."""
    metadata, default = {_KEY: described}, described.default
    if default is REQUIRED:
        return field(metadata=metadata)
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section_of(cls: type, also: Mapping[str, Key] | None = None) -> Section:
    """Keys of a dataclass.

    Args:
        also: further keys that a config may have and that are no fields, as nothing reads them.
    """
    keys: dict[str, Key] = {}
    for one in fields(cls):
        if _INLINE in one.metadata:
            keys.update(section_of(one.metadata[_INLINE]).keys)
        elif _KEY in one.metadata:
            keys[one.name] = one.metadata[_KEY]
    return Section({**keys, **(also or {})}, cls)


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass of a section from its checked values; what they lack or set to None has its default."""
    given: dict[str, Any] = {}
    for one in fields(cls):  # type: ignore[arg-type]  # every caller hands in a dataclass
        if _INLINE in one.metadata:
            given[one.name] = build(one.metadata[_INLINE], values)
        elif values.get(one.name) is not None:
            given[one.name] = _built(one.metadata[_KEY].kind, values[one.name])
    return cls(**given)


def parse(cls: type[T], where: str, values: Mapping[str, Any]) -> T:
    """Check the values of a section and build its dataclass.

    Args:
        where: dotted key of the section, for messages.

    Raises:
        ConfigError: naming the key, its value and what it takes.
    """
    kind = section_of(cls)
    kind.check(where, values)
    check_complete(kind, values, f"{where}.")
    return build(cls, values)


def _built(kind: Kind, value: Any) -> Any:
    """A value, with the dataclass in place of every section that has one."""
    if isinstance(kind, MapOf):
        return {name: _built(kind.item, inner) for name, inner in value.items()}
    made = None
    if isinstance(kind, Section):
        made = kind.made
    elif isinstance(kind, Variants):
        made = kind.made.get(value.get("type", ""))
    return value if made is None else build(made, value)
