"""The training loop: plain PyTorch, one iteration after another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmseg.engine.ending import Ending, StepUndo
from mmseg.engine.finite import FiniteWatch, NonFinite
from mmseg.engine.interruptions import StopNow
from mmseg.engine.progress import WARM_UP, LogWindow, Pace, duration, log_line, progress_bar, remaining_text, short
from mmseg.engine.run_log import RunLog
from mmseg.errors import CMDAError
from mmseg.parallel.distributed import SINGLE_PROCESS, ProcessRank, average_buffers, average_gradients, run_on_all_ranks
from mmseg.uda.cmda import DACS, StepResult
from mmseg.uda.draws import StepDraws
from mmseg.visualization.panels import save_picture, step_panel

# iterations after which the time of a training on a CPU is foretold
CPU_NOTE_AFTER = WARM_UP + 2
# scale of the losses below which fp16 has failed: it is halved whenever a gradient is not finite
LEAST_SCALE = 2.0**-10


@dataclass(frozen=True)
class LoopSettings:
    """Numbers of a run; intervals in iterations, 0 for never.

    Attributes:
        first, last: iterations ``first`` to ``last - 1`` are run.
        batch: source-target pairs an iteration, in this process.
        safety_interval: of checkpoints beside those of ``checkpoint_interval``, which later ones replace.
        process: which of how many processes this is.
    """

    first: int
    last: int
    batch: int
    seed: int
    log_interval: int
    checkpoint_interval: int
    evaluation_interval: int
    picture_interval: int
    process: ProcessRank = SINGLE_PROCESS
    safety_interval: int = 0

    @property
    def longest_interval(self) -> int:
        """Iterations within which everything that interrupts the training happens once."""
        return max(self.checkpoint_interval, self.evaluation_interval, self.picture_interval, self.safety_interval)


def seed_iteration(seed: int, iteration: int, rank: int = 0) -> None:
    """Seed what a step draws inside the network (dropout, drop path), so that a resumed run repeats it."""
    torch.manual_seed(seed * 1_000_003 + iteration + rank * 1_000_000_007)


def is_due(interval: int, done: int, last: int) -> bool:
    """Whether something is due after ``done`` iterations: at its interval and at the end."""
    return interval > 0 and (done % interval == 0 or done == last)


class TrainingLoop:
    """Trains from ``settings.first`` to ``settings.last``.

    Args:
        method: the training method, on the device.
        batches: one batch an iteration, on the device.
        save: writes a checkpoint; called with the number of finished iterations, in every process.
        evaluate: tests the model; likewise.
        keep_batch: writes the batch of an iteration (from 0), with what was wrong, for people to look at; its file.
        scaler: scales the losses, see :func:`mmseg.engine.numerics.make_scaler`.
        at_log: called in every process when a line was logged.
        save_alone: writes a checkpoint in this process, whichever it is; by default ``save``.
    """

    def __init__(
        self,
        method: DACS,
        batches: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        settings: LoopSettings,
        log: RunLog,
        work_dir: Path,
        save: Callable[[int], None],
        evaluate: Callable[[int], None],
        keep_batch: Callable[[NonFinite], Path],
        scaler: torch.amp.GradScaler | None = None,
        at_log: Callable[[], None] = lambda: None,
        save_alone: Callable[[int], None] | None = None,
    ) -> None:
        self.method, self.batches, self.optimizer, self.schedule = method, batches, optimizer, schedule
        self.settings, self.log, self.work_dir = settings, log, work_dir
        self.evaluate, self.keep_batch, self.scaler = evaluate, keep_batch, scaler
        self.at_log = at_log
        self.device = next(method.parameters()).device
        # A scaler leaves out the updates that are not finite, and expects some.
        self.watch = None if scaler else FiniteWatch(optimizer, self.device)
        # On a CPU a copy of the teacher is cheap beside a step; on a GPU its memory would be missed.
        undo = StepUndo((method.ema_model, True), (method.model, False)) if self.device.type == "cpu" else None
        self.ending = Ending(
            work_dir,
            settings.first,
            save,
            log,
            settings.process,
            undo,
            self._look_for_non_finite,
            save_alone=save_alone,
        )

    def run(self) -> None:
        """Run the iterations.

        Raises:
            Interrupted: by a signal, after the state was saved.
            CMDAError: a loss or gradient is not finite, or a file cannot be read or written; it says what was saved.
        """
        iterator, settings, ending = iter(self.batches), self.settings, self.ending
        pace = Pace(period=settings.longest_interval)
        window = LogWindow(pace)
        with ending, progress_bar(self.log) as progress:
            task = progress.add_task("training", total=settings.last, completed=settings.first, remaining="", shown="")
            for iteration in range(settings.first, settings.last):
                waited = time.perf_counter()
                batch = self._next(iterator)
                data_time = time.perf_counter() - waited
                ending.step_begins()
                result = self._step(batch, iteration)
                window.add(result.logs, data_time)
                pace.tick()
                done = iteration + 1
                ending.step_ended(done)
                if iteration == settings.first or is_due(settings.log_interval, done, settings.last):
                    self._look_for_non_finite()
                    values = _write_logs(self.log, window, self.optimizer, done, settings, self.device)
                    self.at_log()
                    progress.update(task, shown=short(values))
                    window = LogWindow(pace)
                self.schedule.step()
                pace.hold()
                if settings.picture_interval > 0 and iteration % settings.picture_interval == 0:
                    _save_picture(self.log, self.work_dir, result, done)
                del result
                progress.update(task, completed=done, remaining=remaining_text(pace.remaining(settings.last - done)))
                if done - settings.first == CPU_NOTE_AFTER and self.device.type == "cpu":
                    _note_cpu_time(self.log, pace, settings)
                if any(
                    is_due(n, done, settings.last) for n in (settings.checkpoint_interval, settings.safety_interval)
                ):
                    ending.checkpoint(must_succeed=done == settings.last)
                ending.leave_if_requested()
                if is_due(settings.evaluation_interval, done, settings.last):
                    self._evaluate(done)
                pace.go_on()

    def _next(self, iterator: Iterator[Any]) -> Any:
        """The next batch. Where one process has none (its files are bad, it was told to stop), all end here."""
        batch = problem = None
        try:
            with self.ending.interruptions.at_once():
                batch = next(iterator)
        except (Exception, StopNow) as error:
            problem = error
        self.ending.all_or_none(problem)
        return batch

    def _step(self, batch: Any, iteration: int) -> StepResult:
        """Gradients, then the update, unless they are not finite."""
        method = self.method
        seed_iteration(self.settings.seed, iteration, self.settings.process.rank)
        self.optimizer.zero_grad(set_to_none=True)
        result = method.train_step(batch, _draws(method, iteration, self.settings), _backward(self.scaler))
        average_gradients(method.model.parameters())
        average_buffers(method.model, method.ema_model)
        if self.watch:
            broken = self.watch.see(iteration, result.logs, method.model.parameters())
            if broken:
                self._refuse(broken)
            self.ending.update_begins()
            self.optimizer.step()
        else:
            self.ending.update_begins()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return result

    def _look_for_non_finite(self) -> None:
        if self.watch:
            broken = self.watch.found()
            if broken:
                self.ending.spoilt()
                self._refuse(broken)
        elif self.scaler.get_scale() < LEAST_SCALE:
            raise CMDAError(
                "training stopped: the gradients are not finite at any scale of the losses; set precision='bf16' or "
                "'fp32'"
            )

    def _refuse(self, broken: NonFinite) -> None:
        """Stop before numbers that are not finite spread any further.

        Raises:
            CMDAError: always.
        """
        try:
            kept = f"Its batch is in {self.keep_batch(broken)}"
        except OSError as error:
            kept = f"Its batch cannot be written ({error.strerror})"
        here = not all(map(math.isfinite, broken.values.values()))
        what = broken.describe() if here else "the loss or gradient of another process is not finite"
        raise CMDAError(
            f"training stopped at iteration {broken.iteration + 1}: {what}. {kept}; no checkpoint was "
            "made of it. Resume from the last one (--resume auto) with a lower optimizer.lr or precision='fp32', or "
            "look at the samples of the batch"
        )

    def _evaluate(self, done: int) -> None:
        """Evaluate. A signal ends that at once, and a full disk costs the evaluation only."""

        def act() -> None:
            try:
                with self.ending.interruptions.at_once():
                    self.evaluate(done)
            except OSError as error:
                failed = f"the evaluation after iteration {done} cannot be written ({error.strerror or error})"
                if done == self.settings.last:
                    raise CMDAError(f"{failed}; free space there and repeat it with my_test.py") from error
                self.log.warning(f"{failed}; the training goes on")

        # A process that was told to stop says so in the question after this.
        with suppress(StopNow):
            run_on_all_ranks(act)
        self.ending.leave_if_requested()


def _draws(method: DACS, iteration: int, settings: LoopSettings) -> StepDraws:
    """This process's part of the draws for the batch of all."""
    size, rank = settings.batch, settings.process.rank
    draws = StepDraws.make(method.settings, size * settings.process.world_size, iteration, settings.last, settings.seed)
    return draws.part(rank * size, (rank + 1) * size)


def _backward(scaler: torch.amp.GradScaler | None) -> Callable[[Tensor], None]:
    return Tensor.backward if scaler is None else lambda loss: scaler.scale(loss).backward()


def _write_logs(
    log: RunLog,
    window: LogWindow,
    optimizer: torch.optim.Optimizer,
    done: int,
    settings: LoopSettings,
    device: torch.device,
) -> dict[str, float]:
    values = window.means()
    values["lr"] = optimizer.param_groups[0]["lr"]
    if device.type == "cuda":
        if done - settings.first > 1:
            # what the process holds: the tensors of a CUDA graph live in memory that no longer counts as allocated
            values["memory_gib"] = torch.cuda.max_memory_reserved(device) / 2**30
        else:
            # the first iteration tries the algorithms of cuDNN, some of which take several times as much
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
    log.record("train", done, values)
    log.info(log_line(done, settings.last, values, window.pace.remaining(settings.last - done)))
    return values


def _note_cpu_time(log: RunLog, pace: Pace, settings: LoopSettings) -> None:
    log.info(
        "there is no CUDA GPU: on this CPU the %d iterations take about %s",
        settings.last - settings.first,
        duration(pace.remaining(settings.last - settings.first) or 0.0),
    )


def _save_picture(log: RunLog, work_dir: Path, result: StepResult, done: int) -> None:
    picture = step_panel(result.pictures)
    folder = work_dir / "pictures"
    try:
        folder.mkdir(exist_ok=True)
        save_picture(folder / f"iter_{done:06d}.png", picture)
    except OSError as error:
        log.warning(f"no picture of iteration {done} ({error.strerror or error}); the training goes on")
    log.picture("step", done, picture)
