"""The table of weights that have a name, ``mmseg/weights.toml``, and what a text given for a weight file means."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmseg.errors import CheckpointError
from mmseg.system.text import printable
from mmseg.weights.addresses import Address, BadAddress, addresses_of, is_address, safe_name

TABLE = Path(__file__).resolve().parents[1] / "weights.toml"


@dataclass(frozen=True)
class Source:
    """One place where a file can be had.

    Attributes:
        text: address as it was written.
        sha256: of the file, 64 hexadecimal digits; '' if unknown.
        size: of the file in bytes, if known.
        by_hand: why a program cannot fetch it; '' if it can.
    """

    text: str
    sha256: str = ""
    size: int | None = None
    by_hand: str = ""

    def addresses(self) -> list[Address]:
        """See :func:`mmseg.weights.addresses.addresses_of`; none if a program cannot fetch it."""
        return [] if self.by_hand else addresses_of(self.text)


@dataclass(frozen=True)
class Reference:
    """Weights that are not given by path.

    Attributes:
        text: as the user wrote it.
        name: name for files and folders made from it.
        sources: where they can be had, in the order in which they are tried.
        what: description, '' if unknown.
    """

    text: str
    name: str
    sources: Sequence[Source]
    what: str = ""


@cache
def known_weights() -> dict[str, Reference]:
    """The table: name -> weights."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {
        name: Reference(
            name,
            safe_name(name.rpartition("/")[2]),
            tuple(
                Source(s["from"], s.get("sha256", ""), s.get("size"), s.get("by_hand", "")) for s in entry["sources"]
            ),
            entry["what"],
        )
        for name, entry in table.items()
    }


def reference_of(given: str | Path) -> Reference | None:
    """What a text given for a weight file means if it is not a path: an address, or a name of the table.

    An existing file or folder takes precedence over a name.

    Raises:
        CheckpointError: an address that cannot be used.
    """
    text = str(given)
    if is_address(text):
        try:
            addresses = addresses_of(text)
        except BadAddress as error:
            raise CheckpointError(f"{printable(text, keep='')}: {error}") from error
        return Reference(text, safe_name(addresses[0].file.rpartition(".")[0] or addresses[0].file), (Source(text),))
    known = known_weights().get(text)
    return known if known is not None and not Path(text).exists() else None


def folder_of(given: str | Path) -> Path:
    """Folder of what is made with a weight file: where the file is, or ``work_dirs/<name>`` if it is downloaded."""
    reference = reference_of(given)
    return Path(given).parent if reference is None else Path("work_dirs") / reference.name


def is_remote(given: object) -> bool:
    """Whether a value given for a weight file is an address or a known name rather than a path."""
    text = str(given) if isinstance(given, (str, Path)) else ""
    return is_address(text) or (text in known_weights() and not Path(text).exists())
