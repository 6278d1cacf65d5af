"""Move a finished toy city into place, and remove an earlier one: only its own files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from mmseg.errors import DataError
from mmseg.io.files import write_text

FILES = "toy_city_files.txt"
# Folders that may hold only files of the city, since data sets are read from them.
DATA_SETS = ("data/cityscapes", "data/DSEC_Night", "data/night", "data/dark_zurich")


def files_below(folder: Path) -> list[str]:
    """Names of all files below a folder, relative to it, sorted."""
    found = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def place(work: Path, out: Path, later: Iterable[str], marker: str) -> None:
    """Move the files of a finished city from a work folder into place, replacing an earlier city.

    The list of files is moved first, then the marker, so that an interruption is detected and no file is lost track of.

    Args:
        work: folder of the finished city.
        out: destination.
        later: names of files still to be written, relative to ``out``.
        marker: name of the file that says whether a city is complete.

    Raises:
        DataError: a foreign file is in the way; nothing is changed.
        OSError: the destination cannot be written.
    """
    new = files_below(work)
    mine = sorted({*new, *later, FILES})
    old = _listed(out, {name for name in mine if "/" not in name})
    _check_way(out, mine, old)
    out.mkdir(parents=True, exist_ok=True)
    _write_list(out, {*mine, *old})
    os.replace(work / marker, out / marker)
    for name in old:
        if name not in (FILES, marker):
            with suppress(FileNotFoundError):
                (out / name).unlink()
    _remove_bare_folders(out, old)
    for name in new:
        if name != marker:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(work / name, out / name)
    _write_list(out, mine)


def _write_list(out: Path, names: Iterable[str]) -> None:
    write_text(out / FILES, "".join(f"{name}\n" for name in sorted(names)))


def _listed(out: Path, single: set[str]) -> list[str]:
    """Files of the city in a folder, from its list: those of data sets, and single ones with the given names."""
    try:
        lines = (out / FILES).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [line for line in lines if line in single or _is_of_data(line)]


def _is_of_data(name: str) -> bool:
    return name.startswith(tuple(f"{folder}/" for folder in DATA_SETS)) and ".." not in PurePosixPath(name).parts


def _check_way(out: Path, mine: Iterable[str], old: Iterable[str]) -> None:
    """Refuse to write through links, or to mix files of an unknown city with those of the new one.

    Raises:
        DataError: naming the file.
    """
    for folder in sorted({parent for name in (*mine, *old) for parent in PurePosixPath(name).parents}):
        place = out / folder
        if folder.parts and (place.is_symlink() or (place.exists() and not place.is_dir())):
            raise DataError(f"{place} is not a folder of a toy city: move it away, or give another folder")
    known = {*mine, *old}
    for name in mine if old else ():
        if name not in old and os.path.lexists(out / name):
            raise DataError(f"{out / name} does not belong to the toy city there: move it away, or give another folder")
    for name in DATA_SETS if not list(old) else ():
        for file in _all_below(out / name):
            if file.relative_to(out).as_posix() not in known:
                raise DataError(
                    f"{file} may belong to a toy city of an earlier version, which kept no list of its files: remove "
                    f"{out / name}, or give another folder"
                )


def _all_below(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where) / name for name in sorted(names))


def _remove_bare_folders(out: Path, names: Iterable[str]) -> None:
    """Remove folders of removed files if they are empty."""
    folders = {parent for name in names for parent in PurePosixPath(name).parents if parent.parts}
    for folder in sorted(folders, key=lambda path: -len(path.parts)):
        with suppress(OSError):
            (out / folder).rmdir()
