"""Configs of other layouts, recognised so that their users are not told to look for a misspelt key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from mmseg.errors import ConfigError

# Keys of MMSegmentation since 1.0; neither this project nor MMSegmentation 0.x has any of them.
KEYS_SINCE_1 = (
    "data_preprocessor",
    "default_hooks",
    "default_scope",
    "optim_wrapper",
    "param_scheduler",
    "test_dataloader",
    "test_evaluator",
    "train_dataloader",
    "val_dataloader",
    "val_evaluator",
    "visualizer",
)


def refuse_foreign_keys(where: str | Path, keys: Iterable[str]) -> None:
    """Refuse a config whose keys are those of MMSegmentation 1.x.

    Args:
        where: its file.
        keys: its top-level keys.

    Raises:
        ConfigError: naming the file, the key and the remedy.
    """
    found = sorted(set(KEYS_SINCE_1) & set(keys))
    if found:
        raise ConfigError(
            f"{where} is a config of MMSegmentation 1.x (it has {found[0]}); configs here have the layout of 0.x, with "
            "the sections model, data and uda: take one of configs/ as a base, and set its keys"
        )


def refuse_foreign_text(path: Path) -> None:
    """:func:`refuse_foreign_keys` for a config that cannot be read because its bases are missing.

    Raises:
        ConfigError: see there.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    keys = re.findall(r"""^ {0,2}["']?(\w+)["']?\s*[=:]""", text, re.MULTILINE)
    # Pure Python configs exist from 1.x on.
    refuse_foreign_keys(path, ["default_scope"] if re.search(r"\bread_base\(", text) else keys)
