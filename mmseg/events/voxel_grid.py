"""Event voxel grid (Zhu et al., CVPR 2019; CMDA, section 3.1).

Each event spreads its polarity tri-linearly over the eight grid cells around its position in (x, y, t).
"""

from __future__ import annotations

import numpy as np


def normalized_time(t: np.ndarray) -> np.ndarray:
    """Scale sorted timestamps to [0, 1] in float32.

    Args:
        t: (N,) timestamps of any integer or float type, any unit.

    Raises:
        ValueError: no event, or all events carry one timestamp.
    """
    _check_duration(t)
    return (t - t[0]).astype(np.float32) / np.float32(t[-1] - t[0])


def _check_duration(t: np.ndarray) -> None:
    if len(t) == 0:
        raise ValueError("there is no event in the window")
    if t[0] == t[-1]:
        raise ValueError(f"all {len(t)} events of the window carry one timestamp, {t[0]}")


def voxel_grid(
    t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, bins: int, height: int, width: int
) -> np.ndarray:
    """Accumulate events into a grid.

    Cells are found by truncation toward zero, as in the reference: an event with x in (-1, 0) adds 1-|x| to
    column 0 and -|x| to column 1.

    Args:
        t: (N,) float32 in [0, 1], first 0 and last 1, see :func:`normalized_time`.
        x, y: (N,) float32 pixel positions, which may lie outside the frame.
        p: (N,) polarity, 0 or 1.
        bins, height, width: size of the grid.

    Returns:
        (bins, height, width) float32.

    Raises:
        ValueError: no event, or all timestamps equal.
    """
    _check_duration(t)
    polarity = (2 * p.astype(np.float32) - 1).astype(np.float32)
    if bins == 1:
        # One bin: every event lies at t* = 0, so the time axis drops out.
        return _splat(x, y, polarity, height, width).astype(np.float32)[None]
    scaled = (t - t[0]) / (t[-1] - t[0]) * np.float32(bins - 1)
    first = scaled.astype(np.int32)
    grid = np.zeros((bins, height, width))
    for offset in (0, 1):
        bin_index = first + offset
        weight = polarity * (1 - np.abs(bin_index.astype(np.float32) - scaled))
        for b in range(bins):
            chosen = bin_index == b
            grid[b] += _splat(x[chosen], y[chosen], weight[chosen], height, width)
    return grid.astype(np.float32)


def _splat(x: np.ndarray, y: np.ndarray, weight: np.ndarray, height: int, width: int) -> np.ndarray:
    """Spread weights bilinearly over the four pixels around (x, y); (height, width) float64."""
    x0, y0 = x.astype(np.int32), y.astype(np.int32)
    total = np.zeros(height * width)
    for dy in (0, 1):
        row = y0 + dy
        weight_y = weight * (1 - np.abs(row.astype(np.float32) - y))
        row_inside = (row >= 0) & (row < height)
        for dx in (0, 1):
            column = x0 + dx
            value = weight_y * (1 - np.abs(column.astype(np.float32) - x))
            inside = row_inside & (column >= 0) & (column < width)
            cell = row[inside] * np.int32(width) + column[inside]
            total += np.bincount(cell, weights=value[inside], minlength=height * width)
    return total.reshape(height, width)
