"""Training and evaluating the style-transfer generator of the Image Motion-Extractor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from mmseg.engine.environment import choose_device, environment
from mmseg.engine.run_log import RunLog
from mmseg.engine.shutdown import as_message
from mmseg.engine.startup import unwritable
from mmseg.errors import CheckpointError, ConfigError
from mmseg.io.files import remove_leftovers, write_text
from mmseg.models.resnet_generator import load_generator
from mmseg.style_transfer.checkpoint import generator_path, save_generator
from mmseg.style_transfer.measure import evaluate_style, style_table
from mmseg.style_transfer.pictures import DOMAINS, UnpairedPictures, domain_pictures, whole_picture
from mmseg.style_transfer.settings import StyleTransferSettings
from mmseg.style_transfer.sheet import SampleSheet
from mmseg.style_transfer.trainer import StyleTransferTrainer
from mmseg.system.console import steady_console
from mmseg.system.printing import say
from mmseg.work_dir.layout import WorkDir
from mmseg.work_dir.lock import WorkDirLock

# Name of the config and the logs in a work dir.
RUN_NAME = "style_transfer"


def train_style_transfer(
    data: str | Path,
    work_dir: str | Path,
    settings: StyleTransferSettings,
    resume: bool = False,
    workers: int = 0,
    console: Console | None = None,
) -> Path:
    """Train the generator on unpaired pictures; return its file.

    Files in the work dir: ``style_transfer.json`` (settings), ``environment.json``, ``style_transfer.log``,
    ``style_transfer.log.json``, ``tensorboard/``, ``pictures/iter_<n>.png``, ``iter_<n>.pth`` (the newest), the
    generator, and ``evaluation.json`` with its measure at the end.

    Args:
        data: folder written by ``tools/make_style_transfer_data.py``.
        work_dir: folder of the run.
        settings: settings of the training.
        resume: continue from the newest checkpoint in the work dir.
        workers: loader processes; the result does not depend on their number.
        console: where progress is printed; stdout by default.

    Raises:
        CMDAError: bad input, or a loss that is not finite.
    """
    settings.checked()
    run = WorkDir(work_dir, RUN_NAME)
    pictures = UnpairedPictures(data, settings.crop, settings.seed)
    with _locked(run, console or Console()) as lock:
        held_out = _held_out(data)
        checkpoint = _starting_point(run, resume)
        trainer = StyleTransferTrainer(settings, pictures, run, choose_device(), lock)
        if checkpoint:
            trainer.resume(checkpoint)
        if all(held_out.values()):
            trainer.sheet = SampleSheet(held_out)
        with _run_log(trainer, console or steady_console()) as log:
            log.info("%d image changes, %d event frames, device %s", *trainer.counts.values(), trainer.device)
            if checkpoint:
                log.info("resumed after iteration %d from %s", trainer.first, checkpoint)
            torch.backends.cudnn.benchmark = trainer.device.type == "cuda"
            trainer.prepare(log, workers)
            trainer.run()
            return _finish(trainer, data, bool(held_out["change"]))


def _finish(trainer: StyleTransferTrainer, data: str | Path, has_held_out: bool) -> Path:
    """Write the generator and its measure; return the file of the generator."""
    generator, log = trainer.model.to_events.eval(), trainer.log
    path = generator_path(trainer.work_dir.path, trainer.settings.filters)
    save_generator(generator, path)
    log.info("wrote %s", path)
    if has_held_out:
        result = _evaluate(generator, data)
        write_text(trainer.work_dir.path / "evaluation.json", json.dumps(result, indent=1) + "\n")
        log.record("val", trainer.last, {name: distances["total"] for name, distances in result.items()})
        log.console.print(style_table(result))
    return path


@contextmanager
def _locked(run: WorkDir, console: Console) -> Iterator[WorkDirLock]:
    """Context in which the work dir exists and no other training writes into it.

    Raises:
        WorkDirInUse: another training does.
        ConfigError: it cannot be written.
    """
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        lock = WorkDirLock(run.path, partial(say, console))
        lock.acquire()
    except OSError as error:
        raise unwritable(run, error) from error
    try:
        yield lock
    finally:
        lock.release()


def evaluate_generator(path: str | Path, data: str | Path, console: Console | None = None) -> dict:
    """Measure how close a generator of the published size brings held-out image changes to night events.

    Args:
        path: weights as published, ``cityscapes_ICD_to_dsec_EN.pth``.
        data: folder with held-out pictures.

    Returns:
        See :func:`mmseg.style_transfer.measure.evaluate_style`; it is printed too.

    Raises:
        CMDAError: a file that is missing or does not fit.
    """
    result = _evaluate(load_generator(path).to(choose_device()), data)
    (console or Console()).print(style_table(result))
    return result


def _evaluate(generator: nn.Module, data: str | Path) -> dict[str, dict[str, float]]:
    events = domain_pictures(data, "test", "events")
    return evaluate_style(
        generator,
        map(whole_picture, domain_pictures(data, "test", "change")),
        map(whole_picture, events),
        map(whole_picture, domain_pictures(data, "train", "events")[: len(events)]),
    )


def _held_out(data: str | Path) -> dict[str, list[Path]]:
    """Held-out pictures by domain; empty lists if the data has none."""
    if not any((Path(data) / f"test{letter}").is_dir() for letter in DOMAINS.values()):
        return {domain: [] for domain in DOMAINS}
    return {domain: domain_pictures(data, "test", domain) for domain in DOMAINS}


def _starting_point(run: WorkDir, resume: bool) -> Path | None:
    """Checkpoint to resume from; None for a new run.

    Raises:
        CheckpointError: there is none.
        ConfigError: there is one, and the run was not to be resumed.
    """
    checkpoints = run.checkpoints()
    if resume and not checkpoints:
        raise CheckpointError(f"{run} holds no iter_<n>.pth to resume from; leave --resume out to start")
    if checkpoints and not resume:
        raise ConfigError(f"{run} holds {checkpoints[-1].name} of an earlier run; give --resume or another --work-dir")
    return checkpoints[-1] if checkpoints else None


@contextmanager
def _run_log(trainer: StyleTransferTrainer, console: Console) -> Iterator[RunLog]:
    """Context with the log of a run, which also records what ended it.

    Raises:
        CMDAError: in place of every error that has a message for the user.
    """
    run = trainer.work_dir
    try:
        run.pictures.mkdir(parents=True, exist_ok=True)
        remove_leftovers(run.path)
        write_text(run.new_config, json.dumps(asdict(trainer.settings), indent=1) + "\n")
        write_text(run.environment, json.dumps(environment(trainer.device), indent=1) + "\n")
        log = RunLog(run.path, run.name, console)
    except OSError as error:
        raise unwritable(run, error) from error
    try:
        yield log
    except (Exception, KeyboardInterrupt) as error:
        message = as_message(error) or error
        log.error(f"stopped: {message}")
        if message is error:
            raise
        raise message from error
    finally:
        log.close()
