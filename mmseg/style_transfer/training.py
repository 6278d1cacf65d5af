"""Training and judging the style-transfer generator of the Image Motion-Extractor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from mmseg.engine.data import batches, training_loader
from mmseg.engine.ending import as_message
from mmseg.engine.environment import choose_device, environment
from mmseg.engine.run_log import RunLog
from mmseg.errors import CheckpointError, ConfigError
from mmseg.io.files import remove_leftovers, write_text
from mmseg.models.resnet_generator import load_generator
from mmseg.style_transfer.cyclegan import CycleGAN
from mmseg.style_transfer.loop import (
    StyleTransferTrainer,
    generator_path,
    newest_checkpoint,
    run_style_transfer,
    save_generator,
    save_trainer,
)
from mmseg.style_transfer.measure import evaluate_style, style_table, translate
from mmseg.style_transfer.pictures import UnpairedPictures, domain_pictures, whole_picture
from mmseg.style_transfer.settings import StyleTransferSettings
from mmseg.system.console import steady_console
from mmseg.system.printing import say
from mmseg.visualization.panels import panel, save_picture, signed_picture
from mmseg.work_dir.lock import WorkDirLock

# rows of a sample sheet, and the largest side of its pictures
SHEET_ROWS = 3
SHEET_SIDE = 256


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
        settings: numbers of the training.
        resume: go on from the newest checkpoint in the work dir.
        workers: processes that load pictures; the result does not depend on it.
        console: where people read along; stdout by default.

    Raises:
        CMDAError: bad input, or a loss that is no longer finite.
    """
    settings.checked()
    work_dir = Path(work_dir)
    pictures = UnpairedPictures(data, settings.crop, settings.seed)
    console = console or Console()
    with _held(work_dir, console) as lock:
        return _train(data, pictures, work_dir, settings, resume, workers, console, lock)


def _train(
    data: str | Path,
    pictures: UnpairedPictures,
    work_dir: Path,
    settings: StyleTransferSettings,
    resume: bool,
    workers: int,
    console: Console,
    lock: WorkDirLock,
) -> Path:
    """Train in a work dir that is held."""
    device = choose_device()
    numbers = {domain: len(paths) for domain, paths in pictures.paths.items()}
    held_out = _held_out(data)
    checkpoint = _starting_point(work_dir, resume)
    trainer = StyleTransferTrainer(settings, device)
    first = trainer.restore(checkpoint, numbers) if checkpoint else 0
    log = _open_log(work_dir, settings, device, console or steady_console())
    try:
        log.info("%d image changes, %d event frames, device %s", *numbers.values(), device)
        if checkpoint:
            log.info("resumed after iteration %d from %s", first, checkpoint)
        torch.backends.cudnn.benchmark = device.type == "cuda"
        loader = training_loader(pictures, settings.batch, workers, first, settings.iterations, device)
        sheet = _sheet_writer(trainer.model, held_out, work_dir, log)

        def save(done: int) -> None:
            lock.verify()
            log.info("wrote %s", save_trainer(trainer, work_dir, done, numbers))

        run_style_transfer(trainer, batches(loader, device), first, log, work_dir, save, sheet)
        generator = trainer.model.to_events.eval()
        path = generator_path(work_dir, settings.filters)
        save_generator(generator, path)
        log.info("wrote %s", path)
        if held_out["change"]:
            result = _evaluate(generator, data)
            write_text(work_dir / "evaluation.json", json.dumps(result, indent=1) + "\n")
            log.record("val", settings.iterations, {k: v["total"] for k, v in result.items()})
            log.console.print(style_table(result))
    except (Exception, KeyboardInterrupt) as error:
        message = as_message(error) or error
        log.error(f"stopped: {message}")
        if message is error:
            raise
        raise message from error
    finally:
        log.close()
    return path


@contextmanager
def _held(work_dir: Path, console: Console) -> Iterator[WorkDirLock]:
    """Context in which the work dir exists and no other training writes into it.

    Raises:
        ConfigError: another one does, or it cannot be written.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        lock = WorkDirLock(work_dir, partial(say, console))
        lock.acquire()
    except OSError as error:
        raise ConfigError(f"work dir {work_dir} cannot be written ({error.strerror}); choose another one") from error
    try:
        yield lock
    finally:
        lock.release()


def evaluate_generator(path: str | Path, data: str | Path, console: Console | None = None) -> dict:
    """Print and return how near a generator of the published size brings held-out image changes to night events.

    Args:
        path: weights as published, ``cityscapes_ICD_to_dsec_EN.pth``.
        data: folder with held-out pictures.

    Raises:
        CMDAError: a file that is missing or does not fit.
    """
    result = _evaluate(load_generator(path).to(choose_device()), data)
    (console or Console()).print(style_table(result))
    return result


def _evaluate(generator: nn.Module, data: str | Path) -> dict:
    events = domain_pictures(data, "test", "events")
    return evaluate_style(
        generator,
        map(whole_picture, domain_pictures(data, "test", "change")),
        map(whole_picture, events),
        map(whole_picture, domain_pictures(data, "train", "events")[: len(events)]),
    )


def _held_out(data: str | Path) -> dict[str, list[Path]]:
    """Held-out pictures by domain, empty where the data has none."""
    if not any((Path(data) / f"test{letter}").is_dir() for letter in "AB"):
        return {"change": [], "events": []}
    return {domain: domain_pictures(data, "test", domain) for domain in ("change", "events")}


def _starting_point(work_dir: Path, resume: bool) -> Path | None:
    checkpoint = newest_checkpoint(work_dir)
    if resume and checkpoint is None:
        raise CheckpointError(f"{work_dir} holds no iter_<n>.pth to resume from; leave --resume out to start")
    if checkpoint and not resume:
        raise ConfigError(f"{work_dir} holds {checkpoint.name} of an earlier run; give --resume or another --work-dir")
    return checkpoint


def _open_log(work_dir: Path, settings: StyleTransferSettings, device: torch.device, console: Console) -> RunLog:
    try:
        (work_dir / "pictures").mkdir(parents=True, exist_ok=True)
        remove_leftovers(work_dir)
        write_text(work_dir / "style_transfer.json", json.dumps(asdict(settings), indent=1) + "\n")
        write_text(work_dir / "environment.json", json.dumps(environment(device), indent=1) + "\n")
        return RunLog(work_dir, "style_transfer", console)
    except OSError as error:
        raise ConfigError(f"work dir {work_dir} cannot be written ({error.strerror}); choose another one") from error


def _centre(picture: Tensor) -> Tensor:
    """Middle of a picture (1, H, W), at most ``SHEET_SIDE`` a side."""
    height, width = picture.shape[1:]
    side = min(SHEET_SIDE, height, width)
    y, x = (height - side) // 2, (width - side) // 2
    return picture[:, y : y + side, x : x + side]


def _sheet_writer(
    model: CycleGAN, held_out: dict[str, list[Path]], work_dir: Path, log: RunLog
) -> Callable[[int], None]:
    """Function that writes a sample sheet: held-out pictures of both domains, there and back."""
    pairs = list(zip(*(paths[:SHEET_ROWS] for paths in held_out.values()), strict=False))

    def write(done: int) -> None:
        if not pairs:
            return
        model.eval()
        shown = {}
        for row, paths in enumerate(pairs, start=1):
            change, events = (_centre(whole_picture(path)) for path in paths)
            fake_events, fake_change = translate(model.to_events, change), translate(model.to_change, events)
            for title, picture in (
                ("image change", change),
                ("to events", fake_events),
                ("and back", translate(model.to_change, fake_events)),
                ("night events", events),
                ("to change", fake_change),
                ("and back to events", translate(model.to_events, fake_change)),
            ):
                shown[f"{row}: {title}"] = signed_picture(picture)
        model.train()
        sheet = panel(shown, columns=6)
        save_picture(work_dir / "pictures" / f"iter_{done:06d}.png", sheet)
        log.picture("samples", done, sheet)

    return write
