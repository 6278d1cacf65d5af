"""Scaling of signed maps to [-1, 1]: the last step for voxel grids, content maps and image changes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmseg.system.compiled import compiled

EPSILON = 1e-8
_ALL = slice(None)


def rescale_halves(signed: Tensor, clip: float | Tensor) -> Tensor:
    """Clamp each sign to ``clip`` and stretch it to its full range, per frame.

    The positive half is clamped to [0, clip] and min-max scaled to [0, 1], the negative half to [-clip, 0] and
    scaled to [-1, 0]; the result is their sum. A half without any value stays 0; the reference turns an empty
    negative half into -1 over the whole frame.

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


def standardize_events(grid: np.ndarray) -> np.ndarray:
    """Standardize the non-zero cells of a voxel grid to mean 0 and deviation 1; the others stay 0 (CMDA, section 3.1).

    Args:
        grid: (bins, H, W) float32.

    Returns:
        Same shape, float32.
    """
    # Fixed order of summation: samples must not depend on the number of threads.
    count, total, squares = _moments(grid.ravel())
    if count == 0:
        return np.zeros_like(grid)
    mean = total / count
    std = np.sqrt(max(squares / count - mean**2, 0.0))
    standard = np.empty(grid.shape, grid.dtype)
    _standardize(grid.ravel(), np.float32(mean), np.float32(std + EPSILON), standard.reshape(-1))
    return standard


def rescale_array(signed: np.ndarray, clip: float, rows: slice = _ALL, columns: slice = _ALL) -> np.ndarray:
    """:func:`rescale_halves` of an array, in one pass; with one range for all bins.

    Args:
        signed: (bins, H, W) float16 or float32, such as a standardized grid.
        clip: largest magnitude kept, in its units.
        rows, columns: part to return; the range is that of the whole array.

    Returns:
        (bins, rows, columns) float32; zeros stay 0 up to 1e-8.
    """
    limit, epsilon = np.float32(clip), np.float32(EPSILON)
    least, most = np.float32(signed.min()), np.float32(signed.max())
    low, high = (np.clip(value, np.float32(0), limit) for value in (least, most))
    below, above = (np.clip(value, -limit, np.float32(0)) for value in (least, most))
    part = np.ascontiguousarray(signed[:, rows, columns], np.float32)
    scaled = np.empty(part.shape, part.dtype)
    _rescale(part.ravel(), limit, low, high - low + epsilon, below, above - below + epsilon, scaled.reshape(-1))
    return scaled


@compiled
def _moments(cells):
    """Number, sum and sum of squares of the non-zero cells."""
    count, total, squares = 0, 0.0, 0.0
    for cell in cells:
        if cell != 0:
            count += 1
            total += cell
            squares += np.float64(cell) * np.float64(cell)
    return count, total, squares


@compiled
def _standardize(cells, mean, std, out):
    for i in range(cells.shape[0]):
        out[i] = (cells[i] - mean) / std if cells[i] != 0 else np.float32(0)


@compiled
def _rescale(cells, clip, low, span, below, span_below, out):
    """Scale positive cells from [low, low + span] to [0, 1], negative ones from [below, below + span] to [-1, 0]."""
    nothing, one = np.float32(0), np.float32(1)
    for i in range(cells.shape[0]):
        positive = min(max(cells[i], nothing), clip)
        scaled = (positive - low) / span
        if below < 0:
            negative = max(min(cells[i], nothing), -clip)
            scaled += (negative - below) / span_below - one
        out[i] = scaled


def event_clip_range(start: int, finish: int) -> float:
    """Clip range for a window's number of events: 1.5 standard deviations at 500,000 events."""
    return 1.5 * (finish - start) / 500_000
