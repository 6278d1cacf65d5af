"""Signals to stop: a training finishes its iteration, saves, and exits; see :mod:`mmseg.engine.shutdown`."""

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

# The same signal within this time is one request: a launcher forwards signals that its process group got too.
REPEAT_SECONDS = 2.0
# Signals that people repeat when they lose patience; batch systems repeat others while they wait.
REPEATABLE = (signal.SIGINT, signal.SIGTERM)


class Interruptions:
    """Context in which a signal to stop is recorded, and handled when an iteration has ended.

    The same signal again (Ctrl-C or SIGTERM, ``REPEAT_SECONDS`` later) ends the process at once. Of several
    processes, all stop after the same iteration.

    Args:
        rescue: called in another thread when the main one hangs although a signal should have interrupted it; saves
            what it can and returns a sentence on the result.
        end_children: ends child processes; called before this one exits without its main thread.

    Attributes:
        received: number of the first signal; 0 if there was none.
        repeated: whether it was repeated.
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
        """Runs in the main thread, once it is free to."""
        self.received = self.received or stop_peers(number)
        if self._at_once:
            self._at_once = False
            raise StopNow(self.received)

    def _heard(self, number: int | None) -> None:
        """Runs in the listening thread: at once for a signal, and from time to time without a number."""
        now = time.monotonic()
        if number is not None:
            # The main thread may be waiting for another process.
            stop_peers(number)
            since = now - self._came.setdefault(number, now)
            if number in REPEATABLE and since >= REPEAT_SECONDS:
                self.repeated = True
                self.leave_at_once(number)
        elif self._at_once and self._came and now - min(self._came.values()) > HANG_SECONDS:
            first = min(self._came, key=self._came.__getitem__)
            what = f"interrupted by {signal_name(first)} while it waited for something that did not happen"
            self._leave(f"{what}; {self._rescue()}", first)

    def leave_at_once(self, number: int) -> None:
        """Exit at once because of a repeated signal."""
        self._leave(f"{signal_name(number)} came again: ended at once, without saving", number)

    def _leave(self, message: str, number: int) -> None:
        self._end_children()
        say_and_exit(message, 128 + number)

    def requested(self) -> bool:
        """Whether any process got a signal; all of them call this after the same iterations."""
        return any_rank(self.received > 0)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Context of work that can be repeated: a signal interrupts it, even one that came before.

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
