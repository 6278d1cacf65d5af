"""Where the numbers and pictures of a training go beside its log file: TensorBoard, Weights & Biases, MLflow.

The entries of ``log_config.hooks`` choose them by the names that MMSegmentation's users know; TensorBoard is always
there.
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

# bytes that must be free for event files to be begun anew
ROOM = 2**20


class Logger(Protocol):
    """What a training tells of itself."""

    def scalars(self, mode: str, iteration: int, values: Mapping[str, float]) -> None:
        """Finite numbers of an iteration; ``mode`` is ``train`` or ``val``."""

    def picture(self, tag: str, iteration: int, picture: np.ndarray) -> None:
        """(H, W, 3) uint8 RGB."""

    def forget_after(self, iteration: int) -> None:
        """Later iterations will be written anew: the training was resumed after this one."""

    def close(self) -> None:
        """Write what is left, and end."""


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
        """The writer; one that a full disk has ended is replaced when there is room again."""
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
    """The thread that writes event files hands its error to the next call, too; it need not print it."""
    if not type(failure.thread).__module__.startswith("tensorboard"):
        threading.__excepthook__(failure)


class WandbLogger:
    """A Weights & Biases run; ``init_kwargs`` go to ``wandb.init``.

    A resumed training goes on with the run that ``<work_dir>/wandb_run.txt`` names.
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
        """Steps that were logged already are kept by the service as they were."""

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
        """A resumed training is a run of its own there."""

    def close(self) -> None:
        self._mlflow.end_run()


# hook -> its settings
HOOKS: Mapping[str, set[str]] = {name: set(keys) for name, keys in HOOK_KEYS.items()}


def check_hooks(hooks: Sequence[Mapping[str, Any]]) -> None:
    """Check ``log_config.hooks`` before anything is built, and that the packages they need are there.

    Raises:
        ConfigError: an unknown hook or setting, or a missing package.
    """
    for hook in hooks:
        kind = hook.get("type") if isinstance(hook, Mapping) else hook
        if kind not in HOOKS:
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
        name: of the run.
        config: the resolved config, in JSON types, for services that keep it.
    """
    loggers: list[Logger] = [TensorBoardLogger(work_dir)]
    for hook in hooks:
        if hook["type"] == "WandbLoggerHook":
            loggers.append(WandbLogger(work_dir, name, config, hook.get("init_kwargs") or {}))
        elif hook["type"] == "MlflowLoggerHook":
            loggers.append(MlflowLogger(name, hook.get("exp_name")))
    return loggers
