"""The loop that every training shares: step, log, save, validate."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from mmseg.config.run import RunConfig
from mmseg.engine.interruptions import StopNow
from mmseg.engine.progress import LogWindow, Pace, log_line, progress_bar, remaining_text, short
from mmseg.engine.run_log import RunLog, SilentLog
from mmseg.engine.shutdown import Shutdown, StepUndo
from mmseg.errors import CMDAError
from mmseg.parallel.distributed import SINGLE_PROCESS, ProcessRank, run_on_all_ranks
from mmseg.work_dir.layout import WorkDir


class Logged(Protocol):
    """Result of a step."""

    @property
    def logs(self) -> Mapping[str, Tensor]:
        """Losses to log, 0-d tensors on the device."""


Step = TypeVar("Step", bound=Logged)


@dataclass(frozen=True)
class Intervals:
    """Iterations between recurring actions; 0 for never.

    Attributes:
        safety: checkpoints in addition to those of ``checkpoint``; later ones replace them.
    """

    log: int
    checkpoint: int
    evaluation: int = 0
    picture: int = 0
    safety: int = 0

    @classmethod
    def of_run(cls, run: RunConfig) -> Intervals:
        """Intervals of a config.

        If the config limits the number of checkpoints, one is also written before every evaluation: the published
        configs write one at the end only, and a crash would cost everything.
        """
        checkpoints, evaluation = run.checkpoint_config, run.evaluation.interval
        limited = checkpoints.interval and checkpoints.max_keep_ckpts
        return cls(
            log=run.log_config.interval,
            checkpoint=checkpoints.interval,
            evaluation=evaluation,
            picture=max(run.uda.debug_img_interval, 0),
            safety=evaluation if limited else 0,
        )

    @property
    def longest(self) -> int:
        """Iterations within which everything that interrupts the training happens once."""
        return max(self.checkpoint, self.evaluation, self.picture, self.safety)


def is_due(interval: int, done: int, last: int) -> bool:
    """Whether an action is due after ``done`` iterations: at its interval and at the end."""
    return interval > 0 and (done % interval == 0 or done == last)


class TrainingLoop(ABC, Generic[Step]):
    """Trains from iteration ``first`` to ``last - 1``. A subclass sets the members and defines the step.

    Attributes:
        work_dir: folder of the run.
        log: sink for messages, metrics and images.
        device: where the step runs.
        batches: one batch per iteration, on the device.
        first: number of finished iterations at the start.
        last: number of finished iterations at the end.
        intervals: see :class:`Intervals`.
        process: rank of this process.
        undo: restores what an unfinished step has changed; None if only the state between two iterations can be saved.
        resume_hint: how to resume, for messages.
        shutdown: saves the state when the training ends, for whatever reason; set by :meth:`run`, as are the next two.
        pace: clock.
        window: sums since the last log line.
    """

    work_dir: WorkDir
    log: RunLog | SilentLog
    device: torch.device
    batches: Iterable[Any]
    first: int
    last: int
    intervals: Intervals
    process: ProcessRank = SINGLE_PROCESS
    undo: StepUndo | None = None
    resume_hint: str = "Continue with --resume auto"
    shutdown: Shutdown
    pace: Pace
    window: LogWindow

    def run(self) -> None:
        """Run the iterations.

        Raises:
            Interrupted: by a signal, after the state was saved.
            CMDAError: a loss or gradient is not finite, or a file cannot be read or written; the message says what was
                saved.
        """
        batches = iter(self.batches)
        self.pace = Pace(period=self.intervals.longest)
        self.window = LogWindow(self.pace)
        self.shutdown = Shutdown(self, self.undo)
        with self.shutdown, progress_bar(self.log.console) as bar:
            task = bar.add_task("training", total=self.last, completed=self.first, remaining="", shown="")
            if is_due(self.intervals.evaluation, self.first, self.last) and self.lacks_evaluation(self.first):
                self.pace.hold()
                self.validate(self.first)
                self.pace.go_on()
            for iteration in range(self.first, self.last):
                batch, data_time = self.next_batch(batches)
                self.shutdown.step_begins()
                result = self.step(batch, iteration)
                self.window.add(result.logs, data_time)
                self.pace.tick()
                done = iteration + 1
                self.shutdown.step_ended(done)
                if iteration == self.first or is_due(self.intervals.log, done, self.last):
                    bar.update(task, shown=short(self.write_logs(done)))
                self.pace.hold()
                self.after_step(result, done)
                del result
                bar.update(task, completed=done, remaining=remaining_text(self.pace.remaining(self.last - done)))
                if any(is_due(n, done, self.last) for n in (self.intervals.checkpoint, self.intervals.safety)):
                    self.shutdown.checkpoint(must_succeed=done == self.last)
                self.shutdown.leave_if_requested()
                if is_due(self.intervals.evaluation, done, self.last):
                    self.validate(done)
                self.pace.go_on()

    # ------------------------------------------------------------------------------------------ what a training defines

    @abstractmethod
    def step(self, batch: Any, iteration: int) -> Step:
        """Train on one batch; ``iteration`` counts from 0."""

    @abstractmethod
    def write_checkpoint(self, done: int) -> None:
        """Write the checkpoint of ``done`` finished iterations from this process.

        Raises:
            CheckpointError: it cannot be written.
        """

    def save(self, done: int) -> None:
        """The same; called in every process."""
        self.write_checkpoint(done)

    def lacks_evaluation(self, done: int) -> bool:
        """Whether the evaluation that was due before this training was resumed is missing; called in every process."""
        return False

    def evaluate(self, done: int) -> None:
        """Evaluate the model; called in every process."""

    def after_step(self, result: Step, done: int) -> None:
        """Follow up on a step, outside the measured time."""

    def check_finite(self) -> None:
        """Raise a :class:`CMDAError` if the state must not be saved; called before logs and checkpoints."""

    @abstractmethod
    def extra_metrics(self, done: int) -> dict[str, float]:
        """Metrics to log next to the means of the losses."""

    def shown_metrics(self, values: Mapping[str, float]) -> Mapping[str, float]:
        """The metrics of a line for people."""
        return values

    # ------------------------------------------------------------------------------------------ parts of an iteration

    def next_batch(self, batches: Iterator[Any]) -> tuple[Any, float]:
        """The next batch and the seconds spent waiting for it.

        If any process gets none (bad files, a signal), all of them end here.
        """
        started = time.perf_counter()
        batch = problem = None
        try:
            with self.shutdown.interruptions.at_once():
                batch = next(batches)
        except (Exception, StopNow) as error:
            problem = error
        self.shutdown.all_or_none(problem)
        return batch, time.perf_counter() - started

    def write_logs(self, done: int) -> dict[str, float]:
        """Log the metrics since the last line, and return them."""
        self.check_finite()
        values = {**self.window.means(), **self.extra_metrics(done)}
        self.log.record("train", done, values)
        remaining = self.pace.remaining(self.last - done)
        self.log.info(log_line(done, self.last, self.shown_metrics(values), remaining))
        self.window = LogWindow(self.pace)
        return values

    def validate(self, done: int) -> None:
        """Evaluate. A signal interrupts it at once, and a full disk costs only the evaluation."""

        def act() -> None:
            try:
                with self.shutdown.interruptions.at_once():
                    self.evaluate(done)
            except OSError as error:
                failed = f"the evaluation after iteration {done} cannot be written ({error.strerror or error})"
                if done == self.last:
                    raise CMDAError(f"{failed}; free space there and repeat it with my_test.py") from error
                self.log.warning(f"{failed}; the training continues")

        # A process that received a signal reports it in the call after this one.
        with suppress(StopNow):
            run_on_all_ranks(act)
        self.shutdown.leave_if_requested()
