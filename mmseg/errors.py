"""Errors that a user can fix. Scripts print only their message, without a traceback."""

from __future__ import annotations

import difflib
import errno
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn, TextIO

from mmseg.system.interpreter import missing_package
from mmseg.system.program import spelled
from mmseg.system.signals import StopNow, follow_launcher, ignore_signals, signal_name, signals_handled, stop_now
from mmseg.system.text import printable


class CMDAError(Exception):
    """Bad input. The message names the file, key or value at fault and the remedy.

    Attributes:
        status: exit status of a script that ends with it.
    """

    status = 2

    def __str__(self) -> str:
        """The message; characters that a terminal or a log may interpret are escaped."""
        return printable(spelled(super().__str__()))


class ConfigError(CMDAError):
    """A config file, key or value that cannot be used."""


class DataError(CMDAError):
    """A dataset file that is missing or cannot be used."""


class CheckpointError(CMDAError):
    """A weight file that is missing or does not fit the model."""


class Interrupted(CMDAError):
    """A signal stopped a training.

    Attributes:
        number: signal number, such as 15 for SIGTERM. The exit status of a script is 128 more, as in shells.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = int(number)
        self.status = 128 + self.number


def own_message(error: CMDAError) -> CMDAError:
    """The original error, if a loader process passed it on with its traceback in the text."""
    text = str(error)
    if not text.startswith("Caught "):
        return error
    return type(error)(text.strip().splitlines()[-1].split("Error: ", 1)[-1])


def first_line(error: BaseException) -> str:
    """First line of an error's message; its class name if there is none, as for a bare ``MemoryError``."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


# Remedies for operating system errors that no check can prevent.
_SYSTEM_REMEDIES = {
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EMFILE: "let the process open more files (ulimit -n)",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the network drive",
}


def address_remedy(path: object) -> str:
    """Remedy for a URL that was given as a path; '' for anything else."""
    # At least two letters: one is a drive. Path() drops the second slash.
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        return ""
    return "this is an address, and nothing is downloaded here: download it, and give the path of the file"


def run_as_script(main: Callable[[], None]) -> None:
    """Run ``main`` and turn errors that a user can fix into one line on stderr and an exit status.

    These are a :class:`CMDAError`, a missing package, and operating system errors such as a full disk. A signal to stop
    also ends it with one line and a status of 128 plus its number. If the reader of stdout has gone, it exits silently,
    as other programs do. Characters that the terminal's encoding lacks are escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        follow_launcher()
        with signals_handled(stop_now):
            main()
    except Interrupted as error:
        _end_by_signal(f"error: {error}", error.number)
    except CMDAError as error:
        _end(str(error), error.status)
    except ModuleNotFoundError as error:
        message = missing_package(error)
        if message is None:
            raise
        _end(message)
    except BrokenPipeError:
        # The reader of stdout has seen enough, as in "| head"; other broken pipes are errors.
        if _has_reader(sys.stdout):
            raise
        raise SystemExit(128 + signal.SIGPIPE) from None
    except OSError as error:
        if error.errno not in _SYSTEM_REMEDIES:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror}; {_SYSTEM_REMEDIES[error.errno]}")
    except StopNow as stop:
        by = "" if stop.number == signal.SIGINT else f" by {signal_name(stop.number)}"
        _end_by_signal(f"interrupted{by}", stop.number)
    except KeyboardInterrupt:
        _end_by_signal("interrupted", signal.SIGINT)
    finally:
        # Otherwise Python would report a broken stdout or stderr at exit, and change the exit status.
        for stream in (sys.stdout, sys.stderr):
            if not _can_flush(stream):
                _drop_output(stream)


def _end(message: str, status: int = CMDAError.status) -> NoReturn:
    _say(f"error: {message}")
    raise SystemExit(status) from None


def _end_by_signal(text: str, number: int) -> NoReturn:
    ignore_signals()
    _say(text)
    raise SystemExit(128 + number) from None


def _say(text: str) -> None:
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _can_flush(stream: TextIO | None) -> bool:
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        return False
    return True


def _has_reader(stream: TextIO | None) -> bool:
    """Whether someone still reads a stream. Text that could not be written has left its buffer."""
    if stream is None or not _can_flush(stream):
        return False
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return not any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # a system without poll(), a stream without a file
        return True


def _drop_output(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
