"""Sections of a config: the keys they have, and how a whole config is checked and walked through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmseg.config.kinds import REQUIRED, Key, Kind, Off, Text, refuse, shown
from mmseg.errors import ConfigError, did_you_mean

# No component has a longer name.
LONGEST_NAME = 200


@dataclass(frozen=True)
class Section:
    """Keys, each with its kind.

    Attributes:
        keys: name -> key.
        made: dataclass that the keys were derived from, see :mod:`mmseg.config.fields`; None for a table.
    """

    keys: Mapping[str, Key]
    made: type | None = None
    text: str = field(default="a section of keys", init=False)

    def check(self, key: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise refuse(key, value, self)
        # single values first: their errors say more than those of sections
        for name, inner in sorted(value.items(), key=lambda item: isinstance(item[1], Mapping)):
            where = f"{key}.{name}" if key else name
            known = self.keys.get(name) if isinstance(name, str) else None
            if known is None:
                raise ConfigError(
                    f"unknown config key {shown(where)}{did_you_mean(str(name)[:LONGEST_NAME], self.keys)}"
                )
            if not (inner is None and known.none):
                known.kind.check(where, inner)


@dataclass(frozen=True)
class Variants:
    """A section whose keys depend on its ``type``.

    Attributes:
        what: what the types are, for messages: ``dataset``.
        types: type -> its keys. Other types are left to the registry, which knows them all.
        made: type -> dataclass of the section, see :mod:`mmseg.config.fields`.
    """

    what: str
    types: Mapping[str, Mapping[str, Key]]
    made: Mapping[str, type] = field(default_factory=dict)
    text: str = field(default="a section of keys", init=False)

    def check(self, key: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise refuse(key, value, self)
        kind = value.get("type")
        if kind is not None and not (isinstance(kind, str) and len(kind) <= LONGEST_NAME):
            raise ConfigError(f"{key}.type is {shown(kind)}; give the name of a {self.what}")
        if isinstance(kind, str) and kind in self.types:
            Section(self.section_keys(kind)).check(key, value)

    def describes(self, value: Mapping[str, Any]) -> bool:
        """Whether the keys of the section's type are known here."""
        return value.get("type") in self.types

    def value(self, values: Mapping[str, Any], name: str) -> Any:
        """Value of a key in a section, or its default; None where the type has no such key."""
        known = self.types.get(values.get("type", ""), {}).get(name)
        given = values.get(name)
        return known.default if given is None and known is not None else given

    def section_keys(self, kind: str) -> dict[str, Key]:
        """Keys of a type, and ``type`` itself."""
        own = Key(Text(f"the name of a {self.what}"), REQUIRED, f"which {self.what}")
        return {"type": own, **self.types[kind]}


@dataclass(frozen=True)
class MapOf:
    """A section of any names, each with a value of one kind."""

    item: Kind
    text: str = field(default="a section of keys", init=False)

    def check(self, key: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise refuse(key, value, self)
        for name, inner in value.items():
            if not isinstance(name, str) or not name:
                raise ConfigError(f"{key} has the key {shown(name)}; give a text")
            self.item.check(f"{key}.{name}", inner)


@dataclass(frozen=True)
class Sections:
    """A list of at most ``most`` sections."""

    item: Section | Variants
    most: int

    @property
    def text(self) -> str:
        return f"a list of at most {self.most} sections of keys"

    def check(self, key: str, value: Any) -> None:
        if not isinstance(value, (list, tuple)) or len(value) > self.most:
            raise refuse(key, value, self)
        for number, inner in enumerate(value):
            self.item.check(f"{key}[{number}]", inner)


@dataclass(frozen=True)
class Either:
    """A value that at least one of several kinds accepts."""

    kinds: tuple[Kind, ...]

    @property
    def text(self) -> str:
        return ", or ".join(kind.text for kind in self.kinds)

    def check(self, key: str, value: Any) -> None:
        errors = []
        for kind in self.kinds:
            try:
                return kind.check(key, value)
            except ConfigError as error:
                errors.append(error)
        # For a section, an error inside says more than "not the other kind".
        if isinstance(value, Mapping) and isinstance(self.kinds[-1], Section):
            raise errors[-1]
        raise refuse(key, value, self)


def walk(section: Section, prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Dotted keys of a section and of the sections inside it; keys of several variants appear once for each.

    The names of a :class:`MapOf` are written ``*``.
    """
    for name, key in section.keys.items():
        where = f"{prefix}{name}"
        yield where, key
        for inner in inner_sections(key.kind):
            yield from walk(inner, f"{where}.*." if isinstance(key.kind, MapOf) else f"{where}.")


def inner_sections(kind: Kind) -> list[Section]:
    if isinstance(kind, Either):
        return [section for inner in kind.kinds for section in inner_sections(inner)]
    if isinstance(kind, Variants):
        return [Section(kind.section_keys(name)) for name in kind.types]
    if isinstance(kind, MapOf):
        return inner_sections(kind.item)
    return [kind] if isinstance(kind, Section) else []


def check_complete(section: Section, values: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse checked values that lack a key without default.

    Raises:
        ConfigError: naming the key and the values it accepts.
    """
    for name, key in section.keys.items():
        if name not in values:
            if key.default is not REQUIRED:
                continue
            if not prefix and isinstance(key.kind, (Section, Variants)):
                raise ConfigError(f"the config has no section {name!r}; take one of configs/ as a base")
            raise ConfigError(f"the config lacks {prefix}{name}; give {key.kind.text}")
        inner = inner_section(key.kind, values[name])
        if inner:
            check_complete(inner, values[name], f"{prefix}{name}.")


def drop_unread(section: Section, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a checked section without keys that nothing reads and switches that are off."""
    kept = {}
    for name, value in values.items():
        key = section.keys[name]
        if not (key.unread or isinstance(key.kind, Off)):
            inner = inner_section(key.kind, value)
            kept[name] = drop_unread(inner, value) if inner else value
    return kept


def inner_section(kind: Kind, value: Any) -> Section | None:
    """The section that describes a value, if there is one."""
    if not isinstance(value, Mapping):
        return None
    if isinstance(kind, Variants):
        return Section(kind.section_keys(value["type"])) if kind.describes(value) else None
    if isinstance(kind, Either):
        return next((section for inner in kind.kinds if (section := inner_section(inner, value))), None)
    return kind if isinstance(kind, Section) else None
