"""The training loop: plain PyTorch, one iteration after another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from mmseg.distributed import ONE_PROCESS, Ranks, average_buffers, average_gradients
from mmseg.engine.run_log import RunLog
from mmseg.errors import CMDAError
from mmseg.uda.cmda import DACS, StepResult
from mmseg.uda.draws import StepDraws
from mmseg.visualization.panels import save_picture, step_panel

# iterations after which the time of a training on a CPU is foretold
CPU_NOTE_AFTER = 3


@dataclass(frozen=True)
class LoopSettings:
    """Numbers of a run; intervals in iterations, 0 for never.

    Attributes:
        first, last: iterations ``first`` to ``last - 1`` are run.
        batch: source-target pairs an iteration, in this process.
        ranks: which of how many processes this is.
    """

    first: int
    last: int
    batch: int
    seed: int
    log_interval: int
    checkpoint_interval: int
    evaluation_interval: int
    picture_interval: int
    ranks: Ranks = ONE_PROCESS


@dataclass
class LogWindow:
    """Sums of what is logged since the last line; tensors stay on the device until then."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    data_time: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, logs: dict[str, Tensor], data_time: float) -> None:
        for key, value in logs.items():
            self.sums[key] = self.sums[key] + value if key in self.sums else value
        self.steps += 1
        self.data_time += data_time

    def means(self) -> dict[str, float]:
        """Fetch the means, with ``time`` and ``data_time`` in seconds an iteration."""
        values = {key: value.item() / self.steps for key, value in self.sums.items()}
        values["time"] = (time.perf_counter() - self.started) / self.steps
        values["data_time"] = self.data_time / self.steps
        return values


def seed_iteration(seed: int, iteration: int, rank: int = 0) -> None:
    """Seed what a step draws inside the network (dropout, drop path), so that a resumed run repeats it."""
    torch.manual_seed(seed * 1_000_003 + iteration + rank * 1_000_000_007)


def is_due(interval: int, done: int, last: int) -> bool:
    """Whether something is due after ``done`` iterations: at its interval and at the end."""
    return interval > 0 and (done % interval == 0 or done == last)


def run_training(
    method: DACS,
    batches: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    settings: LoopSettings,
    log: RunLog,
    work_dir: Path,
    save: Callable[[int], None],
    evaluate: Callable[[int], None],
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Train from ``settings.first`` to ``settings.last``.

    Args:
        method: the training method, on the device.
        batches: one batch an iteration, on the device.
        save: writes a checkpoint; called with the number of finished iterations.
        evaluate: tests the model; likewise.
        scaler: scales the losses, see :func:`mmseg.engine.numerics.make_scaler`.

    Raises:
        CMDAError: a loss is no longer finite.
    """
    device = next(method.parameters()).device
    iterator, window = iter(batches), LogWindow()
    with _progress_bar(log) as progress:
        task = progress.add_task("training", total=settings.last, completed=settings.first)
        for iteration in range(settings.first, settings.last):
            waited = time.perf_counter()
            batch = next(iterator)
            data_time = time.perf_counter() - waited
            seed_iteration(settings.seed, iteration, settings.ranks.rank)
            optimizer.zero_grad(set_to_none=True)
            result = method.train_step(batch, _draws(method, iteration, settings), _backward(scaler))
            average_gradients(method.model.parameters())
            average_buffers(method.model, method.ema_model)
            _optimize(optimizer, scaler)
            window.add(result.logs, data_time)
            done = iteration + 1
            if iteration == settings.first or is_due(settings.log_interval, done, settings.last):
                _write_logs(log, window, optimizer, done, settings, device)
                window = LogWindow()
            schedule.step()
            if settings.picture_interval > 0 and iteration % settings.picture_interval == 0:
                _save_picture(log, work_dir, result, done)
            del result
            progress.update(task, completed=done)
            if done - settings.first == CPU_NOTE_AFTER and device.type == "cpu":
                _note_cpu_time(log, progress.tasks[task].elapsed or 0.0, settings)
            paused = time.perf_counter()
            if is_due(settings.checkpoint_interval, done, settings.last):
                save(done)
            if is_due(settings.evaluation_interval, done, settings.last):
                evaluate(done)
            window.started += time.perf_counter() - paused


def _draws(method: DACS, iteration: int, settings: LoopSettings) -> StepDraws:
    """This process's part of the draws for the batch of all."""
    size, rank = settings.batch, settings.ranks.rank
    draws = StepDraws.make(method.settings, size * settings.ranks.world, iteration, settings.last, settings.seed)
    return draws.part(rank * size, (rank + 1) * size)


def _backward(scaler: torch.amp.GradScaler | None) -> Callable[[Tensor], None]:
    return Tensor.backward if scaler is None else lambda loss: scaler.scale(loss).backward()


def _optimize(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None) -> None:
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def _progress_bar(log: RunLog) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=log.console,
        disable=not log.console.is_terminal,
    )


def _write_logs(
    log: RunLog,
    window: LogWindow,
    optimizer: torch.optim.Optimizer,
    done: int,
    settings: LoopSettings,
    device: torch.device,
) -> None:
    values = window.means()
    values["lr"] = optimizer.param_groups[0]["lr"]
    if device.type == "cuda":
        values["memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    log.record("train", done, values)
    remaining = values["time"] * (settings.last - done)
    shown = ", ".join(f"{k} {v:.4g}" for k, v in values.items())
    log.info("iteration %d/%d: %s, remaining %s", done, settings.last, shown, duration(remaining))
    broken = [key for key, value in values.items() if not math.isfinite(value)]
    if broken:
        raise CMDAError(
            f"training stopped at iteration {done}: {', '.join(broken)} is not finite; lower optimizer.lr or look "
            f"at the last pictures in the work dir"
        )


def duration(seconds: float) -> str:
    """Short text such as ``2 d 3 h`` or ``4 min 5 s``."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (name, size), (next_name, next_size) in pairwise(units):
        if seconds >= size:
            rest = int(seconds % size // next_size)
            return f"{int(seconds // size)} {name} {rest} {next_name}"
    return f"{seconds:.0f} s"


def _note_cpu_time(log: RunLog, elapsed: float, settings: LoopSettings) -> None:
    total = elapsed / CPU_NOTE_AFTER * (settings.last - settings.first)
    log.info(
        "there is no CUDA GPU: on this CPU the %d iterations take about %s",
        settings.last - settings.first,
        duration(total),
    )


def _save_picture(log: RunLog, work_dir: Path, result: StepResult, done: int) -> None:
    picture = step_panel(result.pictures)
    folder = work_dir / "pictures"
    folder.mkdir(exist_ok=True)
    save_picture(folder / f"iter_{done:06d}.png", picture)
    log.picture("step", done, picture)
