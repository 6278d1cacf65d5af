"""Training of the style-transfer generator (CMDA, section 3.2; CycleGAN, ICCV 2017)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor, nn

from mmseg.engine.checkpoint import remove_checkpoints, write_checkpoint
from mmseg.engine.data import batches, training_loader
from mmseg.engine.run_log import RunLog
from mmseg.engine.training_loop import Intervals, TrainingLoop, is_due
from mmseg.errors import CMDAError
from mmseg.style_transfer.checkpoint import checked_state, saved_weights
from mmseg.style_transfer.cyclegan import CycleGAN
from mmseg.style_transfer.image_pool import ImagePool, PoolDraw
from mmseg.style_transfer.pictures import UnpairedPictures
from mmseg.style_transfer.settings import StyleTransferSettings
from mmseg.style_transfer.sheet import SampleSheet
from mmseg.work_dir.layout import WorkDir
from mmseg.work_dir.lock import WorkDirLock


@dataclass(frozen=True)
class StyleStep:
    """Losses of a step, 0-d tensors on the device."""

    logs: dict[str, Tensor]


class StyleTransferTrainer(TrainingLoop[StyleStep]):
    """Trains CycleGAN; every random draw is keyed by (seed, iteration).

    Args:
        settings: see :class:`StyleTransferSettings`.
        pictures: the training pictures.
        work_dir: folder of the run.
        device: where to train.
        lock: lock of the work dir.

    Attributes:
        pools: earlier translations by domain.
        sheet: draws held-out pictures; None if there are none.
    """

    resume_hint = "Continue with --resume"
    settings: StyleTransferSettings
    pictures: UnpairedPictures
    lock: WorkDirLock
    model: CycleGAN
    optimizers: dict[str, torch.optim.Adam]
    pools: dict[str, ImagePool]
    sheet: SampleSheet | None = None

    def __init__(
        self,
        settings: StyleTransferSettings,
        pictures: UnpairedPictures,
        work_dir: WorkDir,
        device: torch.device,
        lock: WorkDirLock,
    ) -> None:
        self.settings, self.pictures, self.lock = settings, pictures, lock
        self.work_dir, self.device = work_dir, device
        torch.manual_seed(settings.seed)
        # Built on the CPU: equal seeds give equal weights on every device.
        model = CycleGAN(settings.filters, settings.cycle_weight, settings.identity_weight)
        self.model = model.to(device).train()
        # The names are those in checkpoints.
        self.optimizers = {
            "generators": self._adam(self.model.generator_parameters()),
            "critics": self._adam(self.model.discriminator_parameters()),
        }
        self.pools = {"change": ImagePool(settings.pool), "events": ImagePool(settings.pool)}
        self.first, self.last = 0, settings.iterations
        self.intervals = Intervals(
            log=settings.log_interval, checkpoint=settings.checkpoint_interval, picture=settings.picture_interval
        )

    def _adam(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
        return torch.optim.Adam(parameters, lr=self.settings.learning_rate, betas=(self.settings.beta1, 0.999))

    def prepare(self, log: RunLog, workers: int) -> None:
        """Open the loader, before :meth:`run`.

        Args:
            log: log of the run.
            workers: loader processes.
        """
        self.log = log
        iterations = range(self.first, self.last)
        loader = training_loader(self.pictures, self.settings.batch, workers, iterations, self.device)
        self.batches = batches(loader, self.device)

    # ------------------------------------------------------------------------------------------ the step

    def step(self, batch: Mapping[str, Tensor], iteration: int) -> StyleStep:
        """Train on one batch: ``change`` and ``events``, (B, 1, H, W) on the device."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
            optimizer.param_groups[0]["lr"] = self.settings.rate(iteration)
        change, events = batch["change"], batch["events"]

        # GENERATORS: through the discriminators, which get no gradients
        for parameter in self.model.discriminator_parameters():
            parameter.requires_grad_(False)
        losses, fake = self.model.generator_losses(change, events)
        reduce(torch.add, losses.values()).backward()
        self.optimizers["generators"].step()
        for parameter in self.model.discriminator_parameters():
            parameter.requires_grad_(True)

        # DISCRIMINATORS: on the newest and earlier translations
        shown = {
            name: pool.exchange(fake[name], self._pool_draw(len(change), iteration, k))
            for k, (name, pool) in enumerate(self.pools.items())
        }
        judged = self.model.discriminator_losses(change, events, shown["change"], shown["events"])
        reduce(torch.add, judged.values()).backward()
        self.optimizers["critics"].step()
        return StyleStep({name: loss.detach() for name, loss in {**losses, **judged}.items()})

    def _pool_draw(self, batch: int, iteration: int, pool: int) -> PoolDraw:
        return PoolDraw.make(batch, self.settings.pool, self.settings.seed, iteration, pool)

    # ------------------------------------------------------------------------------------------ logs and sheets

    def extra_metrics(self, done: int) -> dict[str, float]:
        return {"lr": self.settings.rate(done - 1)}

    def shown_metrics(self, values: Mapping[str, float]) -> Mapping[str, float]:
        return {name.removeprefix("loss_"): value for name, value in values.items()}

    def write_logs(self, done: int) -> dict[str, float]:
        """Log the metrics since the last line.

        Raises:
            CMDAError: one of them is not finite.
        """
        values = super().write_logs(done)
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            self.shutdown.spoilt()
            raise CMDAError(
                f"training stopped at iteration {done}: {', '.join(broken)} is not finite; lower --learning-rate or "
                "look at the last sample sheet in the work dir"
            )
        return values

    def after_step(self, result: StyleStep, done: int) -> None:
        if self.sheet is None or not is_due(self.intervals.picture, done, self.last):
            return
        try:
            self.log.picture("samples", done, self.sheet.write(self.model, self.work_dir.picture(done)))
        except OSError as error:
            self.log.warning(f"no sample sheet of iteration {done} ({error.strerror or error})")

    # ------------------------------------------------------------------------------------------ checkpoints

    @property
    def counts(self) -> dict[str, int]:
        """Number of training pictures by domain."""
        return {domain: len(paths) for domain, paths in self.pictures.paths.items()}

    def write_checkpoint(self, done: int) -> None:
        """Write ``iter_<n>.pth`` and remove earlier ones, which are large."""
        self.lock.verify()
        path = self.work_dir.checkpoint(done)
        content = {
            "meta": {"iter": done, "settings": asdict(self.settings), "pictures": self.counts},
            "state_dict": saved_weights(self.model),
            "optimizer": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "pools": {name: pool.state() for name, pool in self.pools.items()},
        }
        write_checkpoint(path, content)
        remove_checkpoints(old for old in self.work_dir.checkpoints() if old != path)
        self.log.info("wrote %s", path)

    def resume(self, path: Path) -> None:
        """Restore a checkpoint.

        Raises:
            CheckpointError: it is not of such a training, or damaged.
            ConfigError: settings or pictures have changed, or no iteration is left.
        """
        state = checked_state(path, self.settings, self.counts, self.model, self.optimizers)
        for name, pool in self.pools.items():
            pool.restore(state.pools[name], self.device)
        self.model.load_state_dict(state.weights)
        self.first = state.iteration
