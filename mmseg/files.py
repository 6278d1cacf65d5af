"""Writing files so that nobody ever meets a half-written one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes the real name when the block ends well.

    The temporary name keeps the suffix, since some writers choose their format by it, and holds the process
    number, so that two processes do not write into the same temporary file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


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
    """Write a UTF-8 text file atomically. Lines end as they do in ``text``, on every system."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
