"""Writing files so that nobody ever meets a half-written one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Bytes that the usual file systems give to a name, and to the endings that writers know.
LONGEST_NAME = 255
LONGEST_SUFFIX = 16


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes the real name when the block ends well.

    The temporary name keeps the suffix, since some writers choose their format by it, and holds the process
    number, so that two processes do not write into the same temporary file. It is no longer than a name may be
    wherever ``path`` itself is not.
    """
    path = Path(path)
    temporary = path.with_name(_temporary_name(path))
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _temporary_name(path: Path) -> str:
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= LONGEST_SUFFIX else ""
    end = f".{os.getpid()}.tmp{suffix}"
    if suffix == path.suffix and len(os.fsencode(path.stem)) + 1 + len(end) <= LONGEST_NAME:
        return f".{path.stem}{end}"
    # Long names that begin alike must not share one temporary file.
    end = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}{end}"
    # By characters: the bytes of one must not be torn apart.
    stem = path.stem
    while len(os.fsencode(stem)) + 1 + len(end) > LONGEST_NAME:
        stem = stem[:-1]
    return f".{stem}{end}"


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files of :func:`atomic_path` whose process was killed; those of live processes stay."""
    for path in Path(folder).glob(".*.tmp*"):
        number = path.name.split(".tmp")[0].rpartition(".")[2]
        if not number.isdigit():
            continue
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            with suppress(OSError):
                path.unlink()
        except OSError:
            continue


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically. Lines end as they do in ``text``, on every system.

    Bytes of file names that are no UTF-8 are written as they are.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
