"""The experiment launcher: a child config with a name of its own."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.config import (
    DATA_PATH_KEYS,
    get_key,
    load_config,
    plain,
    set_root,
    uses_isr_fusion,
)
from mmseg.engine.environment import git_revision
from mmseg.errors import ConfigError
from mmseg.files import write_text

GENERATED_CONFIGS = Path("configs/generated/local-basic")
WORK_DIRS = Path("work_dirs/local-basic")


def experiment_name(name: str) -> str:
    """``<yymmdd_HHMM>_<name>_<5 hex>``, unique even within a minute."""
    return f"{time.strftime('%y%m%d_%H%M')}_{name}_{uuid.uuid4().hex[:5]}"


def write_child_config(base_config: str, name: str, root_path: str | None, cfg_options: Mapping[str, Any]) -> Path:
    """Write ``configs/generated/local-basic/<experiment name>.json`` below the working directory.

    The child holds its ``_base_`` and what differs from it. As in the published runs, the second fusion module
    is not built where nothing uses it.

    Raises:
        ConfigError: the base cannot be read, or the name cannot be a file name.
    """
    if not re.fullmatch(r"[^/\\\0\[]+", name):
        raise ConfigError(f"--name {name!r} cannot be a file name: leave out slashes and '['")
    base = load_config(base_config, cfg_options)
    full_name = experiment_name(name)
    path = GENERATED_CONFIGS / f"{full_name}.json"
    child: dict[str, Any] = {
        "_base_": Path(os.path.relpath(base_config, path.parent)).as_posix(),
        "name": full_name,
        "work_dir": (WORK_DIRS / full_name).as_posix(),
        "git_rev": git_revision() or "",
    }
    for key, value in cfg_options.items():
        _set(child, key, plain(value))
    if root_path:
        before = {key: get_key(base, key) for key in DATA_PATH_KEYS}
        set_root(base, root_path, cfg_options)
        for key, value in before.items():
            if get_key(base, key) != value:
                _set(child, key, get_key(base, key))
    if base.get("model", {}).get("fusion_isr_module") and not uses_isr_fusion(base.get("uda", {})):
        _set(child, "model.fusion_isr_module.type", "")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(child, indent=1) + "\n")
    return path


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        config = config.setdefault(part, {})
    config[last] = value
