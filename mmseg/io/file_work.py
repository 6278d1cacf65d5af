"""Work on many files in several processes: progress, failures by name, clean interruption.

The only process pool of the project: converter, image changes, warping, caches, deep checks and toy city use it.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console

from mmseg.errors import DataError
from mmseg.system.extensions import extensions, import_extensions
from mmseg.system.printing import track
from mmseg.system.signals import end_with_parent, signals_handled, stop_now
from mmseg.system.text import printable

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

SHOWN_FAILURES = 50
# Tasks per message between processes; small, so that an interruption does not wait for many.
CHUNK = 4


@dataclass
class WorkReport:
    """What happened to a number of files to write.

    Attributes:
        written: files written.
        kept: files that were up to date.
        foreign: of these, complete files made by another program and left as they are.
        failures: one message per file that could not be made.
    """

    written: int = 0
    kept: int = 0
    foreign: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of files requested."""
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
    """Make files, continuing after those that cannot be made.

    Args:
        work: makes one file and returns ``written``, ``kept`` or ``foreign``; a module-level function, or a
            ``functools.partial`` of one, so that it can be pickled.
        tasks: its arguments.
        nproc: number of processes; 1 runs in this one.
        title: label of the progress bar.
        stop_at_first: raise the first failure.

    Raises:
        DataError: a process was killed; or see ``stop_at_first``.
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
    """Print what failed to stderr."""
    for message in report.failures[:SHOWN_FAILURES]:
        print(f"failed: {printable(message)}", file=sys.stderr)
    if len(report.failures) > SHOWN_FAILURES:
        print(f"failed: and {len(report.failures) - SHOWN_FAILURES:,} more", file=sys.stderr)


def run_tasks(
    work: Callable[[Task], Outcome],
    tasks: Sequence[Task],
    nproc: int,
    title: str,
    *,
    chunk: int = CHUNK,
    prepare: Callable[[], None] | None = None,
) -> Iterator[tuple[Task, Outcome | DataError]]:
    """Yield every task with its outcome, in order; a DataError that it raises is its outcome.

    Args:
        work: see :func:`write_files`.
        tasks: its arguments.
        nproc: number of processes; 1 runs in this one.
        title: label of the progress bar, which is shown if stderr is a terminal.
        chunk: largest number of tasks per message between processes.
        prepare: called once in every worker process, not in this one.

    Raises:
        DataError: a process was killed.
    """
    guarded = functools.partial(_guarded, work)
    bar = functools.partial(
        track, description=title, total=len(tasks), console=Console(stderr=True), disable=not sys.stderr.isatty()
    )
    with signals_handled(stop_now):
        if nproc == 1 or len(tasks) <= 1:
            yield from bar(zip(tasks, map(guarded, tasks), strict=True))
            return
        # Forking next to threads of OpenCV or torch can deadlock.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(
            min(nproc, len(tasks)), context, initializer=_start_worker, initargs=(prepare, extensions())
        )
        chunk = max(1, min(chunk, len(tasks) // (4 * nproc)))
        try:
            yield from bar(zip(tasks, executor.map(guarded, tasks, chunksize=chunk), strict=True))
        except BrokenProcessPool as error:
            raise DataError("a worker process was killed, probably out of memory: use fewer --workers") from error
        finally:
            executor.shutdown(cancel_futures=True)


def outcomes_of(
    work: Callable[[Task], Outcome],
    tasks: Sequence[Task],
    nproc: int,
    title: str,
    *,
    chunk: int = CHUNK,
    prepare: Callable[[], None] | None = None,
) -> Iterator[Outcome]:
    """Yield the outcomes of :func:`run_tasks`; the first DataError of a task is raised."""
    for _, outcome in run_tasks(work, tasks, nproc, title, chunk=chunk, prepare=prepare):
        if isinstance(outcome, DataError):
            raise outcome
        yield outcome


def _guarded(work: Callable[[Task], Outcome], task: Task) -> Outcome | DataError:
    try:
        return work(task)
    except DataError as error:
        return error


def _start_worker(prepare: Callable[[], None] | None, modules: Mapping[str, str]) -> None:
    """Leave Ctrl-C to the parent, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        end_with_parent(signal.SIGKILL, parent.pid)
    import_extensions(modules)
    if prepare is not None:
        prepare()
