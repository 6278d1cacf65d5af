"""Untrusted text, such as names of files and runs, made safe for terminals, tables and file names. Light to import."""

from __future__ import annotations

import re
import unicodedata

# Characters not allowed in run names: path separators, and those that globs, configs and rich interpret.
FORBIDDEN_IN_NAMES = "/\\[]{}="
# Longest file name in bytes, and longest generated name, to which a date, an id and suffixes are added.
NAME_BYTES, MADE_NAME_BYTES = 255, 200
# Marks that change the text direction.
_DIRECTIONS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def natural_key(name: str) -> tuple:
    """Sorts names by the numbers in them: ``frame_2`` before ``frame_10``; equal numbers by the text."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def printable(text: str, keep: str = "\n\t") -> str:
    """The text with an escape such as ``\\x1b`` in place of every character that a terminal may interpret.

    These are control characters, direction marks, line separators, and bytes of a file name that are not valid text.

    Args:
        keep: control characters to keep.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or not _acts(c) else _escape(c) for c in text)


def _acts(character: str) -> bool:
    return character in _DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        # a byte that is not valid text, as Python represents it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii") if code < 0xD800 or code > 0xDFFF else f"\\u{code:04x}"


def name_fault(name: str) -> str:
    """Why a text cannot be a run name; '' if it can."""
    odd = next((c for c in name if c in FORBIDDEN_IN_NAMES or not (c.isprintable() or c == " ")), None)
    if odd is not None:
        return f"it holds {odd!r}: leave out control characters and {' '.join(FORBIDDEN_IN_NAMES)}"
    if not name.strip(" ."):
        return "nothing but dots and spaces is in it"
    if name != name.strip():
        return "it begins or ends with a space"
    size = len(name.encode("utf-8"))
    return f"it has {size} bytes, at most {NAME_BYTES} fit into the names of files" if size > NAME_BYTES else ""


def as_name(text: str) -> str:
    """The text as a run name, with ``_`` in place of characters that are not allowed."""
    kept = "".join("_" if c in FORBIDDEN_IN_NAMES or not c.isprintable() else c for c in text).strip()
    kept = kept.encode("utf-8")[:MADE_NAME_BYTES].decode("utf-8", "ignore").strip()
    return kept if kept.strip(".") else f"_{kept}"


def without_note(folder: str) -> str:
    """Name of a run from that of its folder, to which a note such as ``[best]`` may have been added."""
    return folder.split("[")[0]


def csv_cell(value: object) -> object:
    """A CSV cell that no spreadsheet interprets as a formula: text that begins like one is prefixed with ``'``.

    Numbers and a single ``-`` do not change.
    """
    if not isinstance(value, str):
        return value
    text = printable(value, keep="")
    return f"'{text}" if re.match(r"[=+@-]", text.lstrip()) and text.strip() != "-" else text


def markdown_cell(text: str) -> str:
    """A cell of a Markdown table; nothing in it ends the cell or starts an HTML element."""
    return printable(text, keep="").replace("|", r"\|").replace("<", "&lt;")
