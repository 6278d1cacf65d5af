"""Class mix (ClassMix, Olsson et al., WACV 2021; DACS, Tranheden et al., WACV 2021)."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from mmseg.models.losses import IGNORE_INDEX
from mmseg.parallel.distributed import all_reduce_any


def class_mix_mask(label: Tensor, priority: Tensor) -> Tensor:
    """Choose half of the classes for every sample and mark their pixels.

    The classes are those present anywhere in the batch (of all processes), the ignored label counting as one, so a
    sample may get an empty or a full mask (reference behaviour). Nothing is copied from the device.

    Args:
        label: (B, H, W) int64 source labels, 255 ignored.
        priority: (B, classes + 1), the last for the ignored label; of n present classes the ceil(n / 2) with the
            lowest values are chosen.

    Returns:
        (B, 1, H, W) bool, True where the source is pasted.
    """
    number = priority.shape[1]
    slots = label.masked_fill(label == IGNORE_INDEX, number - 1)
    present = torch.zeros(number, dtype=torch.bool, device=label.device)
    present.scatter_(0, slots.flatten(), True)
    present = all_reduce_any(present)
    count = (present.sum() + 1) // 2
    ranks = priority.masked_fill(~present, torch.inf).argsort(dim=1).argsort(dim=1)
    chosen = ranks < count
    return chosen.gather(1, slots.flatten(1)).view_as(label)[:, None]


def paste(mask: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Source where the mask (B, 1, H, W) is set, else target; (B, C, H, W) or (B, H, W)."""
    return torch.where(mask if source.dim() == 4 else mask[:, 0], source, target)


class Supervision(TypedDict):
    """What feeds a cross entropy.

    Attributes:
        label: (B, H, W) int64, 255 is ignored.
        weight: of every pixel, (B, H, W) in [0, 1]; without it, 1 everywhere.
    """

    label: Tensor
    weight: NotRequired[Tensor]


def paste_supervision(mask: Tensor, label: Tensor, target: Supervision) -> Supervision:
    """Supervision of the mixed batch: source pixels, of weight 1, pasted over the target's.

    Args:
        mask: see :func:`class_mix_mask`.
        label: of the source, (B, H, W) int64.
        target: with weight.
    """
    weight = target["weight"]
    return Supervision(label=paste(mask, label, target["label"]), weight=paste(mask, torch.ones_like(weight), weight))
