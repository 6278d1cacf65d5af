"""Dotted keys, such as ``data.train.source.outputs``. Needs the standard library only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from typing import Any, Protocol


class Loaded(Protocol):
    """A loaded config, as ``mmengine.Config`` is."""

    def get(self, key: str) -> Any: ...

    def to_dict(self) -> dict[str, Any]: ...


def get_key(config: Mapping[str, Any] | Loaded, key: str) -> Any:
    """Value of a dotted key, or None where it is absent."""
    first, *parts = key.split(".")
    # Not to_dict(), which copies the whole config.
    node: Any = config.get(first)
    for part in parts:
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node


def set_key(config: MutableMapping[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in place; sections that are missing are made."""
    *parents, last = key.split(".")
    for part in parents:
        if not isinstance(config.get(part), MutableMapping):
            config[part] = {}
        config = config[part]
    config[last] = value


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of a config with their values; the mark of a section that replaces another is left out."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        elif key != "_delete_":
            yield f"{prefix}{key}", value


def is_below(key: str, sections: Collection[str]) -> bool:
    """Whether a dotted key is one of the sections, or in one."""
    parts = key.split(".")
    return any(".".join(parts[:i]) in sections for i in range(1, len(parts) + 1))
