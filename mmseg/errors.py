"""Errors that a user can mend. Scripts print their message alone, without a traceback."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable


class CMDAError(Exception):
    """Bad input. The message names the file, key or value at fault and the remedy.

    Attributes:
        status: exit status of a script that it ends.
    """

    status = 2


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


def run_as_script(main: Callable[[], None]) -> None:
    """Run ``main`` and turn a :class:`CMDAError` into one line on stderr and its exit status."""
    try:
        main()
    except CMDAError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.status) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
