"""Pipelines of threads over a sequence of items that keep the order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

from mmseg.errors import CMDAError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# Threads that read and write while a network predicts.
THREADS = max(2, min(8, os.cpu_count() or 1))
# Items of a background thread that may wait for the next stage.
WAITING = 4


class _Closed(Exception):
    """A channel was closed."""


class _Channel(Generic[Item]):
    """Passes items from one thread to another; at most ``room`` of them wait."""

    def __init__(self, room: int) -> None:
        self._waiting: deque[Item] = deque()
        self._room, self._closed = room, False
        self._changed = Condition()

    def put(self, item: Item) -> None:
        """Add an item as soon as there is room; raises :class:`_Closed`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._room)
            if self._closed:
                raise _Closed
            self._waiting.append(item)
            self._changed.notify_all()

    def get(self) -> Item:
        """Take the first item as soon as there is one; raises :class:`_Closed`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                raise _Closed
            item = self._waiting.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """End both sides."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Stages:
    """Threads of a pipeline, as a context manager that ends all of them, also on an error.

    Every stage is an iterator over its results, in the order of its items, and reads from the stage before. An error of
    a stage is raised when its result would be taken.

    Args:
        threads: number of threads for all calls of :meth:`each`.
    """

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._ahead = 2 * threads
        self._channels: list[_Channel] = []
        self._threads: list[Thread] = []

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *error: object) -> None:
        for channel in self._channels:
            channel.close()
        self._pool.shutdown(cancel_futures=True)
        for thread in self._threads:
            thread.join()

    def each(self, work: Callable[[Item], Outcome], items: Iterable[Item]) -> Iterator[Outcome]:
        """Results of a function; several threads work ahead on the next items."""
        pending: deque[Future[Outcome]] = deque()
        for item in items:
            pending.append(self._pool.submit(work, item))
            if len(pending) > self._ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def beside(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, produced in a background thread."""
        channel: _Channel[tuple[Any, BaseException | None, bool]] = _Channel(WAITING)
        thread = Thread(target=_fill, args=(channel, items), daemon=True)
        self._channels.append(channel)
        self._threads.append(thread)
        thread.start()
        return _emptied(channel)


def _fill(channel: _Channel, items: Iterable[Any]) -> None:
    iterator: Iterator[Any] = iter(())
    try:
        iterator = iter(items)
        for item in iterator:
            channel.put((item, None, False))
        channel.put((None, None, True))
    except _Closed:
        pass
    except BaseException as error:
        with suppress(_Closed):
            channel.put((None, error, True))
    finally:
        # resources that it holds, such as a file, are closed in this thread
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _emptied(channel: _Channel) -> Iterator[Any]:
    while True:
        item, error, is_last = channel.get()
        if error is not None:
            raise error
        if is_last:
            return
        yield item


@contextmanager
def one_message(doing: str, *known: type[Exception]) -> Iterator[None]:
    """Turn an unexpected error into one message; a :class:`CMDAError` and ``known`` errors pass unchanged.

    Raises:
        CMDAError: instead of any other error.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (CMDAError, _Closed, *known)):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise CMDAError(f"{doing} failed ({type(error).__name__}{': ' if reason else ''}{reason})") from error
