"""Event voxel grid (Zhu et al., CVPR 2019; CMDA, section 3.1).

Each event spreads its polarity tri-linearly over the eight grid cells around its position in (x, y, t). With one bin
every event lies at the bin's own time, so that four cells are left and times are not needed. The loops are compiled
(numba) and run through the events once, on one thread: cells are summed in the order of the events, in 64 bits. They
check both ends of whatever they index with, so that no value of a file makes them write outside the grid.
"""

from __future__ import annotations

import numba
import numpy as np

from mmseg.compiled import compiled

_ONE = np.float32(1)


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
        p: (N,) polarity: above 0 for brighter, else darker.
        bins, height, width: size of the grid.

    Returns:
        (bins, height, width) float32.

    Raises:
        ValueError: no event, columns of several lengths, all timestamps equal, or an event whose time lies outside
            those of the first and the last one, or whose position or polarity is not a number.
    """
    _check_duration(t)
    _check_lengths(t, x, y, p)
    grid = np.zeros((bins, height, width))
    position = x.astype(np.float32), y.astype(np.float32), p.astype(np.float32)
    wrong = _add_events(grid[0], *position) if bins == 1 else _add_timed_events(grid, _scaled(t, bins), *position)
    if wrong >= 0:
        x, y, p = (float(column[wrong]) for column in position)
        raise ValueError(f"event {wrong} has an impossible time ({t[wrong]}), position ({x}, {y}) or polarity ({p})")
    return grid.astype(np.float32)


def rectified_voxel_grid(
    t: np.ndarray | None, x: np.ndarray, y: np.ndarray, p: np.ndarray, rectify_map: np.ndarray, bins: int
) -> np.ndarray:
    """:func:`voxel_grid` of raw events, which a map sends to their positions.

    Args:
        t: (N,) float32 in [0, 1], see :func:`normalized_time`; None with one bin.
        x, y: (N,) raw pixels, of any type of whole number; uint16 is compiled already.
        p: (N,) polarity: above 0 for brighter, else darker.
        rectify_map: (H, W, 2) float32: rectified (x, y) of every raw pixel.
        bins: number of bins.

    Returns:
        (bins, H, W) float32.

    Raises:
        IndexError: an event outside the map.
        ValueError: columns of several lengths, pixels that are not whole numbers, or an event whose time lies outside
            those of the first and the last one, or whose polarity is not a number.
    """
    _check_lengths(x, y, p)
    if x.dtype.kind not in "iu" or y.dtype.kind not in "iu":
        raise ValueError(f"pixels are {x.dtype} and {y.dtype}, not whole numbers")
    if rectify_map.ndim != 3 or rectify_map.shape[2] != 2:
        raise ValueError(f"the rectify map has shape {rectify_map.shape}, not (height, width, 2)")
    grid = np.zeros((bins, *rectify_map.shape[:2]))
    if bins == 1:
        wrong = _add_raw_events(grid[0], x, y, p, rectify_map)
    else:
        _check_lengths(t, x)
        wrong = _add_timed_raw_events(grid, _scaled(t, bins), x, y, p, rectify_map)
    if wrong >= 0:
        height, width = rectify_map.shape[:2]
        if not (0 <= x[wrong] < width and 0 <= y[wrong] < height):
            raise IndexError(f"pixels outside {width}x{height}")
        raise ValueError(f"event {wrong} has an impossible time or polarity ({p[wrong]})")
    return grid.astype(np.float32)


def _check_lengths(*columns: np.ndarray) -> None:
    if len({column.shape for column in columns}) > 1:
        raise ValueError(f"columns of events have the shapes {', '.join(str(column.shape) for column in columns)}")


def _scaled(t: np.ndarray, bins: int) -> np.ndarray:
    """Times in bins, (N,) float32 in [0, bins - 1]."""
    return (t - t[0]) / (t[-1] - t[0]) * np.float32(bins - 1)


_inlined = numba.njit(inline="always")


@_inlined
def _spread(plane, x, y, value):
    """Add a value to the four cells of a plane around (x, y), of which some or all may lie outside."""
    height, width = plane.shape
    # before they become whole numbers, which do not hold every float
    if x > -2 and x < width and y > -2 and y < height:
        column, row = int(x), int(y)
        left, right = _ONE - abs(np.float32(column) - x), _ONE - abs(np.float32(column + 1) - x)
        upper, lower = value * (_ONE - abs(np.float32(row) - y)), value * (_ONE - abs(np.float32(row + 1) - y))
        if row >= 0 and row + 1 < height and column >= 0 and column + 1 < width:
            plane[row, column] += upper * left
            plane[row, column + 1] += upper * right
            plane[row + 1, column] += lower * left
            plane[row + 1, column + 1] += lower * right
        else:
            for down in range(2):
                for aside in range(2):
                    if 0 <= row + down < height and 0 <= column + aside < width:
                        plane[row + down, column + aside] += (lower if down else upper) * (right if aside else left)


@_inlined
def _spread_in_time(grid, time, x, y, value):
    """Add a value to the eight cells of a grid around (x, y, time), where 0 <= time <= bins - 1."""
    first = int(time)
    _spread(grid[first], x, y, value * (_ONE - abs(np.float32(first) - time)))
    if first + 1 < grid.shape[0]:
        _spread(grid[first + 1], x, y, value * (_ONE - abs(np.float32(first + 1) - time)))


@_inlined
def _sign(polarity):
    """1, -1, or 0 for what is not a number."""
    return np.float32(1) if polarity > 0 else np.float32(-1) if polarity <= 0 else np.float32(0)


@compiled
def _add_events(plane, x, y, p):
    """Number of the first event that cannot be added, or -1."""
    for i in range(x.shape[0]):
        sign = _sign(p[i])
        if sign == 0 or not (np.isfinite(x[i]) and np.isfinite(y[i])):
            return i
        _spread(plane, x[i], y[i], sign)
    return -1


@compiled
def _add_timed_events(grid, times, x, y, p):
    """Number of the first event that cannot be added, or -1."""
    for i in range(x.shape[0]):
        sign = _sign(p[i])
        if sign == 0 or not (np.isfinite(x[i]) and np.isfinite(y[i]) and 0 <= times[i] <= grid.shape[0] - 1):
            return i
        _spread_in_time(grid, times[i], x[i], y[i], sign)
    return -1


@compiled
def _add_raw_events(plane, x, y, p, rectify_map):
    """Number of the first event that cannot be added, or -1.

    All events of a raw pixel go to the same cells with the same shares: they are counted first, and the plane is then
    filled in the order of its memory.
    """
    height, width = rectify_map.shape[:2]
    balance = np.zeros((height, width), np.int32)
    for i in range(x.shape[0]):
        column, row, sign = np.int64(x[i]), np.int64(y[i]), _sign(p[i])
        if column < 0 or column >= width or row < 0 or row >= height or sign == 0:
            return i
        balance[row, column] += np.int32(sign)
    for row in range(height):
        for column in range(width):
            if balance[row, column] != 0:
                position = rectify_map[row, column]
                _spread(plane, position[0], position[1], np.float32(balance[row, column]))
    return -1


@compiled
def _add_timed_raw_events(grid, times, x, y, p, rectify_map):
    """Number of the first event that cannot be added, or -1."""
    height, width = rectify_map.shape[:2]
    for i in range(x.shape[0]):
        column, row, sign = np.int64(x[i]), np.int64(y[i]), _sign(p[i])
        if column < 0 or column >= width or row < 0 or row >= height or sign == 0:
            return i
        if not 0 <= times[i] <= grid.shape[0] - 1:
            return i
        position = rectify_map[row, column]
        _spread_in_time(grid, times[i], position[0], position[1], sign)
    return -1
