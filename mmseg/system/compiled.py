"""Loops compiled by numba; their machine code is cached between runs if a folder for it can be written."""

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
    """Cache of a function that never ends a run: what it cannot read or write is compiled again."""

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
    """Compile a function at its first call; it runs without the interpreter lock.

    The machine code is cached in numba's usual place (``__pycache__`` next to the source, or the user's cache), or in a
    private folder in the system's temporary one. If none can be written, every process compiles it.
    """
    dispatcher: Any = numba.njit(nogil=True)(function)
    # With cache=True numba itself would fail at import if it finds no folder.
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
        numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]  # numba sets its options at import
        return _ForgivingCache(function)


def _private_temporary_folder() -> Path | None:
    """A folder that only this user can write, since its content is executed; None if there is none."""
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
