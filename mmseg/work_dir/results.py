"""Where the results of a test go, so that those of another test stay."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.config.load import plain
from mmseg.errors import ConfigError, DataError
from mmseg.io.files import visible
from mmseg.io.json_files import read_json
from mmseg.work_dir.layout import TestFolder, WorkDir

# Parts of metrics.json that say what was tested, beside the name of the checkpoint.
SETTINGS = ("model", "options", "mode", "precision", "test_set")


def results_folder(
    parent: str | Path,
    model: str = "student",
    output: str | None = None,
    image_isr: bool = False,
    train_isr_parms: bool = False,
    split: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    precision: str = "fp32",
) -> Path:
    """Folder of a test's results by default: ``preds``, followed by what was chosen for the test.

    Options have a folder each, named by a number that is made of them; ``metrics.json`` in it spells them out.

    Args:
        parent: folder of the checkpoint.
        model, output, image_isr, train_isr_parms, split, cfg_options, precision: see :func:`mmseg.apis.testing.test`.
    """
    text = json.dumps(plain(dict(cfg_options or {})), sort_keys=True, default=str)
    names = [
        "teacher" if model == "teacher" else None,
        output,
        "image_isr" if image_isr else None,
        "train_isr_parms" if train_isr_parms else None,
        split,
        precision if precision != "fp32" else None,
        f"options_{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}" if cfg_options else None,
    ]
    return WorkDir(parent).predictions(tuple(filter(None, names))).path


def set_aside(out_dir: str | Path, tested: Mapping[str, Any], output: str) -> Path | None:
    """Rename a folder that holds the results of another test: of another checkpoint, with other options or data.

    Args:
        out_dir: folder that new results are to go to.
        tested: what is tested, as in ``metrics.json``.
        output: output that is tested.

    Returns:
        The new name of the old results, None where there is nothing to keep.

    Raises:
        ConfigError: the folder also holds files that are no results, or cannot be renamed.
    """
    results = TestFolder(os.path.abspath(out_dir))
    out_dir = results.path
    try:
        before = read_json(results.metrics)
        old, new = _identity(before), _identity({**plain(dict(tested)), "output": output})
    except (DataError, ValueError, AttributeError):
        return None
    if old == new:
        return None
    foreign = [path.name for path in visible(out_dir, "*") if not results.holds_result(path)]
    if foreign:
        raise ConfigError(
            f"{out_dir} holds the results of another test, and {foreign[0]}; choose another folder, so that they stay"
        )
    aside = f"{out_dir.name}_{Path(old['checkpoint']).stem or 'before'}"
    names = (out_dir.with_name(f"{aside}{number}") for number in ("", *(f"_{n}" for n in range(2, 10_000))))
    kept = next(path for path in names if not path.exists())
    try:
        out_dir.rename(kept)
    except OSError as error:
        raise ConfigError(f"{out_dir} cannot be renamed ({error.strerror}); choose another folder") from error
    return kept


def _identity(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What was tested, from ``metrics.json``; those of earlier versions had neither options, mode nor precision."""
    known = {key: metrics.get(key) for key in (*SETTINGS, "output")}
    known["options"] = known["options"] or {}
    known["mode"] = known["mode"] or "whole"
    known["precision"] = known["precision"] or "fp32"
    return json.loads(json.dumps({**known, "checkpoint": Path(str(metrics.get("checkpoint") or "")).name}, default=str))
