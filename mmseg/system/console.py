"""Printing that does not end a run: the reader of stdout may go, its terminal may be closed, its disk may be full."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console


class SteadyStream:
    """A text stream that drops what cannot be written; in all else it is the stream that it wraps."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on what is buffered, if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def steady_console(**options: Any) -> Console:
    """Console on stdout whose prints never fail.

    Args:
        options: of :class:`rich.console.Console`.
    """
    return Console(file=SteadyStream(sys.stdout), **options)
