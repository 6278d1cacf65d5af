"""Going on with a training that was stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.config import flat
from mmseg.config_keys import IGNORED_KEYS
from mmseg.config_kinds import is_whole
from mmseg.engine.checkpoint import iteration_of, newest_sound_checkpoint
from mmseg.errors import CheckpointError, DataError, address_remedy
from mmseg.json_files import parse_json

AUTO = "auto"
# differences that are named, and letters of each value
MOST_DIFFERENCES, LONGEST_VALUE = 50, 200
# Keys that may differ between a training and its resumption without a difference in its weights.
HARMLESS_KEYS = {
    "checkpoint_config",
    "data.workers_per_gpu",
    "data.train.source.cache",
    "data.train.target.cache",
    "data.val",
    "data.test",
    "evaluation",
    "exp",
    "git_rev",
    "load_from",
    "log_config",
    "log_level",
    "name",
    "resume_from",
    "uda.debug_img_interval",
    "work_dir",
    *IGNORED_KEYS,
}


def checkpoint_to_resume(given: str | None, work_dir: Path) -> tuple[Path | None, str]:
    """Which checkpoint a training goes on from.

    Args:
        given: a checkpoint; a work dir, for the newest in it; ``auto``, for the newest in the run's own work dir, if
            there is one; or None.
        work_dir: folder of the run.

    Returns:
        The checkpoint, None for a start from the beginning; and what to tell the user, or ''.

    Raises:
        CheckpointError: nothing at the given place, or damaged checkpoints alone.
    """
    if not given:
        return None, ""
    folder = work_dir if given == AUTO else Path(given)
    if given != AUTO and not folder.is_dir():
        if not folder.is_file():
            remedy = address_remedy(given) or "give a checkpoint, a work dir, or auto"
            raise CheckpointError(f"resume_from: {given} does not exist; {remedy}")
        return folder, ""
    path, damaged = newest_sound_checkpoint(folder)
    names = ", ".join(p.name for p in damaged)
    if path is None and damaged:
        raise CheckpointError(
            f"every checkpoint in {folder} is cut short or damaged ({names}); remove them to start from the beginning"
        )
    if path is None and given != AUTO:
        raise CheckpointError(f"{folder} holds no checkpoint iter_<n>.pth to resume from")
    return path, f"{names} in {folder} is cut short or damaged, so the one before is taken" if damaged else ""


def is_finished(path: Path, last: int) -> bool:
    """Whether the name of a checkpoint says that nothing is left to train."""
    return iteration_of(path) >= last


def differences(meta: Mapping[str, Any], config: Mapping[str, Any], processes: int) -> list[str]:
    """Settings that a checkpoint was made with and that are others now, as texts ``key: before -> now``.

    Args:
        meta: that of the checkpoint.
        config: the resolved config, in JSON types.
        processes: number of processes that train.
    """
    text = meta.get("config")
    try:
        before = parse_json(text if isinstance(text, str) else "", "the config in the checkpoint")
    except DataError:
        return ["the checkpoint's config: unreadable -> the one given now"]
    old, new = (dict(flat(c)) for c in (before, config))
    given = meta.get("processes")
    old["processes"], new["processes"] = given if is_whole(given) else processes, processes
    texts = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and not _is_harmless(key):
            texts.append(f"{_printable(key)}: {_printable(json.dumps(old.get(key)))} -> {json.dumps(new.get(key))}")
    if len(texts) > MOST_DIFFERENCES:
        texts = [*texts[:MOST_DIFFERENCES], f"and {len(texts) - MOST_DIFFERENCES} more"]
    return texts


def _printable(text: str) -> str:
    """A text of a checkpoint for a line of the log: without control characters, cut where it is long."""
    return ascii(text)[1:-1][:LONGEST_VALUE] if not text.isprintable() else text[:LONGEST_VALUE]


def _is_harmless(key: str) -> bool:
    parts = key.split(".")
    return any(".".join(parts[:i]) in HARMLESS_KEYS for i in range(1, len(parts) + 1))
