"""The published configs: where they lie, and their names."""

from __future__ import annotations

import os
from pathlib import Path

from mmseg.errors import did_you_mean
from mmseg.io.files import visible


def _configs_of(package: Path) -> Path:
    """An installed package holds the configs; in a clone they lie next to it."""
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


# As Python found this file, and with links followed.
PROJECT_CONFIGS = tuple(
    _configs_of(Path(place).parents[1]) for place in (os.path.abspath(__file__), os.path.realpath(__file__))
)
# Short names
TASKS = {
    "cs2dsec": "fusion/cs2dsec_image+events_together_b5.py",
    "cs2dz": "fusion/cs2dz_image+raw-isr_b5.py",
}
# Folders whose files cannot be trained
NO_CONFIGS = ("_base_", "experiments", "generated")


def published_configs() -> dict[str, Path]:
    """Name of a config, its file's without suffix -> path; by folder and name."""
    root = PROJECT_CONFIGS[0]
    folders = [path for path in visible(root, "*") if path.is_dir() and path.name not in NO_CONFIGS]
    return {path.stem: path for folder in folders for path in visible(folder, "*.py")}


def find_config(given: str | Path) -> Path:
    """Path of a config that is given by its path, or as a published one by its name.

    Args:
        given: an existing file is taken first. Else ``cs2dsec``, ``cs2dz`` or the name of a published config, or its
            path from ``configs/`` on, with or without suffix.

    Returns:
        The path; what was given if there is no such config.
    """
    path = Path(given)
    if path.is_file() or path.is_absolute() or not path.parts or ".." in path.parts:
        return path
    root = PROJECT_CONFIGS[0]
    if len(path.parts) == 1:
        named = TASKS.get(path.name)
        if named:
            return root / named
        # A stem may hold dots.
        known = published_configs()
        return known.get(path.name) or known.get(path.name.removesuffix(".py")) or path
    below = root.joinpath(*path.parts[path.parts[0] == "configs" :])
    candidates = (below, below.with_name(f"{below.name}.py"))
    return next((candidate for candidate in candidates if candidate.is_file()), path)


def similar_config(given: Path) -> str:
    """``", did you mean 'x'?"`` for the name of a published config that was misspelt, or an empty string."""
    return did_you_mean(given.stem, [*TASKS, *published_configs()]) if len(given.parts) == 1 else ""
