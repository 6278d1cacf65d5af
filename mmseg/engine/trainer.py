"""A training run of CMDA as one object: its parts, its step, and what it saves."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mmseg.config.load import dump_config, plain
from mmseg.config.run import RunConfig
from mmseg.datasets.uda import UDADataset
from mmseg.engine.build import build_method
from mmseg.engine.checkpoint import checkpoint_meta, load_training, save_best, save_checkpoint
from mmseg.engine.data import Loader, batch_of, batches, sample_numbers, training_loader
from mmseg.engine.environment import keep_freed_memory
from mmseg.engine.finite import FiniteWatch, NonFinite
from mmseg.engine.graphs import use_graphs
from mmseg.engine.numerics import make_scaler, set_determinism, set_numerics
from mmseg.engine.optim import build_optimizer, build_schedule
from mmseg.engine.progress import WARM_UP, duration
from mmseg.engine.resuming import changes, listed
from mmseg.engine.run_log import RunLog, SilentLog
from mmseg.engine.shutdown import StepUndo
from mmseg.engine.skipped import SkippedSamples
from mmseg.engine.startup import Job, unwritable
from mmseg.engine.training_loop import Intervals, TrainingLoop, is_due
from mmseg.errors import CheckpointError, CMDAError, ConfigError
from mmseg.io.files import atomic_path
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.parallel.agreement import broadcast_from_first
from mmseg.parallel.distributed import average_buffers, average_gradients, rank_zero_only
from mmseg.uda.cmda import DACS, StepResult
from mmseg.uda.draws import StepDraws
from mmseg.visualization.panels import save_picture, step_panel
from mmseg.work_dir.earlier import put_later_aside
from mmseg.work_dir.lock import WorkDirLock

# Iterations before a CPU run's duration is estimated.
CPU_ESTIMATE_AFTER = WARM_UP + 2
# Scale of the losses below which fp16 has failed: it is halved whenever a gradient is not finite.
LEAST_SCALE = 2.0**-10


class Validator(Protocol):
    """Evaluates a model during training."""

    def check(self, model: BaseSegmentor) -> None:
        """Raise a :class:`ConfigError` if the validation set does not fit the model."""

    def evaluate(
        self, model: BaseSegmentor, done: int, folder: Path, log: RunLog | SilentLog
    ) -> Mapping[str, float] | None:
        """Write the results of an evaluation into a folder and return its scores; None without labels."""


def seed_iteration(seed: int, iteration: int, rank: int = 0) -> None:
    """Seed what a step draws inside the network (dropout, drop path), so that a resumed run repeats it."""
    torch.manual_seed(seed * 1_000_003 + iteration + rank * 1_000_000_007)


class Trainer(TrainingLoop[StepResult]):
    """Trains, evaluates and saves in a work dir that is locked for it.

    Args:
        job: what to train, where, and from which checkpoint.
        dataset: the training set.
        validator: evaluates the student; None if the config has no validation set.
        log: log of the run.
        lock: lock of the work dir; None in processes other than the first.

    Raises:
        CMDAError: the checkpoint, the weights or the validation set do not fit.
    """

    job: Job
    run_config: RunConfig
    dataset: UDADataset
    validator: Validator | None
    lock: WorkDirLock | None
    method: DACS
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    schedule: torch.optim.lr_scheduler.LRScheduler
    loader: Loader
    skips: SkippedSamples
    watch: FiniteWatch | None
    meta: dict[str, Any]

    def __init__(
        self,
        job: Job,
        dataset: UDADataset,
        validator: Validator | None,
        log: RunLog | SilentLog,
        lock: WorkDirLock | None,
    ) -> None:
        run = job.run
        self.job, self.run_config, self.dataset, self.validator, self.lock = job, run, dataset, validator, lock
        self.work_dir, self.device, self.process, self.log = job.work_dir, job.device, job.process, log
        self.log_start()

        # NUMERICS AND METHOD
        if self.device.type == "cpu":
            keep_freed_memory()
        set_determinism(run.numerics)
        self.method = build_method(run).to(self.device)
        set_numerics(self.method, run.numerics, self.device)
        use_graphs(self.method, run.numerics, self.device, log.warning)

        # OPTIMISATION
        self.optimizer = build_optimizer(self.method.model, run.optimizer)
        self.scaler = make_scaler(run.numerics.precision)
        self.first = self.resume(job.start.checkpoint) if job.start.checkpoint else 0
        self.last = run.runner.max_iters
        self.schedule = build_schedule(self.optimizer, run.lr_config, self.last, self.first)
        # A scaler skips updates that are not finite, and expects some.
        self.watch = None if self.scaler else FiniteWatch(self.optimizer, self.device)
        # On a CPU a copy of the teacher is cheap compared with a step; on a GPU its memory would be missed.
        if self.device.type == "cpu":
            self.undo = StepUndo((self.method.ema_model, True), (self.method.model, False))

        # DATA
        self.loader = training_loader(
            dataset,
            run.data.samples_per_gpu,
            run.data.workers_per_gpu,
            range(self.first, self.last),
            self.device,
            self.process,
        )
        self.skips = SkippedSamples(log, run.data.skips_bad_samples)
        self.batches = batches(self.loader, self.device, self.skips.note)

        # EVALUATION AND CHECKPOINTS
        self.intervals = Intervals.of_run(run)
        if validator is not None:
            validator.check(self.method.model)
        self.meta = self.describe_run()

    def log_start(self) -> None:
        """Log what is trained on."""
        source, target = self.dataset.source, self.dataset.target
        self.log.info("%d source images, %d target frames", len(source), len(target))
        self.log.info(target.read_from)
        if target.left_out:
            self.log.info(target.left_out)
        if self.job.start.remark:
            self.log.warning(self.job.start.remark)

    def describe_run(self) -> dict[str, Any]:
        """Metadata of every checkpoint."""
        classes = self.run_config.class_set
        return {
            "CLASSES": list(classes.names),
            "PALETTE": [list(color) for color in classes.palette],
            "config": dump_config(self.job.config),
            "seed": self.run_config.seed,
            "processes": self.process.world_size,
            "run": self.job.start.identity.as_meta(),
        }

    def resume(self, checkpoint: Path) -> int:
        """Restore a checkpoint; return the number of finished iterations.

        Raises:
            CheckpointError: it does not fit.
            ConfigError: no iteration is left.
        """
        meta = load_training(checkpoint, self.method, self.optimizer, self.scaler, self.run_config.class_set)
        first, last = meta["iter"], self.run_config.runner.max_iters
        if first >= last:
            raise ConfigError(
                f"{checkpoint} is of iteration {first}, and runner.max_iters is {last}: nothing is left to train"
            )
        self.log.forget_after(first)
        self.log.info("resumed after iteration %d from %s", first, checkpoint)
        self.put_later_aside(first)
        changed = changes(meta, plain(self.job.config.to_dict()), self.process.world_size)
        if changed:
            self.log.warning(
                f"the checkpoint was made with other settings, so this run differs from an uninterrupted one: "
                f"{listed(list(changed.values()))}"
            )
        return first

    @rank_zero_only
    def put_later_aside(self, iteration: int) -> None:
        """Keep results of later iterations out of those that this training will have."""
        try:
            moved = put_later_aside(self.work_dir, iteration)
        except OSError as error:
            raise unwritable(self.work_dir, error) from error
        if moved:
            self.log.info("note: moved the results of later iterations aside: %s", ", ".join(moved))

    def run(self) -> None:
        """Train to the end; see :meth:`TrainingLoop.run`."""
        try:
            super().run()
        finally:
            self.skips.report()

    # ------------------------------------------------------------------------------------------ the step

    def step(self, batch: Any, iteration: int) -> StepResult:
        """Gradients, averaged over the processes, then the update, unless they are not finite."""
        seed_iteration(self.run_config.seed, iteration, self.process.rank)
        self.optimizer.zero_grad(set_to_none=True)
        result = self.method.train_step(batch, self.draws(iteration), self.backward)
        average_gradients(self.method.model.parameters())
        average_buffers(self.method.model, self.method.ema_model)
        self.update(iteration, result)
        return result

    def draws(self, iteration: int) -> StepDraws:
        """This process's part of the draws for the joint batch of all processes."""
        size, rank, world_size = self.run_config.data.samples_per_gpu, self.process.rank, self.process.world_size
        draws = StepDraws.make(
            self.method.settings,
            size * world_size,
            iteration,
            self.last,
            self.run_config.seed,
            self.method.num_classes,
        )
        return draws.part(rank * size, (rank + 1) * size)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def update(self, iteration: int, result: StepResult) -> None:
        """Update the weights.

        Raises:
            CMDAError: a loss or gradient is not finite.
        """
        if self.scaler is not None:
            self.shutdown.update_begins()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            return
        assert self.watch is not None
        broken = self.watch.see(iteration, result.logs, self.method.model.parameters())
        if broken:
            self.refuse(broken)
        self.shutdown.update_begins()
        self.optimizer.step()

    def check_finite(self) -> None:
        """Check the losses and gradients since the last call.

        Raises:
            CMDAError: one of them is not finite.
        """
        if self.watch is not None:
            broken = self.watch.found()
            if broken:
                self.shutdown.spoilt()
                self.refuse(broken)
        elif self.scaler is not None and self.scaler.get_scale() < LEAST_SCALE:
            raise CMDAError(
                "training stopped: the gradients are not finite at any scale of the losses; set precision='bf16' or "
                "'fp32'"
            )

    def refuse(self, broken: NonFinite) -> None:
        """Stop before values that are not finite spread any further.

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

    def keep_batch(self, broken: NonFinite) -> Path:
        """Load the batch of an iteration again and write it into the work dir with its losses; return the file."""
        numbers = sample_numbers(broken.iteration, self.run_config.data.samples_per_gpu, self.process)
        path = self.work_dir.broken_batch(broken.iteration + 1, self.process.rank)
        content = {
            "iter": broken.iteration + 1,
            "values": broken.values,
            "samples": [self.dataset.describe(number) for number in numbers],
            "batch": batch_of(self.dataset, numbers),
        }
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
        return path

    # ------------------------------------------------------------------------------------------ logs and pictures

    def extra_metrics(self, done: int) -> dict[str, float]:
        """Learning rate, and the peak GPU memory in GiB."""
        metrics = {"lr": self.optimizer.param_groups[0]["lr"]}
        if self.device.type == "cuda":
            if done - self.first > 1:
                # Reserved memory: tensors of a CUDA graph no longer count as allocated.
                metrics["memory_gib"] = torch.cuda.max_memory_reserved(self.device) / 2**30
            else:
                # In the first iteration cuDNN tries algorithms, some of which need several times as much.
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(self.device)
        return metrics

    def write_logs(self, done: int) -> dict[str, float]:
        values = super().write_logs(done)
        self.skips.share()
        return values

    def after_step(self, result: StepResult, done: int) -> None:
        self.schedule.step()
        if self.intervals.picture > 0 and (done - 1) % self.intervals.picture == 0:
            self.draw_step(result, done)
        if done - self.first == CPU_ESTIMATE_AFTER and self.device.type == "cpu":
            iterations = self.last - self.first
            estimate = duration(self.pace.remaining(iterations) or 0.0)
            self.log.info("there is no CUDA GPU: on this CPU the %d iterations take about %s", iterations, estimate)

    def draw_step(self, result: StepResult, done: int) -> None:
        """Draw inputs, predictions and labels of a step."""
        picture = step_panel(result.pictures, self.run_config.class_set)
        path = self.work_dir.picture(done)
        try:
            path.parent.mkdir(exist_ok=True)
            save_picture(path, picture)
        except OSError as error:
            self.log.warning(f"no picture of iteration {done} ({error.strerror or error}); the training continues")
        self.log.picture("step", done, picture)

    # ------------------------------------------------------------------------------------------ checkpoints, evaluation

    @rank_zero_only
    def save(self, done: int) -> None:
        self.write_checkpoint(done)

    def write_checkpoint(self, done: int) -> None:
        if self.lock is not None:
            self.lock.verify()
        identity = self.job.start.identity

        def is_own(path: Path) -> bool:
            found = checkpoint_meta(path)
            return found is not None and identity.owns(found)

        def counts(iteration: int) -> bool:
            return is_due(self.intervals.checkpoint, iteration, self.last)

        path = self.work_dir.checkpoint(done)
        meta = {**self.meta, "time": time.strftime("%Y-%m-%d %H:%M:%S")}
        keep = self.run_config.checkpoint_config.max_keep_ckpts
        save_checkpoint(path, self.method, self.optimizer, done, meta, keep, self.scaler, is_own, counts)
        identity.write(self.work_dir.path)
        self.log.info("wrote %s", path)

    def lacks_evaluation(self, done: int) -> bool:
        """Whether a run that goes on in its own work dir was interrupted before it evaluated this iteration."""
        if self.validator is None or not self.job.goes_on:
            return False
        return not broadcast_from_first(self.work_dir.evaluation(done).metrics.is_file)

    @rank_zero_only
    def evaluate(self, done: int) -> None:
        """Evaluate the student and keep its weights if it is the best so far."""
        if self.validator is None:
            return
        folder = self.work_dir.evaluation(done).path
        try:
            scores = self.validator.evaluate(self.method.model.eval(), done, folder, self.log)
        finally:
            # The training continues after an evaluation that could not be written.
            self.method.train()
        if scores is not None:
            self.keep_best(done, scores)

    def keep_best(self, done: int, scores: Mapping[str, float]) -> None:
        """Keep the weights if the score that the config names is higher than before.

        By default it is the mean IoU over the classes that the labels can hold, the paper's score.
        """
        wanted = self.run_config.evaluation.save_best
        if wanted is False:
            return
        headline = next((name for name in scores if name.startswith("mIoU_")), "mIoU")
        name = wanted if isinstance(wanted, str) else headline
        work_dir, owns = self.work_dir.path, self.job.start.identity.owns
        try:
            if save_best(work_dir, self.method, done, self.meta, name, scores[name], owns):
                best = self.work_dir.best_checkpoint(name, done)
                self.log.info("the best %s so far, %.2f; kept as %s", name, 100 * scores[name], best)
        except CheckpointError as error:
            self.log.warning(str(error))
