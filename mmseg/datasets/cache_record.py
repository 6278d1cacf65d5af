"""Reader of ``cache.json``, which records what a cache was made from; it may hold anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmseg.errors import DataError
from mmseg.io.json_files import read_json

RECORD = "cache.json"
# The record of 100,000 samples has about 10 MB.
MAX_RECORD_BYTES = 1 << 28


def read_record(folder: Path) -> dict[str, Any] | None:
    """``cache.json`` of a folder; None if it does not exist.

    Raises:
        DataError: it is damaged, or not a record.
    """
    path = folder / RECORD
    remedy = "remove the folder and make the cache again"
    try:
        path.stat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        pass  # read_json reports what is wrong
    record = read_json(path, remedy, max_bytes=MAX_RECORD_BYTES)
    missing = _RECORD_PARTS.keys() - record.keys()
    if missing:
        raise DataError(f"{path} lacks {', '.join(sorted(missing))}: {remedy}")
    for key, fits in _RECORD_PARTS.items():
        if not fits(record[key]):
            raise DataError(f"{path}: {key} has an unexpected value: {remedy}")
    if record["finished"] > len(record["rows"]):
        raise DataError(f"{path}: {record['finished']} of {len(record['rows'])} samples are finished: {remedy}")
    return record


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_array(value: Any) -> bool:
    """Whether a value is [shape of a row, dtype]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], list)
        and all(map(_is_count, value[0]))
        and isinstance(value[1], str)
    )


def _is_mark(value: Any) -> bool:
    """Whether a value has the form of the result of :func:`.file_mark`."""
    return isinstance(value, list) and len(value) == 3 and _is_count(value[0]) and isinstance(value[2], str)


_RECORD_PARTS: dict[str, Callable[[Any], bool]] = {
    "format": _is_count,
    "parameters": lambda value: isinstance(value, dict),
    "arrays": lambda value: isinstance(value, dict) and all(map(_is_array, value.values())),
    "rows": lambda value: isinstance(value, list) and all(isinstance(row, str) for row in value),
    "finished": _is_count,
    "sources": lambda value: isinstance(value, dict) and all(map(_is_mark, value.values())),
}
