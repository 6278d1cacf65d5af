"""What ``--root_path`` of the scripts means to a config: its paths below one folder, and a word where they are not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg.config.keys import DATA_PATH_KEYS
from mmseg.config.load import get_key, set_root
from mmseg.errors import ConfigError
from mmseg.io.files import visible

DATASETS = ("cityscapes", "DSEC_Night", "dark_zurich")
# Folders above a given one that are looked at for the one that was meant.
LEVELS = 3


def use_root(config: Config, root: str | Path, options: Mapping[str, Any], for_training: bool = True) -> list[str]:
    """Point a config's paths below ``root``, in place, and say which ones lie elsewhere.

    Args:
        options: dotted keys that the user gave; they stay as they are.
        for_training: False looks at the test set only.

    Raises:
        ConfigError: see :func:`check_root`.
    """
    set_root(config, root, options)
    check_root(config, root, options, for_training)
    return outside_root(config, root, options, for_training)


def check_root(config: Config, root: str | Path, options: Mapping[str, Any], for_training: bool = True) -> None:
    """Refuse a root that is no folder, or below which nothing lies that a config names, whose paths were set to it.

    Raises:
        ConfigError: naming the folder that may have been meant.
    """
    root = Path(root)
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        raise ConfigError(f"--root_path {root} {state}; give the folder that holds data/ (and pretrained/)")
    paths = [path for _, path in _paths(config, options, for_training)]
    if not paths or (root / "data").is_dir() or any(_is_below(path, root) and path.exists() for path in paths):
        return
    likely = _likely_root(root)
    meant = f": {likely} holds one" if likely else ""
    raise ConfigError(f"--root_path {root} holds no folder data/, nor anything else that the config names{meant}")


def outside_root(config: Config, root: str | Path, options: Mapping[str, Any], for_training: bool = True) -> list[str]:
    """Lines on existing paths of a config that do not lie below the root, and so are read from where they are."""
    return [
        f"{key} is not below --root_path {root}; it is read from {path}"
        for key, path in _paths(config, options, for_training)
        if not _is_below(path, Path(root)) and path.exists()
    ]


def _paths(config: Config, options: Mapping[str, Any], for_training: bool) -> Iterator[tuple[str, Path]]:
    for key in DATA_PATH_KEYS:
        value = get_key(config, key)
        if isinstance(value, str) and value and key not in options and (for_training or key.startswith("data.test.")):
            yield key, Path(value)


def _is_below(path: Path, root: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root))


def _likely_root(root: Path) -> Path | None:
    """A folder around the given one, or in it, whose ``data/`` holds a data set."""
    above = Path(os.path.abspath(root)).parents[:LEVELS]
    candidates = [*above, *(path for path in visible(root, "*") if path.is_dir())]
    return next((path for path in candidates if any((path / "data" / name).is_dir() for name in DATASETS)), None)
