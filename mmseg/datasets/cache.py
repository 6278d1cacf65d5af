"""Arrays computed once and read by every epoch: resized images, voxel grids.

A cache is a folder with one ``<array>.npy`` per array, one row per sample, and ``cache.json``, which records what it
was made from. Rows are read through the page cache, which all loader processes share. A dataset refuses a cache that is
unfinished, was made with other parameters, or whose source files have changed since.

A replacement is built in a folder inside the old cache; its files are then renamed over the old ones. A training that
has the old files open continues to read those.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mmseg.datasets.cache_record import RECORD, read_record
from mmseg.errors import CMDAError, ConfigError, DataError
from mmseg.io.file_work import run_tasks
from mmseg.io.files import atomic_path, is_bare, visible, write_text
from mmseg.io.read_errors import READ_ERRORS, cause

FULL, HALF = "float32", "float16"
# Raised when the meaning of the stored numbers changes.
FORMAT = 1
# Subfolder in which the replacement of a cache is built.
REPLACEMENT = "replacement"
# A change is detected by a file's size and its content in this many blocks, from head to tail.
BLOCKS, BLOCK_BYTES = 64, 16384
# Rows between two records of the progress.
ROWS_PER_RECORD = 64


@dataclass(frozen=True)
class CacheLayout:
    """Contents of the cache of a dataset.

    Attributes:
        where: config key of the dataset, for messages.
        parameters: name -> value (JSON) of everything besides the source files that the numbers depend on.
        rows: name of each row.
        root: folder that the recorded source paths are relative to, so that data may move with its cache.
        sources: files that the numbers are computed from.
        arrays: name -> (shape of a row, dtype). A cache may hold float16 for a float32 array.
    """

    where: str
    parameters: Mapping[str, Any]
    rows: list[str]
    root: Path
    sources: list[Path]
    arrays: Mapping[str, tuple[tuple[int, ...], str]]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        per_row = (math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.arrays.values())
        return len(self.rows) * sum(per_row)

    def with_float16(self) -> CacheLayout:
        """The same layout with float16 for float32."""
        arrays = {n: (shape, HALF if dtype == FULL else dtype) for n, (shape, dtype) in self.arrays.items()}
        return replace(self, arrays=arrays)

    def description(self) -> dict[str, Any]:
        """The part that must be equal for a cache and the dataset that reads it, as JSON data."""
        arrays = {name: [list(shape), dtype] for name, (shape, dtype) in self.arrays.items()}
        return {"format": FORMAT, "parameters": dict(self.parameters), "arrays": arrays, "rows": self.rows}


@runtime_checkable
class Cacheable(Protocol):
    """A dataset that :func:`build_cache` can make a cache of."""

    def __len__(self) -> int:
        """Number of samples."""

    def cache_layout(self) -> CacheLayout:
        """Contents of its cache."""

    def cache_row(self, index: int) -> dict[str, np.ndarray]:
        """Compute a row of each array, by name."""


def file_mark(path: Path) -> list[Any]:
    """[size, modification time in ns, digest of :data:`BLOCKS` blocks from head to tail] of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        state = path.stat()
        with open(path, "rb") as stream:
            digest = hashlib.blake2b(digest_size=16)
            step = max(BLOCK_BYTES, -(-(state.st_size - BLOCK_BYTES) // (BLOCKS - 1)))
            for start in range(0, state.st_size, step):
                stream.seek(min(start, max(0, state.st_size - BLOCK_BYTES)))
                digest.update(stream.read(BLOCK_BYTES))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): add the file") from error
    return [state.st_size, state.st_mtime_ns, digest.hexdigest()]


def _changed(path: Path, mark: list[Any]) -> bool:
    """Whether a file differs from its mark. Copied data has new times but the same content."""
    try:
        state = path.stat()
    except OSError:
        return True
    if [state.st_size, state.st_mtime_ns] == mark[:2]:
        return False
    return state.st_size != mark[0] or file_mark(path)[2] != mark[2]


def _source_names(layout: CacheLayout) -> dict[str, Path]:
    return {os.path.relpath(path, layout.root): path for path in layout.sources}


def difference(record: Mapping[str, Any], layout: CacheLayout) -> str:
    """Why a cache does not fit a dataset; '' if it does. It may hold more arrays than needed."""
    wanted = layout.description()
    if record["format"] != FORMAT:
        return f"it has format {record['format']}, this program reads {FORMAT}"
    made_with, needs = record["parameters"], wanted["parameters"]
    other = [key for key, value in needs.items() if made_with.get(key) != value]
    if other:
        made, asked = ({key: part.get(key) for key in other} for part in (made_with, needs))
        return f"it was made with {_words(made)}, the config says {_words(asked)}"
    half = layout.with_float16().description()["arrays"]
    unlike = [name for name, array in wanted["arrays"].items() if record["arrays"].get(name) not in (array, half[name])]
    if unlike:
        return f"it holds {_words(record['arrays'])}, the config needs {_words(wanted['arrays'])}"
    if record["rows"] != wanted["rows"]:
        has, wants = set(record["rows"]), set(wanted["rows"])
        first = min(wants - has or has - wants, default="their order")
        return f"it has {len(has)} samples, the config {len(wants)} (look at {first})"
    sources = _source_names(layout)
    changed = [
        path
        for name, path in sources.items()
        if name not in record["sources"] or _changed(path, record["sources"][name])
    ]
    return f"{len(changed)} of its source files have changed, the first is {changed[0]}" if changed else ""


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


class ArrayCache:
    """A finished cache, open for reading.

    Its files are opened at once, so a later replacement does not affect it. A process that receives a pickled copy
    opens them by name, and refuses a cache that was replaced in the meantime.

    Args:
        folder: the cache.
        layout: contents that the dataset needs.

    Raises:
        ConfigError: there is no such cache, or it does not fit.
        DataError: it is damaged, or is being replaced.
    """

    def __init__(self, folder: str | Path, layout: CacheLayout) -> None:
        self.folder = Path(folder)
        key = f"{layout.where}.cache={str(self.folder)!r}"
        make = "make it with python tools/cache_events.py CONFIG"
        record = read_record(self.folder)
        if record is None:
            raise ConfigError(f"{key}: there is no cache; {make}, or set the key to None")
        unlike = difference(record, layout)
        if unlike:
            raise ConfigError(f"{key} is stale: {unlike}; {make} --force, or set the key to None")
        if record["finished"] != len(layout.rows):
            raise ConfigError(f"{key} is unfinished, {record['finished']} of {len(layout.rows)} samples; {make}")
        self._names = tuple(layout.arrays)
        self._record = record
        self._arrays: dict[str, np.ndarray] | None = self._open_all()

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a memory map would copy the whole file.
        return {**self.__dict__, "_arrays": None}

    def _open_all(self) -> dict[str, np.ndarray]:
        """Open all arrays and check that they belong to the record."""
        arrays = {name: self._open(name) for name in self._names}
        if read_record(self.folder) != self._record:
            raise DataError(f"cache {self.folder} was replaced while in use: start again")
        return arrays

    def _open(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        again = "make the cache again with python tools/cache_events.py CONFIG --force"
        shape, dtype = self._record["arrays"][name]
        if not path.is_file():
            raise DataError(f"{path} does not exist: {again}")
        try:
            # Not numpy.load, which also reads archives and pickles.
            array = np.lib.format.open_memmap(path, mode="r")
        except READ_ERRORS as error:
            raise DataError(f"{path} cannot be read ({cause(error)}): {again}") from error
        if array.shape != (len(self._record["rows"]), *shape) or array.dtype != dtype or not array.flags.c_contiguous:
            raise DataError(f"{path} is {array.dtype}{array.shape}, unlike {RECORD}; {again}")
        return array

    def __contains__(self, name: str) -> bool:
        """Whether rows of an array can be read."""
        return name in self._names

    def row(self, name: str, index: int) -> np.ndarray:
        """One row of an array, read-only; only what is accessed is loaded."""
        if self._arrays is None:
            self._arrays = self._open_all()
        return self._arrays[name][index]


def build_cache(
    folder: str | Path, dataset: Cacheable, nproc: int = 1, force: bool = False, float16: bool = False, title: str = ""
) -> str:
    """Make the cache of a dataset, or finish it.

    Args:
        folder: created if missing.
        dataset: dataset without a cache.
        nproc: number of processes.
        force: replace a cache that does not fit.
        float16: store floating-point numbers in 16 bits, with a relative error of at most 2^-11.
        title: title of the progress bar.

    Returns:
        ``written`` or ``kept``.

    Raises:
        ConfigError: the folder holds something else.
        DataError: a source cannot be read, or the disk is full.
    """
    folder, layout = Path(folder), dataset.cache_layout()
    layout = layout.with_float16() if float16 else layout
    first = _rows_to_keep(folder, layout, force)
    if first == len(layout.rows):
        return "kept"
    try:
        if first == 0 and (folder / RECORD).exists():
            replacement = folder / REPLACEMENT
            _fill(replacement, layout, dataset, _rows_of_replacement(replacement, layout), nproc, title)
            _replace(folder, replacement)
        else:
            _fill(folder, layout, dataset, first, nproc, title)
    except OSError as error:
        raise DataError(f"cache {folder} cannot be written ({error.strerror or error})") from error
    return "written"


def _rows_of_replacement(replacement: Path, layout: CacheLayout) -> int:
    """Number of finished rows of an earlier replacement of a cache; one that does not fit is removed."""
    try:
        return _rows_to_keep(replacement, layout, False)
    except CMDAError:
        shutil.rmtree(replacement)
        return 0


def _replace(folder: Path, replacement: Path) -> None:
    """Rename the files of a finished cache over those of an older one; processes that read the old ones keep them."""
    old, new = read_record(folder), read_record(replacement)
    if old is None or new is None:
        raise DataError(f"cache {folder} lost its {RECORD} while it was being replaced: start again")
    # Until the last line the folder holds files of both, so readers must find an unfinished cache.
    write_text(folder / RECORD, _as_text({**old, "finished": 0}))
    for name in new["arrays"]:
        os.replace(replacement / f"{name}.npy", folder / f"{name}.npy")
    os.replace(replacement / RECORD, folder / RECORD)
    for name in old["arrays"].keys() - new["arrays"].keys():
        (folder / f"{name}.npy").unlink(missing_ok=True)
    shutil.rmtree(replacement, ignore_errors=True)


def _rows_to_keep(folder: Path, layout: CacheLayout, force: bool) -> int:
    """Number of rows that an earlier run finished.

    Raises:
        ConfigError: the folder holds something else, and ``force`` is not set.
    """
    record = read_record(folder)
    if record is None:
        if folder.is_dir() and not is_bare(folder):
            raise ConfigError(f"{folder} is not empty and holds no cache: give another folder")
        return 0
    unlike = difference(record, layout)
    if not unlike and not layout.description()["arrays"].items() <= record["arrays"].items():
        unlike = f"it holds {_words(record['arrays'])}"
    if unlike and not force:
        raise ConfigError(f"cache {folder} is stale: {unlike}; --force replaces it, --out puts the new one elsewhere")
    paths = [folder / f"{name}.npy" for name in layout.arrays]
    whole = all(path.is_file() and not path.is_symlink() for path in paths)
    return record["finished"] if whole and not unlike and not force else 0


def _fill(folder: Path, layout: CacheLayout, dataset: Cacheable, first: int, nproc: int, title: str) -> None:
    """Write the rows from ``first`` on; if ``first`` is 0, the arrays are created first."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = _source_names(layout)
    record = {**layout.description(), "finished": first, "sources": {n: file_mark(p) for n, p in sources.items()}}
    if first == 0:
        _check_room(folder, layout)
        # No record while the arrays are being created.
        (folder / RECORD).unlink(missing_ok=True)
        for name, (shape, dtype) in layout.arrays.items():
            # Under a temporary name first, so that an existing link is not followed.
            with atomic_path(folder / f"{name}.npy") as temporary:
                np.lib.format.open_memmap(temporary, "w+", dtype, (len(layout.rows), *shape)).flush()
        _write_record(folder, record)
    work = functools.partial(_write_row, folder, layout, dataset)
    for row, outcome in run_tasks(work, range(first, len(layout.rows)), nproc, title):
        if isinstance(outcome, DataError):
            raise outcome
        record["finished"] = row + 1
        if (row + 1) % ROWS_PER_RECORD == 0 or row + 1 == len(layout.rows):
            _write_record(folder, record)


def _check_room(folder: Path, layout: CacheLayout) -> None:
    """Check that a new cache fits on the disk."""
    free = shutil.disk_usage(folder).free
    if free >= layout.size:
        return
    size = f"cache {folder} needs {layout.size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
    if folder.name == REPLACEMENT:
        raise DataError(
            f"{size} in addition to the cache that it replaces: free space, or remove the old cache if nothing reads it"
        )
    raise DataError(f"{size}: free space, or give another folder with --out")


def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Record how many rows are finished, once they are on the disk."""
    for name in record["arrays"]:
        with open(folder / f"{name}.npy", "rb+") as stream:
            os.fsync(stream.fileno())
    write_text(folder / RECORD, _as_text(record))


def _as_text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=0) + "\n"


def _write_row(folder: Path, layout: CacheLayout, dataset: Cacheable, index: int) -> None:
    """Compute a row and write it; not through a memory map, since a full disk would then kill the process."""
    computed = dataset.cache_row(index)
    for name, (shape, dtype) in layout.arrays.items():
        row = np.ascontiguousarray(computed[name], dtype)
        if row.shape != shape:
            raise DataError(f"{layout.rows[index]}: {name} has shape {row.shape}, not {shape}")
        path = folder / f"{name}.npy"
        try:
            with open(path, "rb+") as stream:
                header = path.stat().st_size - len(layout.rows) * row.nbytes
                stream.seek(header + index * row.nbytes)
                stream.write(row.data)
        except OSError as error:
            raise DataError(
                f"{path} cannot be written ({error.strerror}): the cache is complete up to this row; free "
                "space and run the same command again"
            ) from error


def directory_size(folder: Path) -> int:
    """Bytes of the files of a cache."""
    return sum(path.stat().st_size for path in visible(folder, "*") if path.is_file())
