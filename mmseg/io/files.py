"""Writing files atomically, without following links that somebody planted; finding and reading text files."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from mmseg.system.processes import host_mark, is_running

# Bytes of a temporary name: file systems allow 255, encrypted ones as few as 143.
STEM_BYTES = 40
SUFFIX_BYTES = 20
# Bytes of head and tail that identify a file.
MARK_BYTES = 1 << 20
# A temporary file of another machine is a leftover if it was not written to for this long, in seconds.
FOREIGN_LEFTOVER_AGE = 24 * 3600
# .<stem>.<machine>-<process>-<random>.tmp<suffix>; earlier versions wrote only the process number
_LEFTOVER = re.compile(r"\..*\.(?:(?P<host>[0-9a-f]{8})-(?P<pid>[0-9]+)-[0-9a-f]{12}|(?P<old>[0-9]+))\.tmp(?:\..*)?")

# Longest file name of common file systems, in bytes.
LONGEST_NAME = 255
# Follows the name of a file or folder that was put aside, before a number.
ASIDE = ".before_"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; it is renamed to ``path`` if the block succeeds.

    The temporary file is new and empty. Its name is unpredictable, so that no planted link is followed; it keeps the
    suffix, since some writers choose their format by it. The new file inherits the permissions of the one it replaces;
    a symbolic link itself is replaced, not its target. Output to a device or ``/dev/stdout`` is copied there at the
    end.

    Raises:
        IsADirectoryError: ``path`` is a folder.
        OSError: the folder cannot be written.
    """
    path = Path(path)
    if _is_stream(path):
        with _copied_to(path) as temporary:
            yield temporary
        return
    mode = _mode_of(path)
    temporary = create_temporary(path, mode)
    try:
        yield temporary
        if mode is not None:
            # the writer may have recreated the file
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _is_stream(path: Path) -> bool:
    """Whether a path is a device or an open stream, which no file can replace. Links elsewhere are not followed."""
    if str(path) in ("/dev/stdout", "/dev/stderr") or str(path).startswith(("/dev/fd/", "/proc/")):
        return path.exists()
    try:
        kind = path.lstat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(kind) or stat.S_ISBLK(kind)


@contextmanager
def _copied_to(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / f"content{path.suffix}"
        temporary.touch()
        yield temporary
        with temporary.open("rb") as source, path.open("ab") as target:
            shutil.copyfileobj(source, target)


def _mode_of(path: Path) -> int | None:
    """Permissions of a regular file; None for a missing file or a link.

    Raises:
        IsADirectoryError: it is a folder.
    """
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise IsADirectoryError(21, "Is a directory", str(path))
    return stat.S_IMODE(found) if stat.S_ISREG(found) else None


def create_temporary(path: Path, mode: int | None = None) -> Path:
    """Create an empty file with a unique name next to ``path``, with the given permissions or those of the umask."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= SUFFIX_BYTES else ""
    stem = os.fsencode(path.stem)[:STEM_BYTES].decode("utf-8", "ignore")
    while True:
        mark = f"{host_mark()}-{os.getpid()}-{secrets.token_hex(6)}"
        temporary = path.with_name(f".{stem}.{mark}.tmp{suffix}")
        try:
            descriptor = os.open(temporary, flags, 0o666 if mode is None else 0o600)
        except FileExistsError:
            continue
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        return temporary


def put_aside(path: str | Path) -> Path | None:
    """Rename a file or folder to ``<name>.before_<n>`` and return the new path; None if it does not exist."""
    path = Path(path)
    if not os.path.lexists(path):
        return None
    aside = name_aside(path)
    os.rename(path, aside)
    return aside


def name_aside(path: Path) -> Path:
    """The first free name ``<name>.before_<n>``."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}{ASIDE}{number}")):
        number += 1
    return aside


def remove_leftovers(folder: str | Path) -> None:
    """Remove temporary files of :func:`atomic_path` whose process is gone; those of live processes stay.

    Files that cannot be removed are skipped.
    """
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            match = _LEFTOVER.fullmatch(entry.name)
            with suppress(OSError):
                if match and not entry.is_dir(follow_symlinks=False) and _is_left_over(match, entry):
                    os.unlink(entry.path)


def _is_left_over(match: re.Match, entry: os.DirEntry) -> bool:
    if match["host"] in (None, host_mark()):
        return not is_running(int((match["pid"] or match["old"])[:20]))
    return abs(time.time() - entry.stat(follow_symlinks=False).st_mtime) > FOREIGN_LEFTOVER_AGE


@contextmanager
def temporary_folder(beside: str | Path) -> Iterator[Path]:
    """Yield a new folder next to a path, on the same file system; it is removed with its content at the end."""
    beside = Path(beside)
    stem = os.fsencode(beside.name)[:STEM_BYTES].decode("utf-8", "ignore")
    beside.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{stem}.", suffix=".partial", dir=beside.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def visible(folder: str | Path, pattern: str) -> list[Path]:
    """Paths below a folder that match a glob pattern, sorted, without hidden ones.

    Names that begin with a dot are companion files of macOS (``._x.png``), notes of file managers, or leftovers of
    interrupted runs, whatever their suffix.
    """
    folder = Path(folder)
    found = folder.glob(pattern)
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def is_bare(folder: Path) -> bool:
    """Whether a folder exists and holds only hidden files."""
    return folder.is_dir() and not visible(folder, "*")


def read_text(path: str | Path, errors: str = "strict") -> str:
    """Read a UTF-8 text file, with or without a byte-order mark; lines end in ``\\n``.

    Args:
        path: the file.
        errors: how to handle invalid bytes, as in :func:`open`.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read or is not UTF-8.
    """
    return Path(path).read_text(encoding="utf-8-sig", errors=errors)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically. Line ends are those of ``text`` on every system.

    Bytes of file names that are not UTF-8 are written unchanged.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def open_to_append(path: str | Path) -> TextIO:
    """Open a UTF-8 text file of a run for appending; it is created if missing.

    Raises:
        OSError: the path is a link, a folder, a pipe or a device, or the file cannot be written.
    """
    return os.fdopen(_append_descriptor(Path(path)), "a", encoding="utf-8")


def open_bytes_to_append(path: str | Path) -> BinaryIO:
    """As :func:`open_to_append`, for bytes."""
    return os.fdopen(_append_descriptor(Path(path)), "ab")


def _append_descriptor(path: Path) -> int:
    # Opening a pipe that nobody reads would block.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "it is not a regular file", str(path))
    return descriptor


def content_mark(path: str | Path) -> str:
    """Short digest of the size, head and tail of a file; the tail of a torch file holds the checksums of its parts."""
    found = hashlib.blake2b(digest_size=8)
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        found.update(str(size).encode())
        for start in (0, max(0, size - MARK_BYTES)):
            file.seek(start)
            found.update(file.read(MARK_BYTES))
    return found.hexdigest()


def digest(text: str) -> str:
    """Short digest of a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
