"""Told to stop: a training finishes its iteration, saves, and leaves.

What leads to which end is in :mod:`mmseg.engine.ending`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from mmseg.errors import Interrupted
from mmseg.parallel.distributed import any_rank
from mmseg.parallel.peers import stop_peers
from mmseg.system.signals import HANG_SECONDS, Listener, StopNow, say_and_exit, signal_name, signals_handled

__all__ = ["Interrupted", "Interruptions", "StopNow"]

# The same signal again within this time belongs to the same request: a launcher passes on what its group has had.
REPEAT_SECONDS = 2.0
# Signals of people, who may become impatient; batch systems repeat theirs while they wait.
REPEATABLE = (signal.SIGINT, signal.SIGTERM)


class Interruptions:
    """Context in which a signal to stop is noted, to be acted upon when an iteration has ended.

    The same signal again (Ctrl-C or SIGTERM, ``REPEAT_SECONDS`` later) ends the process at once. Of several
    processes, all stop after the same iteration.

    Args:
        rescue: called in another thread when the main one hangs in a place that it should have left at once; saves
            what can be saved, and says what became of it.
        end_children: ends the processes that this one started; called before it ends without its main thread.

    Attributes:
        received: number of the signal that came first, 0 before.
        repeated: whether it came again.
    """

    def __init__(
        self, rescue: Callable[[], str] = lambda: "nothing was saved", end_children: Callable[[], None] = lambda: None
    ) -> None:
        self.received = 0
        self.repeated = False
        self._rescue, self._end_children = rescue, end_children
        self._came: dict[int, float] = {}
        self._at_once = False
        self._context = ExitStack()

    def __enter__(self) -> Interruptions:
        self._context.enter_context(signals_handled(self._note))
        self._context.enter_context(Listener(self._heard))
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def _note(self, number: int) -> None:
        """In the main thread, when it comes to it."""
        self.received = self.received or stop_peers(number)
        if self._at_once:
            self._at_once = False
            raise StopNow(self.received)

    def _heard(self, number: int | None) -> None:
        """In the listening thread, at once; without a number, from time to time."""
        now = time.monotonic()
        if number is not None:
            # The main thread may be waiting for one of them.
            stop_peers(number)
            since = now - self._came.setdefault(number, now)
            if number in REPEATABLE and since >= REPEAT_SECONDS:
                self.repeated = True
                self.leave_at_once(number)
        elif self._at_once and self._came and now - min(self._came.values()) > HANG_SECONDS:
            first = min(self._came, key=self._came.__getitem__)
            what = f"interrupted by {signal_name(first)} while it waited for something that does not come"
            self._leave(f"{what}; {self._rescue()}", first)

    def leave_at_once(self, number: int) -> None:
        """What a repeated signal does."""
        self._leave(f"{signal_name(number)} came again: ended at once, without saving", number)

    def _leave(self, message: str, number: int) -> None:
        self._end_children()
        say_and_exit(message, 128 + number)

    def requested(self) -> bool:
        """Whether to stop; every process of a training asks after the same iterations."""
        return any_rank(self.received > 0)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Context of something that can be done again: a signal ends it, also one that came before.

        Raises:
            StopNow: a signal came.
        """
        if self.received:
            raise StopNow(self.received)
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False
