"""The one reader of JSON: limited size and depth, and one clear message for any fault.

Needs only the standard library, so that light scripts can use it.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmseg.errors import CMDAError, DataError

# The largest JSON file of this project, the class statistics of Cityscapes, has about 3 MiB.
MAX_BYTES = 64 * 2**20
# The deepest JSON file of this project, a config, has 6 levels.
MAX_DEPTH = 64
KINDS: dict[type, str] = {dict: "object", list: "array"}
# Half of a UTF-16 character: a text with a lone one cannot be printed or be a path.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(
    path: str | Path,
    remedy: str = "",
    *,
    error: type[CMDAError] = DataError,
    kind: type = dict,
    max_bytes: int = MAX_BYTES,
) -> Any:
    """Read a JSON file (UTF-8, with or without a byte-order mark).

    Args:
        path: a regular file.
        remedy: what the user can do about an unusable file; ends the message.
        error: class of the error.
        kind: type that the file must hold, ``dict`` or ``list``; ``object`` for any value.
        max_bytes: larger files are refused without parsing.

    Raises:
        CMDAError: of class ``error``, one line: the file is missing, too large, too deep, not JSON, or holds another
            kind of value.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise error(_message(path, "is not a file", remedy))
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise error(_message(path, "does not exist", remedy)) from None
    except (OSError, ValueError) as problem:  # ValueError: a path with a null character
        why = getattr(problem, "strerror", None) or problem
        raise error(_message(path, f"cannot be read ({why})", remedy)) from problem
    if len(content) > max_bytes:
        raise error(_message(path, f"is larger than {max_bytes:,} bytes, the limit for its kind of file", remedy))
    return parse_json(content, path, remedy, error=error, kind=kind)


def parse_json(
    text: str | bytes,
    where: str | Path,
    remedy: str = "",
    *,
    error: type[CMDAError] = DataError,
    kind: type = dict,
    unique_keys: bool = False,
) -> Any:
    """Parse JSON text, with the limits and messages of :func:`read_json`.

    Args:
        text: text, or UTF-8 bytes.
        where: source of the text; begins the message.
        remedy, error, kind: as in :func:`read_json`.
        unique_keys: refuse objects in which a key occurs twice, of which JSON would keep the last.

    Raises:
        CMDAError: of class ``error``, one line.
    """
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        value = json.loads(decoded, object_pairs_hook=_unique if unique_keys else None)
        if _SURROGATE.search(decoded):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise error(_message(where, f"nests deeper than {MAX_DEPTH} levels", remedy)) from None
    except MemoryError:
        raise error(_message(where, "does not fit into memory", remedy)) from None
    except UnicodeError as problem:
        raise error(_message(where, f"is not JSON in UTF-8 ({_one_line(problem)})", remedy)) from None
    except ValueError as problem:
        raise error(_message(where, f"is not valid JSON ({_one_line(problem)})", remedy)) from None
    if _is_deeper(value, MAX_DEPTH):
        raise error(_message(where, f"nests deeper than {MAX_DEPTH} levels", remedy))
    if not isinstance(value, kind):
        raise error(_message(where, f"does not hold a JSON {KINDS[kind]}", remedy))
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice")
        found[key] = value
    return found


def _message(where: str | Path, problem: str, remedy: str) -> str:
    return f"{where} {problem}" + (f"; {remedy}" if remedy else "")


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:200]


def _inner(value: Any) -> Iterator[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (item for item in inner if isinstance(item, (dict, list)))


def _is_deeper(value: Any, limit: int) -> bool:
    """Whether a value has more than ``limit`` levels of objects and arrays; without recursion."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(limit):
        level = [item for outer in level for item in _inner(outer)]
        if not level:
            return False
    return bool(level)
