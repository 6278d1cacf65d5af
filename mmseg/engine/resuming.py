"""Which checkpoint a training resumes from, and whether it belongs to the same run."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmseg.config.dotted import flat, is_below
from mmseg.config.keys import DATA_PATH_KEYS, IGNORED_KEYS
from mmseg.config.kinds import is_whole
from mmseg.engine.checkpoint import checkpoint_meta
from mmseg.errors import CheckpointError, DataError
from mmseg.io.json_files import parse_json
from mmseg.models.weights import has_right_checksums
from mmseg.uda.streams import VARIANT_KEY
from mmseg.weights.store import local_file
from mmseg.work_dir.identity import RunIdentity, read_identity, state_of
from mmseg.work_dir.layout import WorkDir

AUTO = "auto"
# Differences that are named, and characters of each value.
MOST_DIFFERENCES, LONGEST_VALUE = 50, 200
# Keys that a resumed training may change without a difference in its weights.
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

# Settings that make it a different run: --resume auto does not carry a checkpoint over to them.
OTHER_RUN_KEYS = ("seed", "model", "uda.type", VARIANT_KEY, "data.train.source.type", "data.train.target.type")

# Settings of how a run is computed, which do not make a finished one a different run.
HOW_KEYS = ("deterministic", "gradient_checkpointing", "micro_batch", "data.train.on_bad_sample")


@dataclass(frozen=True)
class Start:
    """Where a training starts.

    Attributes:
        identity: identity of the run; that of the resumed run if there is one.
        checkpoint: what to resume from; None for a new run.
        is_finished: whether nothing is left to train.
        remark: a warning for the user, or ''.
        seen: :func:`mmseg.work_dir.identity.state_of` the work dir before the choice.
    """

    identity: RunIdentity
    checkpoint: Path | None = None
    is_finished: bool = False
    remark: str = ""
    seen: tuple[str, ...] = ()


def choose_start(
    given: str | None, work_dir: Path, new: RunIdentity, config: Mapping[str, Any], processes: int
) -> Start:
    """Choose where a training starts.

    Args:
        given: a checkpoint, by path, address or name; a work dir, for its newest checkpoint; ``auto``, for the newest
            checkpoint of this run in its own work dir, if there is one; or None.
        work_dir: folder of the run.
        new: identity of the run if it is a new one.
        config: the resolved config in JSON types.
        processes: number of processes.

    Raises:
        CheckpointError: the given path does not exist, all checkpoints are damaged, or, for ``auto``, they belong to
            another run.
    """
    seen = state_of(work_dir)
    if not given:
        start = Start(new)
    elif given == AUTO:
        start = _own_start(work_dir, config, processes, new)
    else:
        start = _given_start(given, work_dir, new)
    return replace(start, seen=seen)


def _given_start(given: str, work_dir: Path, new: RunIdentity) -> Start:
    """Start from a given checkpoint or folder."""
    path, remark = local_file(given), ""
    if path.is_dir():
        found, remark = newest_of_run(path, read_identity(path))
        if found is None:
            raise CheckpointError(f"{path} holds no checkpoint iter_<n>.pth to resume from")
        path = found
    elif not path.is_file():
        raise CheckpointError(f"resume_from: {given} does not exist; give a checkpoint, a work dir, or auto")
    meta = checkpoint_meta(path)
    here = path.parent.resolve() == work_dir.resolve()
    return Start(new.continued_from(meta) if here and meta else new, path, remark=remark)


def _own_start(work_dir: Path, config: Mapping[str, Any], processes: int, new: RunIdentity) -> Start:
    """Start from the newest checkpoint in the run's own work dir.

    Raises:
        CheckpointError: it belongs to another run.
    """
    known = read_identity(work_dir)
    path, remark = newest_of_run(work_dir, known)
    if path is None:
        return Start(new, remark=remark)
    meta = checkpoint_meta(path) or {}
    identity = known or (RunIdentity.of_meta(meta) if meta else None) or (new.continued_from(meta) if meta else new)
    changed = changes(meta, config, processes)
    last = config["runner"]["max_iters"]
    is_over = meta.get("iter", -1) >= last
    another = [
        key
        for key in changed
        if not is_below(key, DATA_PATH_KEYS)
        and (is_below(key, OTHER_RUN_KEYS) or (is_over and key not in ("processes", "config", *HOW_KEYS)))
    ]
    if another:
        names = listed([changed[key] for key in another])
        raise CheckpointError(
            f"{path} is of another run, with other settings ({names}): choose another work dir, or give the "
            "checkpoint by name (--resume PATH) to start from it anyway"
        )
    return Start(identity, path, is_over, remark)


def newest_of_run(work_dir: Path, identity: RunIdentity | None) -> tuple[Path | None, str]:
    """Newest intact checkpoint of a run in its work dir, and a remark on newer ones that were passed over.

    Args:
        identity: the run; with None every checkpoint counts.

    Raises:
        CheckpointError: every checkpoint of the run is damaged.
    """
    damaged, foreign, found = [], [], None
    for path in reversed(WorkDir(work_dir).checkpoints()):
        meta = checkpoint_meta(path)
        if meta is not None and identity is not None and not identity.owns(meta):
            foreign.append(path.name)
        elif not has_right_checksums(path):
            damaged.append(path.name)
        else:
            found = path
            break
    if found is None and damaged:
        raise CheckpointError(
            f"every checkpoint in {work_dir} is cut short or damaged ({', '.join(damaged)}); remove them to start from "
            "the beginning"
        )
    remarks = []
    if foreign:
        remarks.append(f"{', '.join(foreign)} in {work_dir}: of another run, left out")
    if damaged:
        remarks.append(f"{', '.join(damaged)} in {work_dir} is cut short or damaged, so the one before is taken")
    return found, "; ".join(remarks)


def changes(meta: Mapping[str, Any], config: Mapping[str, Any], processes: int) -> dict[str, str]:
    """Settings that have changed since a checkpoint was made: key -> text ``key: before -> now``.

    Args:
        meta: metadata of the checkpoint.
        config: the resolved config in JSON types.
        processes: number of processes.
    """
    text = meta.get("config")
    try:
        before = parse_json(text if isinstance(text, str) else "", "the config in the checkpoint")
    except DataError:
        return {"config": "the checkpoint's config: unreadable -> the one given now"}
    old, new = (dict(flat(c)) for c in (before, config))
    given = meta.get("processes")
    old["processes"], new["processes"] = given if is_whole(given) else processes, processes
    texts = {}
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and not is_below(key, HARMLESS_KEYS):
            texts[key] = f"{_printable(key)}: {_printable(json.dumps(old.get(key)))} -> {json.dumps(new.get(key))}"
    return texts


def listed(texts: Collection[str]) -> str:
    """Texts of :func:`changes` for a message; only the first ones of very many."""
    rest = len(texts) - MOST_DIFFERENCES
    return "; ".join([*list(texts)[:MOST_DIFFERENCES], *([f"and {rest} more"] if rest > 0 else [])])


def _printable(text: str) -> str:
    """Text from a checkpoint for a log line: without control characters, truncated."""
    return ascii(text)[1:-1][:LONGEST_VALUE] if not text.isprintable() else text[:LONGEST_VALUE]
