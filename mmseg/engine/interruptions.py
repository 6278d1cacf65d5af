"""Ctrl-C and SIGTERM: a training saves before it leaves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mmseg.distributed import agree
from mmseg.errors import CMDAError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(CMDAError):
    """A training was asked to stop.

    Attributes:
        number: the signal's, e.g. 15 for SIGTERM. The exit status of a script is 128 more, as shells have it.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = int(number)
        self.status = 128 + self.number


class Interruptions:
    """Context in which the first SIGINT or SIGTERM is noted, to be acted upon when an iteration has ended.

    A second signal has its usual effect at once. Of several processes, all stop after the same iteration.

    Attributes:
        received: number of the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}
        self._at_once = False

    def __enter__(self) -> Interruptions:
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.__exit__()
        if self._at_once:
            raise self.error("")

    def requested(self) -> bool:
        """Whether to stop; every process of a training asks after the same iterations."""
        return agree(self.received > 0)

    def error(self, message: str) -> Interrupted:
        """What to raise for the signal that came, here or in another process."""
        return Interrupted(message, self.received or signal.SIGTERM)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Context of something long that can be done again: a signal ends it, by :class:`Interrupted`."""
        if self.received:
            raise self.error("")
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False


def leave_signals_to_parent() -> None:
    """Set up a loader process: Ctrl-C is not its business; SIGTERM ends it, as its parent expects."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
