"""The beginning of a training: all processes agree on what is trained, and one of them takes the work dir."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg.config.dotted import flat, get_key, is_below
from mmseg.config.keys import DATA_PATH_KEYS
from mmseg.config.load import dump_config, plain
from mmseg.engine.checkpoint import checkpoint_meta
from mmseg.engine.resuming import HARMLESS_KEYS, Start, choose_start
from mmseg.errors import ConfigError
from mmseg.io.files import content_mark, digest
from mmseg.parallel.agreement import broadcast_from_first, check_same_on_all_ranks, file_digests
from mmseg.parallel.distributed import ProcessRank, is_distributed
from mmseg.system.text import name_fault
from mmseg.work_dir.identity import state_of
from mmseg.work_dir.lock import WorkDirInUse, WorkDirLock, in_use, running_holder

Tell = Callable[[str], None]


def work_dir_of(config: Config, given: str | Path | None) -> Path:
    """Folder of a run: the given one, that of the config, or ``work_dirs/<name of the config>``.

    Raises:
        ConfigError: the name cannot be one of a folder.
    """
    chosen = given or config.get("work_dir")
    if chosen:
        return Path(chosen)
    name = config.get("name") or "run"
    fault = name_fault(name) if isinstance(name, str) else "it is not a text"
    if fault:
        raise ConfigError(f"name={name!r} of the config cannot be a file name: {fault}; give a work dir")
    return Path("work_dirs") / name


def agree_on_start(config: Config, work_dir: Path, process: ProcessRank, tell: Tell) -> Start:
    """Where the training starts: the first process decides, and all compare config and checkpoint.

    Args:
        tell: takes notes for people.

    Raises:
        CMDAError: the processes differ, or there is nothing to start from.
        WorkDirInUse: another training writes into the work dir.
    """
    settings = plain(config.to_dict())
    compared = {key: json.dumps(value) for key, value in flat(settings) if not is_below(key, HARMLESS_KEYS)}
    check_same_on_all_ranks(compared, "start all processes with the same config and options")

    def decide() -> Start:
        _refuse_if_in_use(work_dir, tell)
        return choose_start(config.get("resume_from"), work_dir, settings, dump_config(config), process.world_size)

    start = broadcast_from_first(decide)
    if start.checkpoint is not None:
        check_same_on_all_ranks(_described(start.checkpoint), "let all machines see the same work dir")
    return start


def _described(checkpoint: Path) -> dict[str, object]:
    if not checkpoint.is_file():
        return {"checkpoint": f"{checkpoint} is missing"}
    iteration = (checkpoint_meta(checkpoint) or {}).get("iter")
    return {"checkpoint": str(checkpoint), "its iteration": iteration, "its content": content_mark(checkpoint)}


def check_inputs_alike(config: Mapping[str, Any], dataset: Any) -> None:
    """Make sure that all processes read the same weights and draw from the same samples.

    Args:
        config: the effective config.
        dataset: the training set.

    Raises:
        ConfigError: naming the process and what it has otherwise.
    """
    if not is_distributed():
        return
    keys = (*(key for key in DATA_PATH_KEYS if key.startswith(("model.", "uda."))), "load_from")
    seen: dict[str, object] = {
        f"content of {path}": mark for path, mark in file_digests(get_key(config, k) for k in keys).items()
    }
    for part in ("source", "target"):
        samples = getattr(dataset, part)
        seen[f"number of {part} samples"] = len(samples)
        seen[f"names of {part} samples"] = digest("\n".join(map(str, samples.cache_layout().rows)))
    check_same_on_all_ranks(seen, "let all machines see the same files")


def _refuse_if_in_use(work_dir: Path, tell: Tell) -> None:
    holder = running_holder(work_dir, tell) if work_dir.is_dir() else None
    if holder is not None:
        raise in_use(work_dir, holder)


@contextmanager
def held_work_dir(work_dir: Path, start: Start, tell: Tell) -> Iterator[WorkDirLock | None]:
    """Context in which the work dir exists and is this training's; yields the lock in the first process.

    Raises:
        WorkDirInUse: another training writes into it, or has done so since the start was chosen.
        ConfigError: it cannot be written.
    """
    lock: WorkDirLock | None = None

    def take() -> None:
        nonlocal lock
        try:
            work_dir.mkdir(parents=True, exist_ok=True)
            lock = WorkDirLock(work_dir, tell)
            lock.acquire()
            if state_of(work_dir) != start.seen:
                raise WorkDirInUse(f"another training has written into {work_dir} meanwhile: start this one again")
        except OSError as error:
            raise ConfigError(
                f"work dir {work_dir} cannot be written ({error.strerror}); choose another one"
            ) from error

    try:
        broadcast_from_first(take)
        yield lock
    finally:
        if lock is not None:
            lock.release()
