"""The page of all config keys, written from the table: ``python -m mmseg.config.reference > docs/config_keys.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmseg.config.keys import CONFIG
from mmseg.config.kinds import REQUIRED, Key, Off
from mmseg.config.sections import MapOf, Section, Variants, inner_sections

# Sections whose keys are those of another one.
SAME_AS = {
    "data.train.target": "data.train.source",
    "data.val": "data.train.source",
    "data.test": "data.train.source",
    "model.backbone_image": "model.backbone",
    "model.backbone_events": "model.backbone",
    "model.fusion_isr_module": "model.fusion_module",
}
HEADER = """# Config keys

Every key that a config may have, with the values it accepts and its default. `*` stands for any name. Keys that depend
on the `type` of their section are listed with it. This page is written by `python -m mmseg.config.reference`.

| Key | Default | Accepts | What it does |
|---|---|---|---|
"""


def keys_page() -> str:
    """Markdown page with one row per key that is read and that can have more than one value."""
    rows: dict[str, list[str]] = {}
    for name, key, kind in _walk(CONFIG):
        cells = [_default(key), key.kind.text + (", or None" if key.none else ""), key.help]
        row = f"| `{name}` | {' | '.join(cell.replace('|', ' or ') for cell in cells)} |"
        rows.setdefault(row, []).extend([kind] if kind else [])
    lines = [row[:-2] + f"{_types(types)} |" for row, types in rows.items()]
    return HEADER + "\n".join(lines) + "\n"


def _walk(section: Section, prefix: str = "", kind: str = "") -> Iterator[tuple[str, Key, str]]:
    """Dotted key, its description, and the ``type`` of the section that it needs."""
    for name, key in section.keys.items():
        where = f"{prefix}{name}"
        if key.unread or isinstance(key.kind, Off):
            continue
        yield where, key, kind
        if where in SAME_AS:
            continue
        inner = f"{where}.*." if isinstance(key.kind, MapOf) else f"{where}."
        if isinstance(key.kind, Variants):
            for type_name, own in key.kind.types.items():
                for part, needs in _by_type(key.kind, own, type_name):
                    yield from _walk(part, inner, needs)
        else:
            for part in inner_sections(key.kind):
                yield from _walk(part, inner, kind)


def _by_type(variants: Variants, own: Mapping[str, Key], name: str) -> Iterator[tuple[Section, str]]:
    """Keys of a type: those that all types have in the same form, and those that need this type."""
    keys = variants.section_keys(name)
    common = {k for k, known in keys.items() if all(variants.section_keys(t).get(k) == known for t in variants.types)}
    yield Section({k: keys[k] for k in keys if k in common}), ""
    yield Section({k: known for k, known in own.items() if k not in common}), name


def _default(key: Key) -> str:
    return "must be given" if key.default is REQUIRED else repr(key.default)


def _types(types: list[str]) -> str:
    names = list(dict.fromkeys(types))
    return f" ({', '.join(names)})" if names else ""


if __name__ == "__main__":
    print(keys_page(), end="")
