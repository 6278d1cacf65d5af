"""Loops compiled by numba, whose machine code is kept between runs wherever a folder for it can be written."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache


class _ForgivingCache(FunctionCache):
    """Cache of one function that never ends a run: what it cannot read or write is compiled again."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # pickles of a damaged file raise anything
            self._forget()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        # A full disk, a folder that has become read-only, or a damaged index.
        try:
            super().save_overload(sig, data)
        except Exception:
            self.disable()

    def _forget(self) -> None:
        try:
            self.flush()
        except OSError:
            self.disable()


def compiled(function: Callable) -> Any:
    """Compile a function at its first call, without the interpreter's lock.

    The machine code is kept where numba keeps it (``__pycache__`` beside the source, else the user's cache), else in a
    folder of this user below the system's temporary one; where none can be written it is compiled in every process.
    """
    dispatcher = numba.njit(nogil=True)(function)
    # numba's own cache=True ends the import where it finds no folder.
    with suppress(RuntimeError):
        dispatcher._cache = _cache_of(function)
    return dispatcher


def _cache_of(function: Callable) -> FunctionCache:
    try:
        return _ForgivingCache(function)
    except RuntimeError:
        folder = _private_temporary_folder()
        if folder is None:
            raise
        numba.config.CACHE_DIR = str(folder)
        return _ForgivingCache(function)


def _private_temporary_folder() -> Path | None:
    """A folder that only this user can write, since what lies in it is run; None where there is no such folder."""
    user = os.geteuid() if hasattr(os, "geteuid") else None
    try:
        folder = Path(tempfile.gettempdir()) / f"cmda-compiled-{user}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError:
        return None
    is_private = user is None or (found.st_uid == user and not found.st_mode & 0o022)
    return folder if stat.S_ISDIR(found.st_mode) and is_private else None
