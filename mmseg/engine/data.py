"""Loaders whose samples depend on their number alone, and moving batches to the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from mmseg.errors import CMDAError


def _one_thread(_: int) -> None:
    """Workers run side by side; threads inside each would only get in their way."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def training_loader(
    dataset: Dataset, batch_size: int, workers: int, first: int, last: int, device: torch.device
) -> DataLoader:
    """Loader of the batches of iterations ``first`` to ``last - 1``.

    Sample k of iteration i has number ``i * batch_size + k``, from which the dataset draws it.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=range(first * batch_size, last * batch_size),
        num_workers=workers,
        worker_init_fn=_one_thread,
        persistent_workers=workers > 0,
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
        # A loader process hands its error over with the traceback in the text; the message is its last line.
        raise type(error)(str(error).strip().splitlines()[-1].split("Error: ", 1)[-1]) from error
