"""Loaders whose samples depend only on their number, and the transfer of batches to the device."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import re
import signal
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from mmseg.datasets.uda import SKIPPED
from mmseg.errors import CMDAError, DataError, own_message
from mmseg.parallel.distributed import SINGLE_PROCESS, ProcessRank
from mmseg.system.extensions import extensions, import_extensions
from mmseg.system.signals import leave_signals_to_parent, signal_name

# Time for a process to exit after its connection broke.
DEATH_SECONDS = 2.0


class LoaderDied(DataError):
    """A loader process was killed or crashed."""


class Loader(DataLoader):
    """A loader that keeps track of its processes.

    They ignore signals to stop, which this process handles, and end with it. :func:`read` raises the death of one
    between two iterations; torch itself would raise it at any point of this process.
    """

    def __init__(self, dataset: Any, **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=partial(_prepare_worker, extensions()), **options)
        self.processes: list[BaseProcess] = []
        _loaders.add(self)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # callers need no more of the private class
        before = set(multiprocessing.active_children())
        iterator = super().__iter__()
        self.processes = [p for p in multiprocessing.active_children() if p not in before]
        _leave_deaths_to_reader()
        return iterator

    def dead(self) -> list[BaseProcess]:
        """Processes that have ended early."""
        return [process for process in self.processes if not process.is_alive()]

    def dying(self) -> bool:
        """Whether one of the processes ends early, now or within :data:`DEATH_SECONDS`."""
        ended = wait([process.sentinel for process in self.processes], DEATH_SECONDS) if self.processes else []
        for process in self.processes:
            if process.sentinel in ended:
                # A sentinel is ready a moment before the exit status is.
                process.join(DEATH_SECONDS)
        return bool(ended)

    def end(self) -> None:
        """Kill the processes."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        self.processes = []


_loaders: weakref.WeakSet[Loader] = weakref.WeakSet()


def end_loaders() -> None:
    """Kill the processes of all loaders."""
    for loader in list(_loaders):
        with suppress(AssertionError, ValueError):  # of another process, before a fork
            loader.end()


# Runs before the handler of multiprocessing, which asks them to stop and waits.
atexit.register(end_loaders)


def _leave_deaths_to_reader() -> None:
    """Remove torch's handler of a child's death, which raises at any point of the main thread."""
    with suppress(ValueError):  # not the main thread: torch has set none
        if getattr(signal.getsignal(signal.SIGCHLD), "__module__", "") == "torch.utils.data._utils.signal_handling":
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _prepare_worker(modules: Mapping[str, str], _: int) -> None:
    """Set up a loader process, forked or spawned."""
    sys.excepthook = _quiet_about_connections
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None, "runs in loader processes only"
    leave_signals_to_parent(parent.pid)
    import_extensions(modules)


def _quiet_about_connections(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Do not print the error of a thread whose parent process has closed the connection."""
    if not issubclass(kind, (EOFError, OSError)):
        sys.__excepthook__(kind, error, trace)


def read(loader: Loader, progress: Callable[[Iterable], Iterable] = iter) -> Iterator[Any]:
    """Batches of a loader. An error of one of its processes is raised with its original message.

    Args:
        progress: wraps the loader, e.g. with a progress bar.

    Raises:
        LoaderDied: a loader process died; the message names what it was reading.
    """
    try:
        for batch in progress(loader):
            yield batch
            if loader.dead():
                raise LoaderDied(_death_of_worker("", loader))
    except CMDAError as error:
        raise own_message(error) from error
    except (RuntimeError, OSError, EOFError) as error:
        # A process that dies while it sends a sample also leaves a broken connection.
        if "DataLoader worker" not in str(error) and not loader.dying():
            raise
        raise LoaderDied(_death_of_worker(str(error), loader)) from error
    finally:
        loader.end()


class Samples(Protocol):
    """A training set."""

    def __getitem__(self, number: int) -> Any:
        """A sample; the same number gives the same one."""

    def describe(self, number: int) -> str:
        """Files of a sample, for messages."""


class WatchedSamples(Dataset):
    """A dataset whose loader processes record which sample they prepare, in case one dies of it.

    Args:
        dataset: what is watched.
        workers: loader processes.
    """

    def __init__(self, dataset: Samples, workers: int) -> None:
        self.dataset = dataset
        # process id and sample number by worker, in shared memory
        self.current = torch.full((max(workers, 1), 2), -1, dtype=torch.int64).share_memory_()

    def __getitem__(self, number: int) -> Any:
        worker = get_worker_info()
        self.current[worker.id if worker else 0] = torch.tensor([os.getpid(), number])
        return self.dataset[number]

    def prepared_by(self, processes: set[int]) -> list[str]:
        """What the given processes prepared last, or all processes if none of them is known."""
        rows = [(process, number) for process, number in self.current.tolist() if number >= 0]
        chosen = [number for process, number in rows if process in processes] or [number for _, number in rows]
        return [self.dataset.describe(number) for number in chosen]


def sample_numbers(iteration: int, batch_size: int, process: ProcessRank = SINGLE_PROCESS) -> range:
    """Numbers of this process's samples in an iteration.

    Sample k of iteration i, over all processes, has the number ``i * world_size * batch_size + k``, from which the
    dataset draws it.
    """
    start = (iteration * process.world_size + process.rank) * batch_size
    return range(start, start + batch_size)


def training_loader(
    dataset: Samples,
    batch_size: int,
    workers: int,
    iterations: range,
    device: torch.device,
    process: ProcessRank = SINGLE_PROCESS,
) -> Loader:
    """Loader of the batches of some iterations, see :func:`sample_numbers`."""
    return Loader(
        WatchedSamples(dataset, workers),
        batch_size=batch_size,
        sampler=[number for i in iterations for number in sample_numbers(i, batch_size, process)],
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )


def batch_of(dataset: Samples, numbers: range) -> dict[str, Any]:
    """Batch of the given samples, as a loader makes it."""
    batch = default_collate([dataset[number] for number in numbers])
    batch.pop(SKIPPED, None)
    return batch


def to_device(batch: Any, device: torch.device) -> Any:
    """Move the tensors in nested dictionaries to a device."""
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    return batch.to(device, non_blocking=True) if isinstance(batch, torch.Tensor) else batch


def batches(loader: Loader, device: torch.device, on_skip: Callable[[str], None] = print) -> Iterator[Any]:
    """Batches of :func:`read`, on the device.

    Args:
        on_skip: called with the reason for every file that was skipped, see ``UDADataset.on_bad_sample``.
    """
    for batch in read(loader):
        for text in batch.pop(SKIPPED, ()):
            for line in text.splitlines():
                on_skip(line)
        yield to_device(batch, device)


def _death_of_worker(message: str, loader: Loader) -> str:
    """Message for a loader process that died; ``message`` is torch's, if there is one."""
    if "shared memory" in message:
        return (
            "a loader process ran out of shared memory (/dev/shm): make that larger (docker run --shm-size=8g), or set "
            "data.workers_per_gpu=0"
        )
    dead = {process.pid or 0: process.exitcode for process in loader.dead()}
    named = {int(number) for number in re.findall(r"\d+", message.split("pid", 1)[-1])} if message else set()
    samples = loader.dataset
    read_last = samples.prepared_by(named | set(dead)) if isinstance(samples, WatchedSamples) else []
    ends = [f"number {pid}: {_end_of_process(code)}" for pid, code in dead.items()]
    return (
        f"a loader process died ({'; '.join(ends) or message.splitlines()[0]}); it was reading "
        f"{'; or '.join(read_last) or 'an unknown sample'}. If the machine was short of memory, lower "
        "data.workers_per_gpu; if it dies of the same files again, replace them"
    )


def _end_of_process(code: int | None) -> str:
    if code is None:
        return "unknown end"
    return f"killed by {signal_name(-code)}" if code < 0 else f"exit status {code}"
