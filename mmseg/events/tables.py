"""Event recordings read completely into memory: ``.npz``, ``.csv``, ``.txt``, and the files of event cameras.

What a file declares is compared with what it holds, and with what fits into memory, before it is read.
"""

from __future__ import annotations

import math
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, TextIO

import numpy as np

from mmseg.errors import DataError
from mmseg.events.columns import (
    KEYS,
    MAX_EVENTS,
    EventFault,
    check_count,
    check_lengths,
    check_size,
    fault_of_type,
    faults_in,
)
from mmseg.io.read_errors import READ_ERRORS, cause

TABLE_SUFFIXES = (".npz", ".csv", ".txt")
CAMERA_SUFFIXES = (".raw", ".dat", ".aedat4")
NPZ_REMEDY = "save the arrays t (µs), x, y and p with numpy.savez"
CSV_REMEDY = "give lines t,x,y,p: microseconds, pixels, polarity; a first line of these names may set another order"
# Largest compression ratio of deflate; a file that declares a larger one is not genuine.
MAX_DEFLATION = 1032
# Names of columns in lower case; case is ignored.
COLUMN_NAMES = {
    **dict.fromkeys(("t", "time", "times", "timestamp", "timestamps", "ts", "t_us", "time_us", "timestamp_us"), "t"),
    **dict.fromkeys(("x", "col", "column", "x_pos"), "x"),
    **dict.fromkeys(("y", "row", "y_pos"), "y"),
    **dict.fromkeys(("p", "pol", "polarity", "on"), "p"),
}
MAX_LINE = 1 << 16
# Size that faery is asked to return if the file does not say its own.
_NO_SIZE = (65535, 65535)

Size = tuple[int, int]
Table = tuple[dict[str, np.ndarray], Size | None]


def read_event_table(path: Path) -> Table:
    """Read a whole recording.

    Args:
        path: file whose suffix is one of :data:`TABLE_SUFFIXES` or :data:`CAMERA_SUFFIXES`.

    Returns:
        Columns ``t`` (µs), ``x``, ``y``, ``p`` of equal length, and (height, width) if the file says it.

    Raises:
        DataError: a damaged file, or another format.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _read(_read_npz, path, "a readable .npz of numbers", NPZ_REMEDY)
    if suffix in TABLE_SUFFIXES:
        return _read(_read_csv, path, "a readable table of events", CSV_REMEDY)
    return _read(_read_camera_file, path, "a recording that faery reads", "export it again, or as .csv")


def _read(reader: Callable[[Path], Table], path: Path, what: str, remedy: str) -> Table:
    try:
        with faults_in(f"{path} holds", remedy):
            columns, size = reader(path)
            check_lengths(columns)
            return columns, check_size(*size) if size is not None else None
    except READ_ERRORS as error:
        raise DataError(f"{path} is not {what} ({cause(error)}); {remedy}") from error


# ------------------------------------------------------------------------------------------------ .npz


def _read_npz(path: Path) -> Table:
    with zipfile.ZipFile(path) as archive:
        members = _members(archive)
        missing = [key for key in KEYS if key not in members]
        if missing:
            held = ", ".join(sorted(members)[:8]) or "nothing"
            raise EventFault(f"no {', '.join(missing)}, but {held}")
        size = None
        if {"height", "width"} <= members.keys():
            size = (
                _whole_number(archive, members["height"], "height"),
                _whole_number(archive, members["width"], "width"),
            )
        return {key: _row(archive, members[key], key) for key in KEYS}, size


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Arrays of an archive by name. Some programs write ``./t.npy`` instead of ``t.npy``."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = str(PurePosixPath(info.filename))
        if info.is_dir() or not name.endswith(".npy"):
            continue
        if name.removesuffix(".npy") in members:
            raise ValueError(f"it holds two arrays named {name}")
        members[name.removesuffix(".npy")] = info
    return members


def _row(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str) -> np.ndarray:
    """One column of events."""
    return _array(archive, info, lambda shape, dtype: fault_of_type(key, dtype, len(shape)))


def _whole_number(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str) -> int:
    """One number, such as the height of the frame."""

    def fault(shape: Sequence[int], dtype: np.dtype) -> str:
        one = shape in ((), (1,)) and dtype.kind in "iuf"
        return "" if one else f"{key} is {shape} of {dtype}, not one number"

    value = _array(archive, info, fault).reshape(-1)[0].item()
    if value != value or value in (float("inf"), float("-inf")) or value != int(value):
        raise EventFault(f"a {key} of {value}")
    return int(value)


def _array(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, fault: Callable[[Sequence[int], np.dtype], str]
) -> np.ndarray:
    """Read an array of an archive, after a check of its shape and type.

    Args:
        fault: says why an array of a shape and type cannot be used; '' if it can.
    """
    if info.flag_bits & 1:
        raise ValueError("it is protected by a password")
    with archive.open(info) as member:
        shape, dtype = _header(member)
        wrong = fault(shape, dtype)
        if wrong:
            raise EventFault(f"an unusable column: {wrong}")
        count = int(np.prod(shape, dtype=object))
        check_count(count)
        size = count * dtype.itemsize
        gain = MAX_DEFLATION if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else math.inf
        if not 0 <= size <= min(info.file_size, gain * (info.compress_size + 1)):
            raise EventFault(f"less data in {info.filename} than the {size:,} bytes that it declares")
        content = member.read(size)
    if len(content) != size:
        raise EventFault(f"less data in {info.filename} than the {size:,} bytes that it declares")
    return np.frombuffer(content, dtype).reshape(shape)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array. Columns have one dimension, so the memory order does not matter."""
    version = np.lib.format.read_magic(member)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise EventFault(f"an array of format {version}, which columns of numbers do not need")
    shape, _, dtype = readers[version](member)
    return shape, dtype


# ------------------------------------------------------------------------------------------------ .csv, .txt


def _read_csv(path: Path) -> Table:
    # newline=None: accept the line ends of any system
    with path.open(encoding="utf-8-sig", newline=None) as file:
        head, first = _head(file)
    if not first:
        raise ValueError("it has no line of events")
    delimiter = _delimiter(first)
    count = len(_cells(first, delimiter))
    names = _names(head, count)
    if not names and count != len(KEYS):
        raise ValueError(f"it has {count} columns without names; t,x,y,p are {len(KEYS)}")
    with warnings.catch_warnings():
        # about a file without lines, which is an error here
        warnings.simplefilter("ignore", UserWarning)
        # float64 represents every microsecond of 285 years.
        table = np.loadtxt(
            path,
            np.float64,
            delimiter=delimiter,
            skiprows=len(head),
            ndmin=2,
            encoding="utf-8-sig",
            max_rows=MAX_EVENTS + 1,
        )
    columns = {key: table[:, (names or KEYS).index(key)] for key in KEYS}
    if not names:
        _check_unnamed(columns)
    return columns, None


def _head(file: TextIO) -> tuple[list[str], str]:
    """Lines before the first line of numbers (blank lines, comments, names), and that line; '' if there is none."""
    head: list[str] = []
    for line in iter(lambda: file.readline(MAX_LINE), ""):
        if len(line) == MAX_LINE:
            raise ValueError(f"it has a line of {MAX_LINE:,} or more characters")
        line = line.strip()
        named = any(map(_is_plain, head))
        if line and not line.startswith("#") and (named or not _is_name_line(line)):
            return head, line
        head.append(line)
    return head, ""


def _is_plain(line: str) -> bool:
    return bool(line) and not line.startswith("#")


def _is_name_line(line: str) -> bool:
    """Whether a line has letters that are not part of a number."""
    cells = _cells(line, _delimiter(line))
    return any(re.search(r"[^\W\d]", re.sub(r"nan|inf(inity)?|(?<=\d|\.)e(?=[-+]?\d)", "", cell)) for cell in cells)


def _delimiter(line: str) -> str | None:
    """Separator of the cells of a line; None for spaces and tabs."""
    return next((mark for mark in (",", ";") if mark in line), None)


def _cells(line: str, delimiter: str | None) -> list[str]:
    return [cell.strip().strip("\"'").strip().lower() for cell in line.split(delimiter)]


def _names(head: Sequence[str], count: int) -> list[str]:
    """Names of ``count`` columns from the lines above them; [] if there are none.

    Raises:
        ValueError: there are names, but they are ambiguous.
    """
    for line in filter(_is_plain, head):
        return _understood(_cells(line, _delimiter(line)), line, count)
    for line in reversed(head):
        words = [word for word in re.split(r"[#,;\s\"']+", line.lower()) if word]
        # a comment with at least two of the names is taken as the header
        if len({COLUMN_NAMES[word] for word in words if word in COLUMN_NAMES}) >= 2:
            return _understood(words, line, count)
    return []


def _understood(words: Sequence[str], line: str, count: int) -> list[str]:
    names = [COLUMN_NAMES.get(word, word) for word in words]
    if len(names) != count or any(names.count(key) != 1 for key in KEYS):
        raise ValueError(f"its names do not say which of {count} columns are t, x, y and p: {line[:80]!r}")
    return names


def _check_unnamed(columns: dict[str, np.ndarray]) -> None:
    """Columns without names are taken as t, x, y, p; refuse those whose last column cannot be a polarity."""
    t, p = columns["t"], columns["p"]
    other = ~np.isin(p, (-1, 0, 1))
    if other.any():
        event = int(np.argmax(other))
        falls = len(t) > 1 and (np.diff(t) < 0).any()
        order = "x,y,p,t, as Metavision writes them" if falls or p.max() > 1 else "another order"
        raise EventFault(
            f"columns without names that are not t,x,y,p: if they are {order}, add a line of names above them",
            event,
            f": p={p[event]:g}",
        )


# ------------------------------------------------------------------------------------------------ cameras


def _read_camera_file(path: Path) -> Table:
    try:
        import faery
    except ImportError as error:
        raise DataError(
            f"reading {path} needs the package faery, which cannot be imported ({error}); 'pip install faery', or "
            "convert the recording to .npz or .csv"
        ) from error
    with path.open("rb") as file:
        start = file.read(1)
    # Without a header, faery takes any bytes for events.
    if path.suffix.lower() != ".aedat4" and start != b"%":
        raise DataError(f"{path} does not start with a header as Prophesee's files do; export it again")
    try:
        stream = faery.events_stream_from_file(path, dimensions_fallback=_NO_SIZE)
        width, height = stream.dimensions()
        found = stream.to_array()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # faery raises bare exceptions, and a panic that is not an Exception
        raise ValueError(cause(error)) from error
    size = None if (width, height) == _NO_SIZE else (height, width)
    return {"t": found["t"], "x": found["x"], "y": found["y"], "p": found["on"]}, size
