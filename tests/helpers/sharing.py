"""Folders that all test processes share, each filled once by the first process that needs it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


class SharedFolders:
    """Folders that tests read and never write to.

    Args:
        base: temporary folder of this process; those of parallel processes lie next to each other.
    """

    def __init__(self, base: Path) -> None:
        self.base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def __call__(self, name: str, make: Callable[[Path], object]) -> Path:
        """Folder of this name. ``make`` fills it, unless it is there; other processes wait until it has."""
        folder, complete = self.base / name, self.base / f"{name}.complete"
        with FileLock(self.base / f"{name}.lock"):
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                complete.touch()
        return folder
