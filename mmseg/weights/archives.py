"""Weights that were published as an archive, a work dir with its logs for example."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from mmseg.errors import CheckpointError
from mmseg.io.files import temporary_folder
from mmseg.io.read_errors import READ_ERRORS, cause
from mmseg.weights.addresses import safe_name

WEIGHTS = (".pth", ".pt", ".bin", ".safetensors")
# The config of a training lies next to its checkpoints.
KEPT = (*WEIGHTS, ".json")
MOST_FILES = 1000
SPARE = 64 << 20
# First bytes of archives that the standard library does not read.
UNREADABLE = {b"Rar!": "RAR", b"7z\xbc\xaf": "7z"}


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    open: Callable[[], Any]


def weights_in(path: Path) -> Path:
    """The file itself, or the weights in it if it is an archive, which is unpacked next to it.

    Only weights and JSON files are unpacked, below plain names.

    Raises:
        CheckpointError: it holds no weights or several, cannot be read, or does not fit on the disk.
    """
    with path.open("rb") as file:
        start = file.read(4)
    kind = UNREADABLE.get(start)
    if kind:
        raise CheckpointError(f"{path} is an archive of kind {kind}: unpack it, and give the file in it")
    folder = path.with_name(".unpacked")
    if not folder.is_dir():
        if not _is_archive(path, start):
            return path
        _unpack(path, start, folder)
    found = sorted(inner for inner in folder.rglob("*") if inner.suffix in WEIGHTS and inner.is_file())
    if len(found) != 1:
        what = "several weight files" if found else f"no file *{', *'.join(WEIGHTS)}"
        first = f" ({', '.join(str(inner) for inner in found[:3])})" if found else ""
        raise CheckpointError(f"{path} is an archive with {what}{first}; give the path of one")
    return found[0]


def _is_archive(path: Path, start: bytes) -> bool:
    """Whether it is an archive that is not itself a torch file, which is a zip archive too."""
    if start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                return not any(name.rpartition("/")[2] == "data.pkl" for name in archive.namelist())
        except READ_ERRORS:
            return False
    # Files of torch before 1.6 are pickles, or tar archives, which have no ending in common.
    return start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zX")) or _has_tar_mark(path)


def _has_tar_mark(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(257)
        return file.read(5) == b"ustar"


def _unpack(path: Path, start: bytes, folder: Path) -> None:
    try:
        with ExitStack() as opened, temporary_folder(folder) as temporary:
            members = list(_members(path, start, opened))
            _check_space(path, sum(member.size for member in members))
            for member in members:
                target = temporary.joinpath(*map(safe_name, PurePosixPath(member.name).parts[-2:]))
                target.parent.mkdir(exist_ok=True)
                with member.open() as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
            os.rename(temporary, folder)
    except (*READ_ERRORS, tarfile.TarError) as error:
        if isinstance(error, OSError) and folder.is_dir():
            return  # another process was faster
        raise CheckpointError(f"{path} is an archive that cannot be unpacked ({cause(error)}); get it again") from error


def _check_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed + SPARE > free:
        raise CheckpointError(
            f"{path}: unpacking takes {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free; free some space, or set "
            "CMDA_HOME to another folder"
        )


def _is_kept(name: str) -> bool:
    """Whether a file of an archive is unpacked: weights and configs, without the companion files of macOS."""
    path = PurePosixPath(name)
    return path.suffix in KEPT and not any(part.startswith("._") or part == "__MACOSX" for part in path.parts)


def _members(path: Path, start: bytes, opened: ExitStack) -> Iterator[_Member]:
    """Regular files in an archive that are kept; links, devices and folders are left out."""
    if start.startswith(b"PK"):
        archive = opened.enter_context(zipfile.ZipFile(path))
        kept = (info for info in archive.infolist() if not info.is_dir() and _is_kept(info.filename))
        for info in islice(kept, MOST_FILES):
            yield _Member(info.filename, info.file_size, partial(archive.open, info))
        return
    tape = opened.enter_context(tarfile.TarFile.open(path))
    for entry in islice((entry for entry in tape if entry.isreg() and _is_kept(entry.name)), MOST_FILES):
        yield _Member(entry.name, entry.size, partial(tape.extractfile, entry))
