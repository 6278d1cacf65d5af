"""Training of the style-transfer generator: steps, checkpoints and loop (CMDA, section 3.2; CycleGAN, ICCV 2017)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmseg.engine.checkpoint import checkpoint_path, list_checkpoints, remove_checkpoints, write_checkpoint
from mmseg.engine.ending import Ending
from mmseg.engine.progress import LogWindow, Pace, log_line, progress_bar, remaining_text
from mmseg.engine.run_log import RunLog
from mmseg.engine.training_loop import is_due
from mmseg.engine.training_state import check_training_state
from mmseg.errors import CheckpointError, CMDAError, ConfigError, first_line
from mmseg.io.files import atomic_path
from mmseg.models.resnet_generator import ResnetGenerator
from mmseg.models.weights import check_finite, check_tensors, load_file, report_mismatch
from mmseg.style_transfer.cyclegan import CycleGAN
from mmseg.style_transfer.image_pool import ImagePool, PoolDraw
from mmseg.style_transfer.settings import PUBLISHED_FILTERS, StyleTransferSettings

PUBLISHED_NAME = "cityscapes_ICD_to_dsec_EN.pth"


class StyleTransferTrainer:
    """Networks, optimisers and pools; every random draw is keyed by (seed, iteration).

    Args:
        settings: see :class:`StyleTransferSettings`.
        device: where to train.
    """

    def __init__(self, settings: StyleTransferSettings, device: torch.device) -> None:
        self.settings = settings
        torch.manual_seed(settings.seed)
        # Built on the CPU: equal seeds give equal weights on every device.
        model = CycleGAN(settings.filters, settings.cycle_weight, settings.identity_weight)
        self.model = model.to(device).train()
        self.device = device
        self.optimizers = {
            "generators": self._adam(self.model.generator_parameters()),
            "critics": self._adam(self.model.critic_parameters()),
        }
        self.pools = {"change": ImagePool(settings.pool), "events": ImagePool(settings.pool)}

    def _adam(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
        return torch.optim.Adam(parameters, lr=self.settings.learning_rate, betas=(self.settings.beta1, 0.999))

    def step(self, batch: Mapping[str, Tensor], iteration: int) -> dict[str, Tensor]:
        """Train on one batch (``change`` and ``events``, (B, 1, H, W) on the device); losses without gradient."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
            optimizer.param_groups[0]["lr"] = self.settings.rate(iteration)
        change, events = batch["change"], batch["events"]

        # GENERATORS: through the discriminators, without gradients for these
        for parameter in self.model.critic_parameters():
            parameter.requires_grad_(False)
        losses, fake = self.model.generator_losses(change, events)
        sum(losses.values()).backward()
        self.optimizers["generators"].step()
        for parameter in self.model.critic_parameters():
            parameter.requires_grad_(True)

        # DISCRIMINATORS: on translations of now and before
        shown = {
            name: pool.exchange(fake[name], self._pool_draw(len(change), iteration, k))
            for k, (name, pool) in enumerate(self.pools.items())
        }
        critic_losses = self.model.critic_losses(change, events, shown["change"], shown["events"])
        sum(critic_losses.values()).backward()
        self.optimizers["critics"].step()
        return {name: loss.detach() for name, loss in {**losses, **critic_losses}.items()}

    def _pool_draw(self, batch: int, iteration: int, pool: int) -> PoolDraw:
        return PoolDraw.make(batch, self.settings.pool, self.settings.seed, iteration, pool)

    def state(self, done: int, pictures: Mapping[str, int]) -> dict[str, Any]:
        """Everything that a resumed run needs after ``done`` iterations, as tensors and plain data."""
        return {
            "meta": {"iter": done, "settings": asdict(self.settings), "pictures": dict(pictures)},
            "state_dict": self.model.state_dict(),
            "optimizer": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "pools": {name: pool.state() for name, pool in self.pools.items()},
        }

    def restore(self, path: Path, pictures: Mapping[str, int]) -> int:
        """Take up a checkpoint; number of finished iterations.

        Raises:
            CheckpointError: it is none of this training, or damaged.
            ConfigError: settings or pictures are others now, or no iteration is left.
        """
        content = load_file(path)
        parts = ("meta", "state_dict", "optimizer", "pools")
        if not isinstance(content, Mapping) or not all(isinstance(content.get(part), Mapping) for part in parts):
            raise CheckpointError(f"{path} is not a checkpoint of a style-transfer training")
        meta = content["meta"]
        earlier, counts = (
            meta.get(key) if isinstance(meta.get(key), Mapping) else {} for key in ("settings", "pictures")
        )
        changes = self.settings.changes(earlier)
        changes += [f"{k} pictures were {counts.get(k)}, now {n}" for k, n in pictures.items() if counts.get(k) != n]
        if changes:
            raise ConfigError(f"{path} is of another training: {'; '.join(changes)}; give another --work-dir")
        for name, optimizer in self.optimizers.items():
            part = {"meta": meta, "state_dict": content["state_dict"], "optimizer": content["optimizer"].get(name)}
            check_training_state(part, path, self.model, optimizer)
        if meta["iter"] >= self.settings.iterations:
            raise ConfigError(f"{path} is of iteration {meta['iter']}: nothing is left of {self.settings.iterations}")
        try:
            for name, pool in self.pools.items():
                pool.restore(self._pool_state(content["pools"][name]), self.device)
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(content["optimizer"][name])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not fit ({first_line(error)})") from error
        self.model.load_state_dict(content["state_dict"])
        return meta["iter"]

    def _pool_state(self, state: Any) -> Tensor | None:
        """Stored pictures of a checkpoint.

        Raises:
            ValueError: they are not those of such a training.
        """
        if state is None:
            return None
        shape = (1, self.settings.crop, self.settings.crop)
        if not isinstance(state, Tensor) or tuple(state.shape[1:]) != shape or len(state) > self.settings.pool:
            raise ValueError("its pools hold no pictures of this training")
        check_tensors({"pool": state}, "the checkpoint")
        check_finite({"pool": state}, "the checkpoint", "start anew")
        return state


def newest_checkpoint(work_dir: Path) -> Path | None:
    """Checkpoint with the highest iteration, if there is any."""
    found = list_checkpoints(work_dir)
    return found[-1] if found else None


def save_trainer(trainer: StyleTransferTrainer, work_dir: Path, done: int, pictures: Mapping[str, int]) -> Path:
    """Write ``iter_<n>.pth`` and remove earlier ones, which are large.

    Raises:
        CheckpointError: the file cannot be written; what was there before is untouched.
    """
    path = checkpoint_path(work_dir, done)
    write_checkpoint(path, trainer.state(done, pictures))
    remove_checkpoints(old for old in list_checkpoints(work_dir) if old != path)
    return path


def generator_path(work_dir: Path, filters: int) -> Path:
    """File of the trained generator: the published name is for one of the published size alone."""
    return work_dir / (PUBLISHED_NAME if filters == PUBLISHED_FILTERS else f"generator_{filters}_filters.pth")


def save_generator(generator: ResnetGenerator, path: Path) -> None:
    """Write the weights of the generator, under the names and shapes of the published file.

    Raises:
        CheckpointError: ``path`` has the published name, and the generator is not of that size.
    """
    weights = {name: tensor.detach().cpu().clone() for name, tensor in generator.state_dict().items()}
    if path.name == PUBLISHED_NAME:
        with torch.device("meta"):
            message = report_mismatch(ResnetGenerator().state_dict(), weights)
        if message:
            raise CheckpointError(f"{path} must hold the generator of {PUBLISHED_FILTERS} filters ({message})")
    with atomic_path(path) as temporary:
        torch.save(weights, temporary)


def run_style_transfer(
    trainer: StyleTransferTrainer,
    batches: Iterable[Mapping[str, Tensor]],
    first: int,
    log: RunLog,
    work_dir: Path,
    save: Callable[[int], None],
    picture: Callable[[int], None],
) -> None:
    """Train from iteration ``first`` to the end of the settings.

    Args:
        batches: one an iteration, on the device.
        work_dir: folder of the run.
        save: writes a checkpoint; called with the number of finished iterations.
        picture: writes a sample sheet; likewise.

    Raises:
        Interrupted: by a signal, after the state was saved.
        CMDAError: a loss is no longer finite, or a file cannot be read or written; it says what was saved.
    """
    settings, iterator = trainer.settings, iter(batches)
    pace = Pace(period=max(settings.picture_interval, settings.checkpoint_interval))
    window = LogWindow(pace)
    ending = Ending(work_dir, first, save, log, go_on="Go on with --resume")
    with ending, progress_bar(log) as progress:
        task = progress.add_task("training", total=settings.iterations, completed=first, remaining="", shown="")
        for iteration in range(first, settings.iterations):
            waited = time.perf_counter()
            with ending.interruptions.at_once():
                batch = next(iterator)
            data_time = time.perf_counter() - waited
            ending.step_begins()
            window.add(trainer.step(batch, iteration), data_time)
            pace.tick()
            done = iteration + 1
            ending.step_ended(done)
            if iteration == first or is_due(settings.log_interval, done, settings.iterations):
                _write_logs(log, window, settings, done, ending)
                window = LogWindow(pace)
            left = remaining_text(pace.remaining(settings.iterations - done))
            progress.update(task, completed=done, remaining=left)
            pace.hold()
            if is_due(settings.picture_interval, done, settings.iterations):
                try:
                    picture(done)
                except OSError as error:
                    log.warning(f"no sample sheet of iteration {done} ({error.strerror or error})")
            if is_due(settings.checkpoint_interval, done, settings.iterations):
                ending.checkpoint(must_succeed=done == settings.iterations)
            ending.leave_if_requested()
            pace.go_on()


def _write_logs(log: RunLog, window: LogWindow, settings: StyleTransferSettings, done: int, ending: Ending) -> None:
    values = {**window.means(), "lr": settings.rate(done - 1)}
    log.record("train", done, values)
    shown = {key.removeprefix("loss_"): value for key, value in values.items()}
    log.info(log_line(done, settings.iterations, shown, window.pace.remaining(settings.iterations - done)))
    broken = [key for key, value in values.items() if not math.isfinite(value)]
    if broken:
        ending.spoilt()
        raise CMDAError(
            f"training stopped at iteration {done}: {', '.join(broken)} is not finite; lower --learning-rate or look "
            "at the last sample sheet in the work dir"
        )
