"""Loaders whose samples depend on their number alone, and moving batches to the device."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from mmseg.datasets.uda import SKIPPED
from mmseg.distributed import ONE_PROCESS, Ranks
from mmseg.engine.interruptions import leave_signals_to_parent
from mmseg.errors import CMDAError, DataError, own_message


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


def sample_numbers(iteration: int, batch_size: int, ranks: Ranks = ONE_PROCESS) -> range:
    """Numbers of this process's samples in an iteration.

    Sample k of iteration i, of all processes together, has number ``i * world * batch_size + k``, from which the
    dataset draws it.
    """
    start = (iteration * ranks.world + ranks.rank) * batch_size
    return range(start, start + batch_size)


def training_loader(
    dataset: Any,
    batch_size: int,
    workers: int,
    first: int,
    last: int,
    device: torch.device,
    ranks: Ranks = ONE_PROCESS,
) -> DataLoader:
    """Loader of the batches of iterations ``first`` to ``last - 1``, see :func:`sample_numbers`."""
    return DataLoader(
        WatchedSamples(dataset, workers),
        batch_size=batch_size,
        sampler=[number for i in range(first, last) for number in sample_numbers(i, batch_size, ranks)],
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=prepare_worker,
    )


def prepare_worker(_: int) -> None:
    """Set up a loader process."""
    leave_signals_to_parent()


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


def batches(loader: DataLoader, device: torch.device, on_skip: Callable[[str], None] = print) -> Iterator[Any]:
    """Batches on the device; an error of a worker comes back as its own message.

    Args:
        on_skip: told of every file that was left out, see ``UDADataset.on_bad_sample``.

    Raises:
        DataError: also where a loader process died; it names what that process was reading.
    """
    try:
        for batch in loader:
            for text in batch.pop(SKIPPED, ()):
                for line in text.splitlines():
                    on_skip(line)
            yield to_device(batch, device)
    except CMDAError as error:
        raise own_message(error) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(_death_of_worker(str(error), loader.dataset)) from error


def _death_of_worker(message: str, samples: WatchedSamples) -> str:
    processes = {int(number) for number in re.findall(r"\d+", message.split("pid", 1)[-1])}
    read = "; or ".join(samples.prepared_by(processes)) or "nothing yet"
    if "shared memory" in message:
        return (
            "a loader process ran out of shared memory (/dev/shm): make that larger (docker run --shm-size=8g), or set "
            "data.workers_per_gpu=0"
        )
    cause = message.split(". ")[0].split("\n")[0]
    return (
        f"a loader process died ({cause}); it was reading {read}. If the machine was short of memory, lower "
        "data.workers_per_gpu; if it dies of the same files again, replace them"
    )
