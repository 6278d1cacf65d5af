"""Event voxel grid (Zhu et al., CVPR 2019; CMDA, section 3.1).

Each event spreads its polarity trilinearly over the eight grid cells around its position in (x, y, t). With one bin,
four cells remain and times are not needed. The loops are compiled (numba) and pass over the events once, on one thread:
cells are summed in the order of the events, in float64. They check both ends of every index, so that no value of a file
can make them write outside the grid.
"""

from __future__ import annotations

import numba
import numpy as np

from mmseg.system.compiled import compiled

_ZERO, _ONE = np.float32(0), np.float32(1)


def normalized_time(t: np.ndarray) -> np.ndarray:
    """Scale sorted timestamps to [0, 1] in float32.

    Args:
        t: (N,) timestamps of any integer or float type, any unit.

    Raises:
        ValueError: no event, or all events have the same timestamp.
    """
    _check_duration(t)
    return (t - t[0]).astype(np.float32) / np.float32(t[-1] - t[0])


def _check_duration(t: np.ndarray) -> None:
    if len(t) == 0:
        raise ValueError("there is no event in the window")
    if t[0] == t[-1]:
        raise ValueError(f"all {len(t)} events of the window have the same timestamp, {t[0]}")


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
        ValueError: no event, columns of different lengths, all timestamps equal, or an event whose time is not between
            those of the first and the last one, or whose position or polarity is not a number.
    """
    _check_duration(t)
    _check_lengths(t, x, y, p)
    _check_polarity(p)
    grid = np.zeros((bins, height, width))
    x, y, p = x.astype(np.float32), y.astype(np.float32), p.astype(np.float32)
    # min and max propagate NaN, and are quick.
    if not all(np.isfinite(values.min()) and np.isfinite(values.max()) for values in (x, y)):
        raise ValueError("a position of an event is not a number")
    if bins == 1:
        _add_events(grid[0], x, y, p)
    else:
        _check_times(_add_timed_events(grid, _scaled(t, bins), x, y, p), t)
    return grid.astype(np.float32)


def rectified_voxel_grid(
    t: np.ndarray | None, x: np.ndarray, y: np.ndarray, p: np.ndarray, rectify_map: np.ndarray, bins: int
) -> np.ndarray:
    """:func:`voxel_grid` of raw events, whose positions come from a rectify map.

    Args:
        t: (N,) float32 in [0, 1], see :func:`normalized_time`; None with one bin.
        x, y: (N,) raw pixels of any integer type; uint16 is compiled ahead.
        p: (N,) polarity: above 0 for brighter, else darker.
        rectify_map: (H, W, 2) float32: rectified (x, y) of every raw pixel.
        bins: number of bins.

    Returns:
        (bins, H, W) float32.

    Raises:
        IndexError: an event outside the map.
        ValueError: columns of different lengths, no times for several bins, pixels that are not whole numbers, or an
            event whose time is not between those of the first and the last one, or whose polarity is not a number.
    """
    _check_lengths(x, y, p)
    if x.dtype.kind not in "iu" or y.dtype.kind not in "iu":
        raise ValueError(f"pixels are {x.dtype} and {y.dtype}, not whole numbers")
    if rectify_map.ndim != 3 or rectify_map.shape[2] != 2:
        raise ValueError(f"the rectify map has shape {rectify_map.shape}, not (height, width, 2)")
    _check_polarity(p)
    grid = np.zeros((bins, *rectify_map.shape[:2]))
    if bins == 1:
        wrong = _add_raw_events(grid[0], x, y, p, rectify_map)
    elif t is None:
        raise ValueError(f"a grid of {bins} bins needs the times of the events")
    else:
        _check_lengths(t, x)
        wrong = _add_timed_raw_events(grid, _scaled(t, bins), x, y, p, rectify_map)
    if wrong >= 0:
        height, width = rectify_map.shape[:2]
        if not (0 <= x[wrong] < width and 0 <= y[wrong] < height):
            raise IndexError(f"pixels outside {width}x{height}")
        if t is not None:
            _check_times(wrong, t)
    return grid.astype(np.float32)


def _check_times(wrong: int, t: np.ndarray) -> None:
    if wrong >= 0:
        raise ValueError(f"event {wrong} is at {t[wrong]}, outside the window of {t[0]} to {t[-1]}")


def _check_polarity(p: np.ndarray) -> None:
    if p.dtype.kind == "f" and len(p) and np.isnan(p.min()):
        raise ValueError("the polarity of an event is not a number")


def _check_lengths(*columns: np.ndarray) -> None:
    if len({column.shape for column in columns}) > 1:
        raise ValueError(f"columns of events have the shapes {', '.join(str(column.shape) for column in columns)}")


def _scaled(t: np.ndarray, bins: int) -> np.ndarray:
    """Times in bins, (N,) float32 in [0, bins - 1]."""
    return (t - t[0]) / (t[-1] - t[0]) * np.float32(bins - 1)


_inlined = numba.njit(inline="always")


@_inlined
def _spread(plane, x, y, value):
    """Add a value to the four cells of a plane around (x, y), of which some or all may lie outside.

    Positions far from the plane are found as floats, since integers cannot hold all of them.
    """
    height, width = plane.shape
    if x >= _ZERO and x < np.float32(width - 1) and y >= _ZERO and y < np.float32(height - 1):
        column, row = int(x), int(y)
        left, right = _ONE - abs(np.float32(column) - x), _ONE - abs(np.float32(column + 1) - x)
        upper, lower = value * (_ONE - abs(np.float32(row) - y)), value * (_ONE - abs(np.float32(row + 1) - y))
        # unsigned, or numba would add code for negative indices
        first, second, above, below = np.uint64(column), np.uint64(column + 1), np.uint64(row), np.uint64(row + 1)
        plane[above, first] += upper * left
        plane[above, second] += upper * right
        plane[below, first] += lower * left
        plane[below, second] += lower * right
    elif x > np.float32(-2) and x < np.float32(width) and y > np.float32(-2) and y < np.float32(height):
        column, row = int(x), int(y)
        left, right = _ONE - abs(np.float32(column) - x), _ONE - abs(np.float32(column + 1) - x)
        upper, lower = value * (_ONE - abs(np.float32(row) - y)), value * (_ONE - abs(np.float32(row + 1) - y))
        for down in range(2):
            for aside in range(2):
                if 0 <= row + down < height and 0 <= column + aside < width:
                    plane[row + down, column + aside] += (lower if down else upper) * (right if aside else left)


@_inlined
def _spread_in_time(grid, time, x, y, value):
    """Add a value to the eight cells of a grid around (x, y, time), where 0 <= time <= bins - 1."""
    first = int(time)
    _spread(grid[np.uint64(first)], x, y, value * (_ONE - abs(np.float32(first) - time)))
    if first + 1 < grid.shape[0]:
        _spread(grid[np.uint64(first + 1)], x, y, value * (_ONE - abs(np.float32(first + 1) - time)))


@_inlined
def _sign(polarity):
    """1 or -1, without a branch, which could not be predicted."""
    return np.float32(2) * np.float32(polarity > _ZERO) - _ONE


@compiled
def _add_events(plane, x, y, p):
    for i in range(x.shape[0]):
        _spread(plane, x[i], y[i], _sign(p[i]))


@compiled
def _add_timed_events(grid, times, x, y, p):
    """Index of the first event whose time lies outside, or -1."""
    last = np.float32(grid.shape[0] - 1)
    for i in range(x.shape[0]):
        if not (times[i] >= _ZERO and times[i] <= last):
            return i
        _spread_in_time(grid, times[i], x[i], y[i], _sign(p[i]))
    return -1


@compiled
def _add_raw_events(plane, x, y, p, rectify_map):
    """Index of the first event whose pixel lies outside the map, or -1.

    All events of a raw pixel go to the same cells with the same weights, so they are counted first; the plane is then
    filled in memory order.
    """
    height, width = rectify_map.shape[:2]
    balance = np.zeros((height, width), np.int32)
    for i in range(x.shape[0]):
        column, row = np.int64(x[i]), np.int64(y[i])
        if column < 0 or column >= width or row < 0 or row >= height:
            return i
        balance[row, column] += 1 if p[i] > 0 else -1
    for v in range(height):
        for u in range(width):
            if balance[v, u] != 0:
                position = rectify_map[v, u]
                _spread(plane, position[0], position[1], np.float32(balance[v, u]))
    return -1


@compiled
def _add_timed_raw_events(grid, times, x, y, p, rectify_map):
    """Index of the first event whose pixel or time lies outside, or -1."""
    height, width = rectify_map.shape[:2]
    last = np.float32(grid.shape[0] - 1)
    for i in range(x.shape[0]):
        column, row = np.int64(x[i]), np.int64(y[i])
        if column < 0 or column >= width or row < 0 or row >= height:
            return i
        if not (times[i] >= _ZERO and times[i] <= last):
            return i
        position = rectify_map[row, column]
        _spread_in_time(grid, times[i], position[0], position[1], _sign(p[i]))
    return -1
