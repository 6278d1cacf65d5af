"""Sinks for metrics and images in addition to the log file: TensorBoard, Weights & Biases, MLflow.

``log_config.hooks`` selects them by their MMSegmentation names; TensorBoard is always on.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mmseg.config.run import HOOKS as HOOK_KEYS
from mmseg.errors import ConfigError, did_you_mean
from mmseg.io.files import write_text
from mmseg.work_dir.layout import WorkDir

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# Free bytes needed to start new event files.
ROOM = 2**20


class Logger(Protocol):
    """Sink for metrics and images."""

    def scalars(self, mode: str, iteration: int, values: Mapping[str, float]) -> None:
        """Log finite metrics of an iteration; ``mode`` is ``train`` or ``val``."""

    def picture(self, tag: str, iteration: int, picture: np.ndarray) -> None:
        """Log a picture, (H, W, 3) uint8 RGB."""

    def forget_after(self, iteration: int) -> None:
        """Drop later iterations: the training was resumed after this one and will log them again."""

    def close(self) -> None:
        """Flush and close."""


class TensorBoardLogger:
    """Event files in ``<work_dir>/tensorboard``."""

    def __init__(self, work_dir: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = WorkDir(work_dir).tensorboard
        self._open = SummaryWriter
        self._board: SummaryWriter | None = SummaryWriter(self._folder)
        threading.excepthook = _quiet_about_tensorboard

    def scalars(self, mode: str, iteration: int, values: Mapping[str, float]) -> None:
        with self._writer() as board:
            for key, value in values.items():
                board.add_scalar(f"{mode}/{key}", value, iteration)

    def picture(self, tag: str, iteration: int, picture: np.ndarray) -> None:
        with self._writer() as board:
            board.add_image(tag, picture, iteration, dataformats="HWC")

    def forget_after(self, iteration: int) -> None:
        with self._writer() as board:
            board.close()
            self._board = self._open(self._folder, purge_step=iteration + 1)

    def close(self) -> None:
        with self._writer() as board:
            board.close()

    @contextmanager
    def _writer(self) -> Iterator[SummaryWriter]:
        """The writer; if a full disk has broken it, a new one is made once there is space."""
        if self._board is None:
            if shutil.disk_usage(self._folder).free < ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._board = self._open(self._folder)
        try:
            yield self._board
        except BaseException:
            self._board = None
            raise


def _quiet_about_tensorboard(failure: threading.ExceptHookArgs) -> None:
    """Do not print errors of the thread that writes event files: the next call raises them."""
    if not type(failure.thread).__module__.startswith("tensorboard"):
        threading.__excepthook__(failure)


class WandbLogger:
    """A Weights & Biases run; ``init_kwargs`` go to ``wandb.init``.

    A resumed training continues the run that ``<work_dir>/wandb_run.txt`` names.
    """

    def __init__(self, work_dir: Path, name: str, config: Mapping[str, Any], init_kwargs: Mapping[str, Any]) -> None:
        self._wandb = _package("wandb", "WandbLoggerHook")
        record = WorkDir(work_dir).wandb_record
        known = {"id": record.read_text().strip(), "resume": "allow"} if record.is_file() else {}
        options = {"name": name, "dir": str(work_dir), "config": dict(config), **known, **init_kwargs}
        self._run = self._wandb.init(**options)
        write_text(record, f"{self._run.id}\n")

    def scalars(self, mode: str, iteration: int, values: Mapping[str, float]) -> None:
        self._run.log({f"{mode}/{key}": value for key, value in values.items()}, step=iteration)

    def picture(self, tag: str, iteration: int, picture: np.ndarray) -> None:
        self._run.log({tag: self._wandb.Image(picture)}, step=iteration)

    def forget_after(self, iteration: int) -> None:
        """The service keeps steps that were already logged."""

    def close(self) -> None:
        self._run.finish()


class MlflowLogger:
    """An MLflow run in the experiment ``exp_name``, on the server that ``MLFLOW_TRACKING_URI`` names."""

    def __init__(self, name: str, exp_name: str | None) -> None:
        self._mlflow = _package("mlflow", "MlflowLoggerHook")
        if exp_name:
            self._mlflow.set_experiment(exp_name)
        self._mlflow.start_run(run_name=name)

    def scalars(self, mode: str, iteration: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics({f"{mode}/{key}": value for key, value in values.items()}, step=iteration)

    def picture(self, tag: str, iteration: int, picture: np.ndarray) -> None:
        self._mlflow.log_image(picture, f"{tag}/iter_{iteration:06d}.png")

    def forget_after(self, iteration: int) -> None:
        """A resumed training is a new run there."""

    def close(self) -> None:
        self._mlflow.end_run()


# hook -> names of its settings
HOOKS: Mapping[str, set[str]] = {name: set(keys) for name, keys in HOOK_KEYS.items()}


def check_hooks(hooks: Sequence[Mapping[str, Any]]) -> None:
    """Check ``log_config.hooks`` before anything is built, and that the packages they need are installed.

    Raises:
        ConfigError: an unknown hook or setting, or a missing package.
    """
    for hook in hooks:
        kind = hook.get("type") if isinstance(hook, Mapping) else hook
        if not isinstance(kind, str) or kind not in HOOKS:
            raise ConfigError(
                f"log_config.hooks: {kind!r} is unknown{did_you_mean(str(kind), HOOKS)}; known: {', '.join(HOOKS)}"
            )
        unknown = sorted(set(hook) - HOOKS[kind] - {"type"})
        if unknown:
            meant = did_you_mean(unknown[0], HOOKS[kind])
            raise ConfigError(f"log_config.hooks: {kind} has no setting {unknown[0]!r}{meant}")
        if kind in PACKAGES:
            _package(PACKAGES[kind], kind)


PACKAGES = {"WandbLoggerHook": "wandb", "MlflowLoggerHook": "mlflow"}


def _package(name: str, hook: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"log_config.hooks: {hook} needs the package {name}: pip install {name}") from error


def open_loggers(
    hooks: Sequence[Mapping[str, Any]], work_dir: Path, name: str, config: Mapping[str, Any]
) -> list[Logger]:
    """Loggers of a run.

    Args:
        hooks: checked entries of ``log_config.hooks``.
        name: name of the run.
        config: the resolved config in JSON types, for services that store it.
    """
    loggers: list[Logger] = [TensorBoardLogger(work_dir)]
    for hook in hooks:
        if hook["type"] == "WandbLoggerHook":
            loggers.append(WandbLogger(work_dir, name, config, hook.get("init_kwargs") or {}))
        elif hook["type"] == "MlflowLoggerHook":
            loggers.append(MlflowLogger(name, hook.get("exp_name")))
    return loggers
