"""Errors that a user can mend. Scripts print their message only, without a traceback."""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from mmseg.interpreter import missing_package
from mmseg.text import printable


class CMDAError(Exception):
    """Bad input. The message names the file, key or value at fault and the remedy.

    Attributes:
        status: exit status of a script that it ends.
    """

    status = 2

    def __str__(self) -> str:
        """The message, without characters of file names that a terminal or a log may act upon."""
        return printable(super().__str__())


class ConfigError(CMDAError):
    """A config file, key or value that cannot be used."""


class DataError(CMDAError):
    """A dataset file that is missing or cannot be used."""


class CheckpointError(CMDAError):
    """A weight file that is missing or does not fit the model."""


def own_message(error: CMDAError) -> CMDAError:
    """The error as it was raised, where a loader process handed it over with its traceback in the text."""
    text = str(error)
    if not text.startswith("Caught "):
        return error
    return type(error)(text.strip().splitlines()[-1].split("Error: ", 1)[-1])


def first_line(error: BaseException) -> str:
    """First line of an error's text; its class where it has none, as a bare ``MemoryError`` has not."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


# What can be done about errors of the system that no check of ours can foresee.
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
    """What to do where an address of the web stands for a path, else an empty string."""
    # Two letters or more: one is a drive. A path drops the second slash.
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        return ""
    return "this is an address, and nothing is downloaded here: download it, and give the path of the file"


def run_as_script(main: Callable[[], None]) -> None:
    """Run ``main`` and turn what a user can mend into one line on stderr and an exit status.

    These are a :class:`CMDAError`, a package that is not installed, and errors of the system such as a full disk.
    What the encoding of the terminal lacks is printed escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except CMDAError as error:
        _end(str(error), error.status)
    except ModuleNotFoundError as error:
        message = missing_package(error)
        if message is None:
            raise
        _end(message)
    except BrokenPipeError:
        # Who reads along has seen enough, as in "| head". Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + 13) from None
    except OSError as error:
        if error.errno not in _SYSTEM_REMEDIES:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror}; {_SYSTEM_REMEDIES[error.errno]}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _end(message: str, status: int = CMDAError.status) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status) from None
