"""Log of a run: text, JSON lines, and further loggers."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.logging import RichHandler

from mmseg.engine.loggers import Logger, TensorBoardLogger
from mmseg.errors import ConfigError
from mmseg.io.files import write_text
from mmseg.system.console import SteadyStream
from mmseg.work_dir.layout import WorkDir
from mmseg.work_dir.log_file import read_record

LOGGER_NAME = "mmseg"


class LineFile:
    """A text file to append lines to. Lines that a full disk refuses are kept and written with the next one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # unbuffered, to know what was written to the byte
        self._file = path.open("ab", buffering=0)
        self._pending = b""

    def add(self, line: str) -> None:
        """Append a line.

        Raises:
            OSError: it cannot be written at present.
        """
        self._pending += f"{line}\n".encode("utf-8", "backslashreplace")
        self._write()

    def _write(self) -> None:
        while self._pending:
            self._pending = self._pending[self._file.write(self._pending) :]

    def close(self) -> None:
        """Try once more to write pending lines, and close the file."""
        with suppress(OSError):
            self._write()
        self._file.close()


class _LogFile(logging.Handler):
    """Writes log lines to a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.lines = LineFile(path)

    def emit(self, record: logging.LogRecord) -> None:
        # The JSON log on the same disk reports the error.
        with suppress(OSError, ValueError):
            self.lines.add(self.format(record))

    def close(self) -> None:
        super().close()
        self.lines.close()


class RunLog:
    """Writes to ``<work_dir>/<name>.log``, ``<name>.log.json`` (one JSON object per line) and the loggers.

    None of its methods fails: a full disk, an unresponsive service or a closed terminal costs lines, not the run. Lines
    that a file refused are written once the disk has space.
    """

    def __init__(
        self,
        work_dir: str | Path,
        name: str,
        console: Console,
        level: str = "INFO",
        loggers: Sequence[Logger] | None = None,
    ) -> None:
        files = WorkDir(work_dir, name)
        self.console = console
        self.logger = logging.getLogger(LOGGER_NAME)
        self.logger.setLevel(level)
        self._handlers = [
            # Pipes and batch jobs get plain, unwrapped lines.
            RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
            if console.is_terminal
            else logging.StreamHandler(SteadyStream(console.file)),
            _LogFile(files.text_log),
        ]
        self._in_trouble: set[str] = set()
        for handler in self._handlers:
            if not isinstance(handler, RichHandler):
                handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            self.logger.addHandler(handler)
        self._json = LineFile(files.json_log)
        self.loggers = [TensorBoardLogger(Path(work_dir))] if loggers is None else list(loggers)

    def info(self, message: str, *args: Any) -> None:
        """Log a message."""
        self.logger.info(message, *args)

    def warning(self, message: str) -> None:
        """Log a warning."""
        self.logger.warning(message)

    def error(self, message: str) -> None:
        """Log what stopped the run, to the log file only: the script prints it itself."""
        self._handlers[1].handle(logging.LogRecord(LOGGER_NAME, logging.ERROR, "", 0, message, (), None))

    def record(
        self, mode: str, iteration: int, values: Mapping[str, float | None], unit: Mapping[str, str] | None = None
    ) -> None:
        """Log metrics of an iteration to the JSON lines and the loggers; values that are not finite become null.

        Args:
            unit: fields that tell readers of the JSON line the unit of its values.
        """
        values = {k: None if v is None or not math.isfinite(v) else v for k, v in values.items()}
        line = json.dumps({"mode": mode, "iter": iteration, **(unit or {}), **values})
        self._try("the log files", lambda: self._json.add(line))
        finite = {key: value for key, value in values.items() if value is not None}
        self._send(lambda logger: logger.scalars(mode, iteration, finite))

    def picture(self, tag: str, iteration: int, picture: np.ndarray) -> None:
        """Send a picture, (H, W, 3) uint8 RGB, to the loggers."""
        self._send(lambda logger: logger.picture(tag, iteration, picture))

    def _send(self, act: Callable[[Logger], None]) -> None:
        for logger in self.loggers:
            self._try(type(logger).__name__, partial(act, logger))

    def _try(self, name: str, act: Callable[[], None]) -> None:
        """Do something that may fail without ending the run; report the first failure, and when it works again."""
        try:
            act()
        # services raise their own error classes
        except Exception as error:
            if name not in self._in_trouble:
                self._in_trouble.add(name)
                why = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
                self.warning(f"{name} cannot be written ({why}); the training continues")
        else:
            if name in self._in_trouble:
                self._in_trouble.discard(name)
                self.info("%s can be written again", name)

    def forget_after(self, iteration: int) -> None:
        """Drop the metrics of later iterations, which a resumed run logs again."""
        self._json.close()
        path = self._json.path
        lines = path.read_bytes().splitlines(keepends=True)
        write_text(path, b"".join(line for line in lines if _iteration(line) <= iteration).decode())
        self._json = LineFile(path)
        self._send(lambda logger: logger.forget_after(iteration))

    def close(self) -> None:
        """Flush and close the files."""
        self._json.close()
        self._send(lambda logger: logger.close())
        for handler in self._handlers:
            self.logger.removeHandler(handler)
            handler.close()


def _iteration(line: bytes) -> float:
    """Iteration of a JSON line; infinity for one that a crash has cut short."""
    try:
        return read_record(line)["iter"]
    except ConfigError:
        return math.inf


class SilentLog:
    """Replaces :class:`RunLog` in processes that write nothing."""

    def __init__(self) -> None:
        self.console = Console(quiet=True)

    def info(self, message: str, *args: Any) -> None:
        """Do nothing."""

    def warning(self, message: str) -> None:
        """Do nothing."""

    def error(self, message: str) -> None:
        """Do nothing."""

    def forget_after(self, iteration: int) -> None:
        """Do nothing."""

    def record(
        self, mode: str, iteration: int, values: Mapping[str, float | None], unit: Mapping[str, str] | None = None
    ) -> None:
        """Do nothing."""

    def picture(self, tag: str, iteration: int, picture: np.ndarray) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
