"""Scaling of signed maps to [-1, 1]: the last step of voxel grids, content maps and image changes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

EPSILON = 1e-8


def rescale_halves(signed: Tensor, clip: float | Tensor) -> Tensor:
    """Clamp each sign to ``clip`` and stretch it, per frame, to its whole range.

    The positive half is clamped to [0, clip] and min-max scaled to [0, 1], the negative half to [-clip, 0] and
    scaled to [-1, 0]; the result is their sum. A half without any value stays 0, where the reference turns an
    empty negative half into -1 over the whole frame.

    Args:
        signed: (..., H, W) float32; the last two dimensions are one frame.
        clip: largest magnitude kept, >= 0.

    Returns:
        Same shape, in [-1, 1].
    """
    positive = signed.clamp(min=0).clamp(max=clip)
    negative = signed.clamp(max=0).clamp(min=-clip)
    low, high = positive.amin((-2, -1), keepdim=True), positive.amax((-2, -1), keepdim=True)
    positive = (positive - low) / (high - low + EPSILON)
    low, high = negative.amin((-2, -1), keepdim=True), negative.amax((-2, -1), keepdim=True)
    negative = torch.where(low < 0, (negative - low) / (high - low + EPSILON) - 1, 0.0)
    return positive + negative


def standardize_events(grid: Tensor) -> Tensor:
    """Give the non-zero cells of a voxel grid mean 0 and deviation 1; the others stay 0 (CMDA, section 3.1).

    Args:
        grid: (bins, H, W) float32 voxel grid, on the CPU.

    Returns:
        (bins, H, W) float32.
    """
    # numpy sums in one order, torch in one that changes with the number of threads; samples must not.
    cells = grid.numpy()
    count = np.count_nonzero(cells)
    if count == 0:
        return torch.zeros_like(grid)
    mean = cells.sum(dtype=np.float64) / count
    variance = np.square(cells, dtype=np.float64).sum() / count - mean**2
    std = float(np.sqrt(max(variance, 0.0)))
    return torch.where(grid != 0, (grid - float(mean)) / (std + EPSILON), 0.0)


def rescale_events(standard: Tensor, clip: float) -> Tensor:
    """Clip a standardised grid and scale it to [-1, 1], with one range for all bins.

    Args:
        standard: (bins, H, W) float32.
        clip: largest magnitude kept, in standard deviations.

    Returns:
        Same shape; cells without events are 0 up to 1e-8.
    """
    return rescale_halves(standard.flatten(0, 1), clip).reshape(standard.shape)


def event_clip_range(start: int, finish: int) -> float:
    """Clip range of a window by its number of events: 1.5 standard deviations at 500,000 events."""
    return 1.5 * (finish - start) / 500_000
