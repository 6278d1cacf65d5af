"""Loaders whose samples depend on their number alone, and moving batches to the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from mmseg.distributed import ONE_PROCESS, Ranks
from mmseg.errors import CMDAError, own_message


def training_loader(
    dataset: Dataset,
    batch_size: int,
    workers: int,
    first: int,
    last: int,
    device: torch.device,
    ranks: Ranks = ONE_PROCESS,
) -> DataLoader:
    """Loader of the batches of iterations ``first`` to ``last - 1``.

    Sample k of iteration i, of all processes together, has number ``i * world * batch_size + k``, from which the
    dataset draws it.
    """
    together = ranks.world * batch_size
    starts = (iteration * together + ranks.rank * batch_size for iteration in range(first, last))
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=[start + k for start in starts for k in range(batch_size)],
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor of nested dictionaries."""
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    return batch.to(device, non_blocking=True) if isinstance(batch, torch.Tensor) else batch


def batches(loader: DataLoader, device: torch.device) -> Iterator[Any]:
    """Batches on the device; an error of a worker comes back as its own message."""
    try:
        for batch in loader:
            yield to_device(batch, device)
    except CMDAError as error:
        raise own_message(error) from error
