"""Loaders whose samples depend on their number alone, and moving batches to the device."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import re
import signal
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from mmseg.datasets.uda import SKIPPED
from mmseg.errors import CMDAError, DataError, own_message
from mmseg.parallel.distributed import SINGLE_PROCESS, ProcessRank
from mmseg.system.signals import leave_signals_to_parent, signal_name

# How long a process may take to die of what has broken its connection.
DEATH_SECONDS = 2.0


class LoaderDied(DataError):
    """A loader process was killed, or crashed."""


class Loader(DataLoader):
    """A loader that knows its processes.

    They leave signals to stop to this process, which ends them, and end with it. The death of one is an error of
    :func:`read`, between two iterations: torch itself would raise it wherever this process happens to be.
    """

    def __init__(self, dataset: Any, **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=_prepare_worker, **options)
        self.processes: list[BaseProcess] = []
        _loaders.add(self)

    def __iter__(self) -> Iterator[Any]:
        before = set(multiprocessing.active_children())
        iterator = super().__iter__()
        self.processes = [p for p in multiprocessing.active_children() if p not in before]
        _leave_deaths_to_reader()
        return iterator

    def dead(self) -> list[BaseProcess]:
        """Processes that have ended before their time."""
        return [process for process in self.processes if not process.is_alive()]

    def dying(self) -> bool:
        """Whether one of the processes ends before its time, now or in a moment."""
        return bool(self.processes and wait([process.sentinel for process in self.processes], DEATH_SECONDS))

    def end(self) -> None:
        """End the processes, whatever they do."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        self.processes = []


_loaders: weakref.WeakSet[Loader] = weakref.WeakSet()


def end_loaders() -> None:
    """End the processes of all loaders."""
    for loader in list(_loaders):
        with suppress(AssertionError, ValueError):  # of another process, before a fork
            loader.end()


# Before multiprocessing's own, which tells them to stop, politely, and waits.
atexit.register(end_loaders)


def _leave_deaths_to_reader() -> None:
    """Drop torch's handler of a child's death, which raises in the middle of whatever runs."""
    with suppress(ValueError):  # not the main thread: torch has set none
        if getattr(signal.getsignal(signal.SIGCHLD), "__module__", "") == "torch.utils.data._utils.signal_handling":
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _prepare_worker(_: int) -> None:
    """Set up a loader process."""
    sys.excepthook = _quiet_about_connections
    leave_signals_to_parent(multiprocessing.parent_process().pid)


def _quiet_about_connections(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A parent that was told to stop hangs up on the thread that hands over samples, which would print that."""
    if not issubclass(kind, (EOFError, OSError)):
        sys.__excepthook__(kind, error, trace)


def read(loader: Loader, progress: Callable[[Iterable], Iterable] = iter) -> Iterator[Any]:
    """What a loader gives; an error of one of its processes comes back as its own message.

    Args:
        progress: wraps the loader, e.g. with a progress bar.

    Raises:
        LoaderDied: a loader process died; it names what that process was reading.
    """
    try:
        for batch in progress(loader):
            yield batch
            if loader.dead():
                raise LoaderDied(_death_of_worker("", loader))
    except CMDAError as error:
        raise own_message(error) from error
    except (RuntimeError, OSError, EOFError) as error:
        # A process that dies while it hands over a sample also leaves a broken connection.
        if "DataLoader worker" not in str(error) and not loader.dying():
            raise
        raise LoaderDied(_death_of_worker(str(error), loader)) from error
    finally:
        loader.end()


class WatchedSamples(Dataset):
    """A dataset whose loader processes leave word which sample they prepare, for the case that one dies of it.

    Args:
        dataset: has ``describe(number)``.
        workers: loader processes.
    """

    def __init__(self, dataset: Any, workers: int) -> None:
        self.dataset = dataset
        # process and number of its sample, by worker; in memory that all of them share
        self.current = torch.full((max(workers, 1), 2), -1, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> Any:
        worker = get_worker_info()
        self.current[worker.id if worker else 0] = torch.tensor([os.getpid(), number])
        return self.dataset[number]

    def prepared_by(self, processes: set[int]) -> list[str]:
        """What the given processes prepared last; that of all, where none of them is known."""
        rows = [(process, number) for process, number in self.current.tolist() if number >= 0]
        chosen = [number for process, number in rows if process in processes] or [number for _, number in rows]
        return [self.dataset.describe(number) for number in chosen]


def sample_numbers(iteration: int, batch_size: int, process: ProcessRank = SINGLE_PROCESS) -> range:
    """Numbers of this process's samples in an iteration.

    Sample k of iteration i, of all processes together, has number ``i * world * batch_size + k``, from which the
    dataset draws it.
    """
    start = (iteration * process.world_size + process.rank) * batch_size
    return range(start, start + batch_size)


def training_loader(
    dataset: Any,
    batch_size: int,
    workers: int,
    first: int,
    last: int,
    device: torch.device,
    process: ProcessRank = SINGLE_PROCESS,
) -> Loader:
    """Loader of the batches of iterations ``first`` to ``last - 1``, see :func:`sample_numbers`."""
    return Loader(
        WatchedSamples(dataset, workers),
        batch_size=batch_size,
        sampler=[number for i in range(first, last) for number in sample_numbers(i, batch_size, process)],
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )


def batch_of(dataset: Any, numbers: range) -> dict[str, Any]:
    """The batch of some samples, as a loader gives it."""
    batch = default_collate([dataset[number] for number in numbers])
    batch.pop(SKIPPED, None)
    return batch


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor of nested dictionaries."""
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    return batch.to(device, non_blocking=True) if isinstance(batch, torch.Tensor) else batch


def batches(loader: Loader, device: torch.device, on_skip: Callable[[str], None] = print) -> Iterator[Any]:
    """Batches on the device, read as :func:`read` does.

    Args:
        on_skip: told of every file that was left out, see ``UDADataset.on_bad_sample``.
    """
    for batch in read(loader):
        for text in batch.pop(SKIPPED, ()):
            for line in text.splitlines():
                on_skip(line)
        yield to_device(batch, device)


def _death_of_worker(message: str, loader: Loader) -> str:
    """What to say of a loader process that died; ``message`` is torch's, if it has one."""
    if "shared memory" in message:
        return (
            "a loader process ran out of shared memory (/dev/shm): make that larger (docker run --shm-size=8g), or set "
            "data.workers_per_gpu=0"
        )
    dead = {process.pid: process.exitcode for process in loader.dead()}
    named = {int(number) for number in re.findall(r"\d+", message.split("pid", 1)[-1])} if message else set()
    samples = loader.dataset
    read_last = samples.prepared_by(named | set(dead)) if isinstance(samples, WatchedSamples) else []
    ends = [f"number {pid}: {_end_of_process(code)}" for pid, code in dead.items()]
    return (
        f"a loader process died ({'; '.join(ends) or message.splitlines()[0]}); it was reading "
        f"{'; or '.join(read_last) or 'what is not known'}. If the machine was short of memory, lower "
        "data.workers_per_gpu; if it dies of the same files again, replace them"
    )


def _end_of_process(code: int | None) -> str:
    if code is None:
        return "unknown end"
    return f"killed by {signal_name(-code)}" if code < 0 else f"exit status {code}"
