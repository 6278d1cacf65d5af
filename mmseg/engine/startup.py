"""The start of a training: all processes agree on what is trained, and one of them locks the work dir."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console

from mmseg.config.dotted import flat, is_below
from mmseg.config.load import dump_config, plain
from mmseg.config.named_files import named_weights
from mmseg.config.run import RunConfig
from mmseg.datasets.uda import UDADataset
from mmseg.engine.checkpoint import checkpoint_meta
from mmseg.engine.environment import environment
from mmseg.engine.loggers import open_loggers
from mmseg.engine.resuming import HARMLESS_KEYS, Start, choose_start
from mmseg.engine.run_log import RunLog, SilentLog
from mmseg.errors import ConfigError
from mmseg.io.files import content_mark, digest, open_to_append, remove_leftovers, write_text
from mmseg.parallel.agreement import broadcast_from_first, check_same_on_all_ranks
from mmseg.parallel.distributed import ProcessRank, is_distributed
from mmseg.system.text import name_fault
from mmseg.weights.store import description_of, local_file
from mmseg.weights.table import is_remote
from mmseg.work_dir.earlier import put_run_aside
from mmseg.work_dir.identity import RunIdentity, state_of
from mmseg.work_dir.layout import WorkDir
from mmseg.work_dir.lock import WorkDirInUse, WorkDirLock, in_use, running_holder

Note = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What is trained, where, and by which process.

    Attributes:
        config: the config as loaded; it is written into the work dir and every checkpoint.
        run: its typed form, which everything reads.
        work_dir: folder of the run.
        start: where the training starts.
        device: where it runs.
        process: rank of this process.
        weights: what identifies the weights that it starts from, see :func:`fetch_weights`.
    """

    config: Config
    run: RunConfig
    work_dir: WorkDir
    start: Start
    device: torch.device
    process: ProcessRank
    weights: Mapping[str, Mapping[str, Any]]

    @property
    def goes_on(self) -> bool:
        """Whether the training is resumed from a checkpoint in its own work dir."""
        checkpoint = self.start.checkpoint
        return checkpoint is not None and checkpoint.parent.resolve() == self.work_dir.path.resolve()


def work_dir_of(run: RunConfig, given: str | Path | None) -> WorkDir:
    """Folder of a run: the given one, that of the config, or ``work_dirs/<name of the config>``.

    Raises:
        ConfigError: the name cannot be a folder name.
    """
    chosen = given or run.work_dir
    if chosen:
        return WorkDir(chosen)
    fault = name_fault(run.name)
    if fault:
        raise ConfigError(f"name={run.name!r} of the config cannot be a file name: {fault}; give a work dir")
    return WorkDir(Path("work_dirs") / run.name)


def agree_on_start(config: Config, run: RunConfig, work_dir: WorkDir, process: ProcessRank, note: Note) -> Start:
    """Choose where the training starts: the first process decides, and all compare config and checkpoint.

    Args:
        config: the config as loaded.
        run: its typed form.
        note: prints a note for the user.

    Raises:
        CMDAError: the processes differ, or there is nothing to start from.
        WorkDirInUse: another training writes into the work dir.
    """
    settings = plain(config.to_dict())
    compared = {key: json.dumps(value) for key, value in flat(settings) if not is_below(key, HARMLESS_KEYS)}
    check_same_on_all_ranks(compared, "start all processes with the same config and options")

    def decide() -> Start:
        holder = running_holder(work_dir.path, note) if work_dir.path.is_dir() else None
        if holder is not None:
            raise in_use(work_dir.path, holder)
        new = RunIdentity.new(run.seed, dump_config(config))
        return choose_start(run.resume_from, work_dir.path, new, settings, process.world_size)

    start = broadcast_from_first(decide)
    if start.checkpoint is not None and is_remote(run.resume_from):
        # Processes of other machines have caches of their own.
        start = replace(start, checkpoint=local_file(run.resume_from or ""))
    if start.checkpoint is not None:
        check_same_on_all_ranks(_described(start.checkpoint), "let all machines see the same work dir")
    return start


def _described(checkpoint: Path) -> dict[str, object]:
    if not checkpoint.is_file():
        return {"checkpoint": f"{checkpoint} is missing"}
    iteration = (checkpoint_meta(checkpoint) or {}).get("iter")
    return {"checkpoint": str(checkpoint), "its iteration": iteration, "its content": content_mark(checkpoint)}


def fetch_weights(config: Config, note: Note) -> dict[str, dict[str, Any]]:
    """Download what a config names by address or name: first the first process, then those of other machines.

    Args:
        config: the config as loaded.
        note: prints a note for the user.

    Returns:
        Key -> what identifies its file, see :func:`mmseg.weights.store.description_of`.

    Raises:
        CheckpointError: no source has the file, or it cannot be stored.
    """
    named = {key: value for key, value, _ in named_weights(config)}
    if is_remote(config.get("resume_from")):
        named["resume_from"] = config["resume_from"]
    remote = [value for value in named.values() if is_remote(value)]

    def fetch() -> list[str]:
        return [str(local_file(value)) for value in remote]

    broadcast_from_first(fetch)
    for value, path in zip(remote, fetch(), strict=True):
        note(f"{value} is {path}")
    return {key: description_of(value) for key, value in named.items()}


def check_same_inputs(weights: Mapping[str, Mapping[str, Any]], dataset: UDADataset) -> None:
    """Check that all processes read the same weights and draw from the same samples.

    Args:
        weights: see :func:`fetch_weights`.
        dataset: the training set.

    Raises:
        ConfigError: naming the process and how it differs.
    """
    if not is_distributed():
        return
    seen: dict[str, object] = {f"content of {known['given']}": known.get("sha256") for known in weights.values()}
    for part, samples in dataset.domains.items():
        seen[f"number of {part} samples"] = len(samples)
        seen[f"names of {part} samples"] = digest("\n".join(map(str, samples.cache_layout().rows)))
    check_same_on_all_ranks(seen, "let all machines see the same files")


@contextmanager
def locked_work_dir(work_dir: WorkDir, start: Start, note: Note) -> Iterator[WorkDirLock | None]:
    """Context in which the work dir exists and only this training writes into it; the first process gets the lock.

    Raises:
        WorkDirInUse: another training writes into it, or has done so since the start was chosen.
        ConfigError: it cannot be written.
    """
    lock: WorkDirLock | None = None

    def take() -> None:
        nonlocal lock
        try:
            work_dir.path.mkdir(parents=True, exist_ok=True)
            lock = WorkDirLock(work_dir.path, note)
            lock.acquire()
            if state_of(work_dir.path) != start.seen:
                raise WorkDirInUse(f"another training has written into {work_dir} meanwhile: start this one again")
        except OSError as error:
            raise unwritable(work_dir, error) from error

    try:
        broadcast_from_first(take)
        yield lock
    finally:
        if lock is not None:
            lock.release()


def unwritable(work_dir: WorkDir, error: OSError) -> ConfigError:
    """Error of a work dir that cannot be written."""
    where = f": {error.filename}" if error.filename else ""
    return ConfigError(f"work dir {work_dir} cannot be written ({error.strerror}{where}); choose another one")


@contextmanager
def run_log(job: Job, console: Console) -> Iterator[RunLog | SilentLog]:
    """Context with the log of a training, which also records what ended it. Only the first process writes one.

    Raises:
        ConfigError: the work dir cannot be written.
    """
    log = _open_log(job, console) if job.process.is_main else SilentLog()
    try:
        yield log
    except (Exception, KeyboardInterrupt) as error:
        log.error(f"stopped: {error}")
        raise
    finally:
        log.close()


def _open_log(job: Job, console: Console) -> RunLog:
    """Write config and environment into the work dir and open its logs."""
    work_dir, config = job.work_dir, job.config
    record = {**environment(job.device), "processes": job.process.world_size, "weights": job.weights}
    try:
        remove_leftovers(work_dir.path)
        aside = () if job.goes_on else put_run_aside(work_dir)
        write_text(work_dir.new_config, dump_config(config))
        write_text(work_dir.environment, json.dumps(record, indent=1) + "\n")
        for path in (work_dir.text_log, work_dir.json_log):
            open_to_append(path).close()
        loggers = open_loggers(job.run.log_config.hooks, work_dir.path, work_dir.name, plain(config.to_dict()))
        log = RunLog(work_dir.path, work_dir.name, console, job.run.log_level, loggers)
    except OSError as error:
        raise unwritable(work_dir, error) from error
    log.info("work dir %s, device %s, torch %s", work_dir, job.device, record["packages"]["torch"])
    for key, known in job.weights.items():
        log.info("%s: %s, SHA-256 %s", key, known["given"], known.get("sha256", "unknown"))
    if aside:
        log.info("note: moved the results of an earlier run aside: %s", ", ".join(aside))
    earlier = work_dir.checkpoints()
    if earlier and not job.run.resume_from:
        log.info("note: the work dir holds checkpoints of an earlier run, the newest is %s", earlier[-1].name)
    if job.device.type == "cpu":
        log.info("no CUDA GPU was found: training on the CPU; an estimate follows after a few iterations")
    return log
