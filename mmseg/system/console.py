"""Printing that does not end a run when stdout breaks: a closed pipe or terminal, a full disk."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import IO, Any, cast

from rich.console import Console


class SteadyStream:
    """Wraps a text stream and drops what cannot be written."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if possible."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def steady_console(**options: Any) -> Console:
    """Console on stdout that never fails.

    Args:
        options: arguments of :class:`rich.console.Console`.
    """
    return Console(file=cast(IO[str], SteadyStream(sys.stdout)), **options)
