"""Opening HDF5 files of events: everything is checked before it is read, and faults are explained.

A file may declare any shape, have another program's layout, or point to other files. Nothing is read before its shape
and type are known to fit.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  h5py finds the Blosc filter of DSEC files only after this import
import numpy as np

from mmseg.errors import DataError
from mmseg.events.columns import KEYS, LATEST_TIME, fault_of_type
from mmseg.io.read_errors import READ_ERRORS, cause

DOWNLOAD_AGAIN = "Download it again."
CONVERT = (
    "Write its events as in DSEC: events/t (µs), events/x, events/y (pixels), events/p (polarity), each (N,), and "
    "t_offset (µs)."
)
INCOMPLETE = f"Download it again if it is one of DSEC's. {CONVERT}"
INSTALL_FILTER = (
    "That filter is not installed: set HDF5_PLUGIN_PATH to the folder of its plug-in, or rewrite the file with Blosc "
    "or gzip."
)
FILTER_NAMES = {36559: "ECF of Prophesee"}
# HDF5 unpacks whole chunks; those of DSEC have a few hundred KB.
MAX_CHUNK_BYTES = 1 << 29
# Most entries of ms_to_idx that are read, for more than two hours. The rest is not needed to find events.
MAX_MILLISECONDS = 1 << 23
LISTED_NAMES = 8
# No event camera has more; a map of them takes 128 MB.
MOST_PIXELS = 1 << 24


class H5Fault(ValueError):
    """Why an HDF5 file cannot be read, with the remedy as a sentence."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@contextmanager
def h5_reading(path: Path, kind: str, at: str = "") -> Iterator[None]:
    """Turn errors of h5py within the block into a DataError that explains them.

    Args:
        path: the file that is read.
        kind: what it should be, e.g. ``DSEC event file``.
        at: which part is read, e.g. ``events 3..9``, if the file was opened before.
    """
    try:
        yield
    except DataError:
        raise
    except READ_ERRORS as error:
        what, remedy = _matter(path, error)
        subject = f"{path} cannot be read at {at}" if at else f"{path} is not a readable {kind}"
        raise DataError(f"{subject} ({what}). {remedy}") from error


def open_h5(path: Path) -> h5py.File:
    """Open a file for reading; use it within :func:`h5_reading`."""
    if not os.path.isfile(path):
        # h5py would wait forever for the writer of a pipe
        raise H5Fault("it does not exist" if not os.path.lexists(path) else "it is not a file", "Add the file.")
    return h5py.File(path, "r")


def _matter(path: Path, error: BaseException) -> tuple[str, str]:
    """What is wrong with a file, and the remedy, judging by what h5py raised."""
    if isinstance(error, H5Fault):
        return str(error), error.remedy
    text = " ".join(str(error).split())
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return "permission denied", "Make it readable."
    if "unable to lock file" in text:
        return "it is locked", (
            "Close the program that writes it, or wait for it to finish; on a file system without locks, set the "
            "environment variable HDF5_USE_FILE_LOCKING=FALSE."
        )
    if "already open for write" in text or "consistency flags" in text:
        return "the program that wrote it did not close it", f"Run h5clear -s on it. {DOWNLOAD_AGAIN}"
    cut = re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", text)
    if cut:
        return f"it is truncated, {int(cut[1]):,} of {int(cut[2]):,} bytes", DOWNLOAD_AGAIN
    if "file signature not found" in text:
        return _no_signature(path)
    return cause(error), DOWNLOAD_AGAIN


def _no_signature(path: Path) -> tuple[str, str]:
    """What a file without the HDF5 signature is."""
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        return cause(error), "Make it readable."
    if not start:
        return "it is empty", DOWNLOAD_AGAIN
    if start.startswith(b"version https://git-lfs"):
        return "it is the pointer of a Git LFS file", "Download it again, or fetch it with git lfs pull."
    if start.startswith(b"<"):
        return "it is a web page saved under this name", DOWNLOAD_AGAIN
    return f"it is not an HDF5 file: it starts with {start[:12]!r}", DOWNLOAD_AGAIN


# ------------------------------------------------------------------------------------------------ parts of a file


def stored_array(file: h5py.File, name: str, remedy: str = DOWNLOAD_AGAIN) -> h5py.Dataset:
    """The dataset of a name, unread, checked to lie completely in this file.

    Raises:
        H5Fault: as in :func:`declared_array`; or its chunks are too large to unpack, or parts were never written.
    """
    found = declared_array(file, name, remedy)
    _check_storage(found, name)
    return found


def declared_array(file: h5py.File, name: str, remedy: str = DOWNLOAD_AGAIN) -> h5py.Dataset:
    """The dataset of a name, to check its shape and type.

    Raises:
        H5Fault: it is missing, is a link, or lies in other files.
    """
    parent: h5py.Group = file
    for part in name.split("/"):
        link = parent.get(part, getlink=True) if isinstance(parent, h5py.Group) else None
        if link is None:
            raise H5Fault(f"it has no {name}", remedy)
        if not isinstance(link, h5py.HardLink):
            raise H5Fault(f"its {name} is a link", "Copy the data into the file.")
        parent = parent[part]
    found = parent
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise H5Fault(f"its {name} is not an array", remedy)
    if found.is_virtual or found.external:
        # which may be missing, which h5py reads as zeros, or be any file of this machine
        raise H5Fault(f"its {name} lies in other files", "Copy the data into the file.")
    return found


def _check_storage(found: h5py.Dataset, name: str) -> None:
    """Check that all values can be read and were written; missing ones would be read as zeros."""
    creation = found.id.get_create_plist()
    for i in range(creation.get_nfilters()):
        code, _, _, title = creation.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            title = title.decode("utf-8", "replace") or FILTER_NAMES.get(code, "")
            raise H5Fault(f"its {name} is compressed with the HDF5 filter {code} {title}".rstrip(), INSTALL_FILTER)
    if found.chunks is None:
        written = not found.size or found.id.get_storage_size() > 0
    else:
        if math.prod(found.chunks) * found.dtype.itemsize > MAX_CHUNK_BYTES:
            raise H5Fault(
                f"its {name} has chunks of {found.chunks} values, too large to unpack", "Rewrite it with smaller ones."
            )
        expected = math.prod(-(-side // chunk) for side, chunk in zip(found.shape, found.chunks, strict=True))
        written = found.id.get_num_chunks() >= expected
    if not written:
        raise H5Fault(f"its {name} declares {found.shape} values, some of which were never written", DOWNLOAD_AGAIN)


def event_columns(file: h5py.File) -> dict[str, h5py.Dataset]:
    """``events/{t,x,y,p}``, unread: numeric columns of the same length.

    Raises:
        H5Fault: the file has another layout, or its columns have other types or different lengths.
    """
    columns = {key: _event_column(file, key) for key in KEYS}
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{count:,} {key}" for key, count in lengths.items())
        raise H5Fault(f"its columns have different lengths: {counts}", DOWNLOAD_AGAIN)
    return columns


def event_times(file: h5py.File) -> h5py.Dataset:
    """``events/t``, unread; errors as in :func:`event_columns`."""
    return _event_column(file, "t")


def _event_column(file: h5py.File, key: str) -> h5py.Dataset:
    _check_layout(file)
    column = stored_array(file, f"events/{key}", INCOMPLETE)
    fault = fault_of_type(key, column.dtype, column.ndim)
    if fault:
        raise H5Fault(f"events/{fault}", CONVERT)
    return column


def _check_layout(file: h5py.File) -> None:
    """Refuse layouts other than DSEC's, by name if they are known."""
    events = file["events"] if isinstance(file.get("events", getlink=True), h5py.HardLink) else None
    if isinstance(events, h5py.Group) and any(key in events for key in KEYS):
        return
    if "CD" in file:
        raise H5Fault("it has the layout of Prophesee's cameras, CD/events", CONVERT)
    if isinstance(events, h5py.Dataset):
        raise H5Fault(f"it has the layout of v2e: events is one table, {events.shape} of {events.dtype}", CONVERT)
    if isinstance(events, h5py.Group) and any(key in events for key in ("xs", "ts")):
        raise H5Fault("it has the layout of ESIM and E2VID: events/xs, ys, ts, ps", CONVERT)
    if "davis" in file:
        raise H5Fault("it has the layout of MVSEC, davis/left/events", CONVERT)
    if "prophesee" in file:
        raise H5Fault("it has the layout of M3ED, prophesee/left", CONVERT)
    names = [name for _, name in zip(range(LISTED_NAMES), file, strict=False)]
    raise H5Fault(f"it has no events/t, x, y, p; it holds {', '.join(map(repr, names)) or 'nothing'}", INCOMPLETE)


def time_offset(file: h5py.File, missing: int | None = None) -> int:
    """``t_offset`` in µs.

    Args:
        file: the recording.
        missing: value for a file without one; None refuses it.

    Raises:
        H5Fault: it is missing, or not a time.
    """
    if missing is not None and "t_offset" not in file:
        return missing
    found = stored_array(file, "t_offset")
    if found.size != 1 or found.dtype.kind not in "iuf":
        raise H5Fault(f"its t_offset is {found.shape} of {found.dtype}, not one number", DOWNLOAD_AGAIN)
    value = found[()].item() if found.shape == () else found[:].item()
    if not -LATEST_TIME <= value <= LATEST_TIME or value != int(value):
        raise H5Fault(f"its t_offset is {value}, not a time in µs", DOWNLOAD_AGAIN)
    return int(value)


def millisecond_index(file: h5py.File) -> np.ndarray:
    """``ms_to_idx``, (N,) integers of any sign, at most the first ``MAX_MILLISECONDS``; empty if missing.

    Raises:
        H5Fault: it is not a row of integers.
    """
    if "ms_to_idx" not in file:
        return np.empty(0, np.uint64)
    found = stored_array(file, "ms_to_idx")
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise H5Fault(f"its ms_to_idx is {found.shape} of {found.dtype}, not a row of integers", DOWNLOAD_AGAIN)
    return found[:MAX_MILLISECONDS]


def read_rectify_map(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read a map of raw pixels to rectified positions.

    Args:
        path: HDF5 file with ``rectify_map`` (height, width, 2): x and y of every raw pixel.
        size: (height, width) of the sensor.

    Returns:
        (height, width, 2) float32.

    Raises:
        DataError: naming the file and what is wrong.
    """
    with h5_reading(path, "rectify map"), open_h5(path) as file:
        found = declared_array(file, "rectify_map")
        # Shape and type come before the values: a file of 1 KB may declare any number of them.
        if found.shape != (*size, 2):
            raise DataError(f"{path}: rectify_map has shape {found.shape}, not {(*size, 2)}. {DOWNLOAD_AGAIN}")
        if found.dtype.kind not in "iuf":
            raise DataError(f"{path}: rectify_map is of type {found.dtype}, not numbers. {DOWNLOAD_AGAIN}")
        _check_storage(found, "rectify_map")
        with np.errstate(over="ignore"):
            rectify_map = found[:].astype(np.float32)
    broken = int((~np.isfinite(rectify_map)).any(axis=2).sum())
    if broken:
        raise DataError(
            f"{path}: {broken} of {math.prod(size)} positions of rectify_map are not finite. {DOWNLOAD_AGAIN}"
        )
    return rectify_map


def rectify_map_size(path: Path) -> tuple[int, int]:
    """(height, width) that a rectify map declares.

    Raises:
        DataError: it is not a map of positions.
    """
    with h5_reading(path, "rectify map"), open_h5(path) as file:
        shape = declared_array(file, "rectify_map").shape
    is_map = len(shape) == 3 and shape[2] == 2 and all(2 <= side < 1 << 16 for side in shape[:2])
    if not is_map or math.prod(shape[:2]) > MOST_PIXELS:
        raise DataError(f"{path}: rectify_map has shape {shape}, not (height, width, 2) of a sensor. {DOWNLOAD_AGAIN}")
    return shape[0], shape[1]
