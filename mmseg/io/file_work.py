"""Work on many files in several processes: progress, failures by name, nothing left behind by an interruption.

``tools/make_image_change.py``, ``tools/warp_images.py`` and the deep mode of ``tools/check_data.py`` share it.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from types import FrameType
from typing import TypeVar

from rich.console import Console

from mmseg.errors import DataError
from mmseg.system.printing import track
from mmseg.system.text import printable

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

SHOWN_FAILURES = 50
# Tasks a message between processes: few, so that an interruption need not wait for many.
CHUNK = 4


@dataclass
class WorkReport:
    """What became of a number of files to write.

    Attributes:
        written: files written.
        kept: files that were up to date.
        foreign: of these, whole files that another program made, and that were left as they are.
        failures: one message a file that could not be made.
    """

    written: int = 0
    kept: int = 0
    foreign: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of files asked for."""
        return self.written + self.kept + len(self.failures)

    def add(self, state: str) -> None:
        """Count an outcome: ``written``, ``kept`` or ``foreign``."""
        self.written += state == "written"
        self.kept += state != "written"
        self.foreign += state == "foreign"

    def summary(self) -> str:
        """Counts in one line."""
        text = f"{self.total:,} files: {self.written:,} written, {self.kept:,} up to date"
        if self.foreign:
            text += f" ({self.foreign:,} of them not made by this tool, kept as they are; --force replaces them)"
        return f"{text}, {len(self.failures):,} failed"


def write_files(
    work: Callable[[Task], str], tasks: Sequence[Task], nproc: int, title: str, stop_at_first: bool = False
) -> WorkReport:
    """Make files, going on where one cannot be made.

    Args:
        work: makes one file and returns ``written``, ``kept`` or ``foreign``; a function of a module, so that other
            processes find it, or a ``functools.partial`` of one.
        tasks: its arguments.
        nproc: number of processes; 1 works in this one.
        title: what the progress bar says.
        stop_at_first: raise the first failure.

    Raises:
        DataError: a process was killed, or see ``stop_at_first``.
    """
    report = WorkReport()
    for _, outcome in run_tasks(work, tasks, nproc, title):
        if not isinstance(outcome, DataError):
            report.add(outcome)
        elif stop_at_first:
            raise outcome
        else:
            report.failures.append(str(outcome))
    return report


def print_failures(report: WorkReport) -> None:
    """Name what failed, on stderr."""
    for message in report.failures[:SHOWN_FAILURES]:
        print(f"failed: {printable(message)}", file=sys.stderr)
    if len(report.failures) > SHOWN_FAILURES:
        print(f"failed: and {len(report.failures) - SHOWN_FAILURES:,} more", file=sys.stderr)


def run_tasks(
    work: Callable[[Task], Outcome], tasks: Sequence[Task], nproc: int, title: str
) -> Iterator[tuple[Task, Outcome | DataError]]:
    """Yield every task with its outcome, in order; a DataError that it raises is its outcome.

    Args:
        work: see :func:`write_files`.
        tasks: its arguments.
        nproc: number of processes; 1 works in this one.
        title: what the progress bar says; there is one where stderr is a terminal.

    Raises:
        DataError: a process was killed.
    """
    guarded = functools.partial(_guarded, work)
    bar = functools.partial(
        track, description=title, total=len(tasks), console=Console(stderr=True), disable=not sys.stderr.isatty()
    )
    with _termination_as_interrupt():
        if nproc == 1 or len(tasks) <= 1:
            yield from bar(zip(tasks, map(guarded, tasks), strict=True))
            return
        # Fresh processes: one forked beside the threads of OpenCV or torch may never wake up.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(min(nproc, len(tasks)), context, initializer=_start_worker)
        chunk = max(1, min(CHUNK, len(tasks) // (4 * nproc)))
        try:
            yield from bar(zip(tasks, executor.map(guarded, tasks, chunksize=chunk), strict=True))
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process was killed, probably for want of memory: use a smaller --nproc"
            ) from error
        finally:
            executor.shutdown(cancel_futures=True)


def _guarded(work: Callable[[Task], Outcome], task: Task) -> Outcome | DataError:
    try:
        return work(task)
    except DataError as error:
        return error


def _start_worker() -> None:
    """Leave interrupts to the parent, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let a polite kill clean up as Ctrl-C does. Elsewhere than in the main thread signals are not ours to set."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
