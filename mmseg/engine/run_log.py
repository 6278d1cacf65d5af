"""Logs of a run: text, JSON lines, and the loggers beside them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.logging import RichHandler

from mmseg.engine.loggers import Logger, TensorBoardLogger
from mmseg.errors import ConfigError
from mmseg.files import write_text
from mmseg.log_file import read_record

LOGGER_NAME = "mmseg"


class RunLog:
    """Writes to ``<work_dir>/<name>.log``, ``<name>.log.json`` (one JSON object a line) and the loggers."""

    def __init__(
        self,
        work_dir: str | Path,
        name: str,
        console: Console,
        level: str = "INFO",
        loggers: Sequence[Logger] | None = None,
    ) -> None:
        work_dir = Path(work_dir)
        self.console = console
        self.logger = logging.getLogger(LOGGER_NAME)
        self.logger.setLevel(level)
        self._handlers = [
            # In a pipe or a batch job, lines of one length are better served plain.
            RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
            if console.is_terminal
            else logging.StreamHandler(console.file),
            logging.FileHandler(work_dir / f"{name}.log", encoding="utf-8"),
        ]
        for handler in self._handlers:
            if not isinstance(handler, RichHandler):
                handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            self.logger.addHandler(handler)
        self._json = (work_dir / f"{name}.log.json").open("a", encoding="utf-8")
        self.loggers = [TensorBoardLogger(work_dir)] if loggers is None else list(loggers)

    def info(self, message: str, *args: Any) -> None:
        """Line for people."""
        self.logger.info(message, *args)

    def warning(self, message: str) -> None:
        """Line for people that they should not miss."""
        self.logger.warning(message)

    def error(self, message: str) -> None:
        """What stopped the run, for the log file alone: the script shows it itself."""
        self._handlers[1].handle(logging.LogRecord(LOGGER_NAME, logging.ERROR, "", 0, message, (), None))

    def record(
        self, mode: str, iteration: int, values: Mapping[str, float | None], unit: Mapping[str, str] | None = None
    ) -> None:
        """Numbers of an iteration, for the JSON lines and the loggers; what is not finite becomes null.

        Args:
            unit: fields by which the readers of the JSON line know the unit of its numbers.
        """
        values = {k: None if v is None or not math.isfinite(v) else v for k, v in values.items()}
        self._json.write(json.dumps({"mode": mode, "iter": iteration, **(unit or {}), **values}) + "\n")
        self._json.flush()
        finite = {key: value for key, value in values.items() if value is not None}
        for logger in self.loggers:
            logger.scalars(mode, iteration, finite)

    def picture(self, tag: str, iteration: int, picture: np.ndarray) -> None:
        """(H, W, 3) uint8 RGB, for the loggers."""
        for logger in self.loggers:
            logger.picture(tag, iteration, picture)

    def forget_after(self, iteration: int) -> None:
        """Drop the numbers of later iterations, which a resumed run writes anew."""
        self._json.close()
        path = Path(self._json.name)
        lines = path.read_bytes().splitlines(keepends=True)
        write_text(path, b"".join(line for line in lines if _iteration(line) <= iteration).decode())
        self._json = path.open("a", encoding="utf-8")
        for logger in self.loggers:
            logger.forget_after(iteration)

    def close(self) -> None:
        """Flush and release the files."""
        self._json.close()
        for logger in self.loggers:
            logger.close()
        for handler in self._handlers:
            self.logger.removeHandler(handler)
            handler.close()


def _iteration(line: bytes) -> float:
    """Iteration of a JSON line; of one that was cut short by a crash, infinity."""
    try:
        return read_record(line)["iter"]
    except ConfigError:
        return math.inf


class SilentLog:
    """Stands for :class:`RunLog` in processes that write nothing."""

    def __init__(self) -> None:
        self.console = Console(quiet=True)

    def info(self, message: str, *args: Any) -> None:
        """Nothing."""

    def warning(self, message: str) -> None:
        """Nothing."""

    def error(self, message: str) -> None:
        """Nothing."""

    def forget_after(self, iteration: int) -> None:
        """Nothing."""

    def record(
        self, mode: str, iteration: int, values: Mapping[str, float | None], unit: Mapping[str, str] | None = None
    ) -> None:
        """Nothing."""

    def picture(self, tag: str, iteration: int, picture: np.ndarray) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
