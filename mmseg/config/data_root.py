"""``--root-path`` of the scripts: moves the paths of a config below one folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.config import Config

from mmseg.config.components import TIMM_WEIGHTS
from mmseg.config.dotted import get_key
from mmseg.config.keys import DATA_PATH_KEYS
from mmseg.errors import ConfigError
from mmseg.io.files import visible
from mmseg.weights.table import is_remote

DATASETS = ("cityscapes", "DSEC_Night", "dark_zurich")
# Sections whose frame lists name data by their own paths, which are looked for below a root.
LIST_SECTIONS = ("data.train.target", "data.val", "data.test")
# Folders of the project at which paths of another machine are cut.
ANCHORS = ("data", "pretrained")
# How many parents of a wrong root are searched for the right one.
LEVELS = 3


def use_root(config: Config, root: str | Path, options: Mapping[str, Any], for_training: bool = True) -> list[str]:
    """Point a config's paths below ``root``, in place.

    Args:
        options: dotted keys that the user gave; they stay as they are.
        for_training: False considers the test set only.

    Returns:
        Notes on paths that lie elsewhere, see :func:`outside_root`.

    Raises:
        ConfigError: see :func:`check_root`.
    """
    set_root(config, root, options)
    check_root(config, root, options, for_training)
    return outside_root(config, root, options, for_training)


def set_root(config: Config, root: str | Path, options: Mapping[str, Any] | None = None) -> None:
    """Point the paths of data and weights below ``root``, in place.

    A path of another machine is cut at its folder ``data`` or ``pretrained``, a list at its file name; other relative
    paths are taken relative to ``root``. Existing paths are preferred. A path in ``options`` was given by the user of
    this machine and moves only if it does not exist. Files named by a list are looked for below ``root`` too.
    """
    for key in DATA_PATH_KEYS:
        value = get_key(config, key)
        if not isinstance(value, str) or value in ("", TIMM_WEIGHTS) or is_remote(value):
            continue
        if key in (options or {}) and Path(value).exists():
            continue
        candidates = _rooted(value, Path(root), is_list=key.endswith("_txt_path"))
        existing = [path for path in (*candidates, Path(value)) if path.exists()]
        config.merge_from_dict({key: str((existing or candidates or [Path(value)])[0])})
    for section in LIST_SECTIONS:
        key, path = f"{section}.root_path", get_key(config, f"{section}.dataset_txt_path")
        # The folder of the list is searched anyway.
        if path and key not in (options or {}) and (get_key(config, key) or Path(path).parent != Path(root)):
            config.merge_from_dict({key: str(root)})


def _rooted(value: str, root: Path, is_list: bool) -> list[Path]:
    """Paths below ``root`` that a path may mean, the likeliest first."""
    parts = PurePosixPath(value).parts
    anchored = [root.joinpath(*parts[i:]) for i, part in enumerate(parts) if part in ANCHORS]
    by_name = [root / parts[-1]] if is_list else []
    relative = [] if Path(value).is_absolute() else [root / value]
    return [*reversed(anchored), *by_name, *relative] if not is_list else [*by_name, *reversed(anchored), *relative]


def check_root(config: Config, root: str | Path, options: Mapping[str, Any], for_training: bool = True) -> None:
    """Refuse a root that is not a folder or holds nothing that the config, whose paths were set to it, names.

    Raises:
        ConfigError: naming the folder that was probably meant.
    """
    root = Path(root)
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        raise ConfigError(f"--root-path {root} {state}; give the folder that holds data/ (and pretrained/)")
    paths = [path for _, path in _paths(config, options, for_training)]
    if not paths or (root / "data").is_dir() or any(_is_below(path, root) and path.exists() for path in paths):
        return
    likely = _likely_root(root)
    meant = f": {likely} holds one" if likely else ""
    raise ConfigError(f"--root-path {root} holds no folder data/, nor anything else that the config names{meant}")


def outside_root(config: Config, root: str | Path, options: Mapping[str, Any], for_training: bool = True) -> list[str]:
    """Notes on existing paths of a config outside the root, which are read from where they are."""
    return [
        f"{key} is not below --root-path {root}; it is read from {path}"
        for key, path in _paths(config, options, for_training)
        if not _is_below(path, Path(root)) and path.exists()
    ]


def _paths(config: Config, options: Mapping[str, Any], for_training: bool) -> Iterator[tuple[str, Path]]:
    for key in DATA_PATH_KEYS:
        value = get_key(config, key)
        is_path = isinstance(value, str) and value and not is_remote(value)
        if is_path and key not in options and (for_training or key.startswith("data.test.")):
            yield key, Path(value)


def _is_below(path: Path, root: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root))


def _likely_root(root: Path) -> Path | None:
    """A parent or a subfolder whose ``data/`` holds a data set."""
    above = Path(os.path.abspath(root)).parents[:LEVELS]
    candidates = [*above, *(path for path in visible(root, "*") if path.is_dir())]
    return next((path for path in candidates if any((path / "data" / name).is_dir() for name in DATASETS)), None)
