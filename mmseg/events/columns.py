"""The four columns of events: checks of times, pixels and polarity shared by all file formats.

A file may store them as any numeric type. This module converts them to those of DSEC: whole microseconds (int64) in
order, raw pixels (uint16) on the sensor, and polarity 1 (brighter) for values above zero, else 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from mmseg.errors import DataError

KEYS = ("t", "x", "y", "p")
# Numpy type kinds that a column may have: signed, unsigned, floating-point; a polarity may also be boolean.
KINDS = {"t": "iuf", "x": "iuf", "y": "iuf", "p": "biuf"}
# Times up to this magnitude can be subtracted from each other in 64 bits.
LATEST_TIME = 1 << 62
# 64-bit floats represent every whole number up to this one.
LARGEST_EXACT_FLOAT = 1 << 53
# Most events held in memory at once, about 1.7 GB. The busiest 50 ms of DSEC have a hundredth of that.
MAX_EVENTS = 1 << 27
# Longest side of a sensor or an image in pixels: a larger grid would fill the memory.
MAX_SIDE = 1 << 14


class EventFault(ValueError):
    """Events that cannot be used.

    Attributes:
        event: index of the first one in the checked columns; None if the fault concerns all.
    """

    def __init__(self, what: str, event: int | None = None, detail: str = "") -> None:
        super().__init__(what, event, detail)
        self.what, self.event, self.detail = what, event, detail

    def message(self, first: int = 0) -> str:
        """The fault in words; ``first`` is the index in the file of the first checked event."""
        if self.event is None:
            return self.what
        return f"{self.what} (event {first + self.event:,}{self.detail})"

    def __str__(self) -> str:
        return self.message()


def fault_of_type(key: str, dtype: np.dtype, ndim: int) -> str:
    """Why an array cannot be a column, in words; '' if it can."""
    if ndim != 1:
        return f"{key} has {ndim} dimensions, not one"
    if dtype.kind not in KINDS[key]:
        return f"{key} is of type {dtype}, not numbers"
    return ""


def whole_times(t: np.ndarray) -> np.ndarray:
    """Times of any numeric type as int64, µs.

    Raises:
        EventFault: another type, a value that is not a whole number, or one too large for a time.
    """
    _check_type("t", t)
    if t.dtype.kind == "f":
        whole = np.abs(t) <= LARGEST_EXACT_FLOAT
        whole &= np.floor(t) == t
        _all(whole, "times that are not whole microseconds", lambda i: f": t={t[i]:.17g}")
    elif t.dtype.itemsize == 8 and len(t):
        held = t <= LATEST_TIME
        if t.dtype.kind == "i":
            held &= t >= -LATEST_TIME
        _all(held, "times that no clock shows", lambda i: f": t={t[i]}")
    return t.astype(np.int64, copy=False)


def check_order(t: np.ndarray) -> None:
    """Check that times (N,) int64 never decrease.

    Raises:
        EventFault: naming the first one earlier than its predecessor.
    """
    rising = t[1:] >= t[:-1]
    if not rising.all():
        i = int(np.argmin(rising)) + 1
        raise EventFault("times that are not in order", i, f" at {t[i]} µs follows one at {t[i - 1]} µs")


def raw_pixels(x: np.ndarray, y: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of any numeric type as uint16.

    Args:
        x, y: (N,) column and row.
        size: (height, width) of the sensor.

    Raises:
        EventFault: another type, or an event outside the sensor or between pixels.
    """
    height, width = size
    _check_type("x", x)
    _check_type("y", y)
    for values, end in ((x, width), (y, height)):
        if _between(values, 0, end - 1):
            continue
        inside = (values >= 0) & (values < end)
        if values.dtype.kind == "f":
            inside &= np.floor(values) == values
        _all(inside, f"pixels outside {width}x{height}", lambda i: f" at x={x[i]:g}, y={y[i]:g}")
    return x.astype(np.uint16, copy=False), y.astype(np.uint16, copy=False)


def _between(values: np.ndarray, low: int, high: int) -> bool:
    """Whether the integers of a column lie in a range, in two quick passes; False for floats."""
    if values.dtype.kind == "f" or not len(values):
        return not len(values)
    return int(values.min()) >= low and int(values.max()) <= high


def positions(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rectified positions of any numeric type as float32; they may lie between pixels and outside the frame.

    Raises:
        EventFault: another type, or a position that is not finite as float32.
    """
    _check_type("x", x)
    _check_type("y", y)
    found = []
    for values in (x, y):
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        _all(np.isfinite(single), "positions that are not numbers", lambda i: f" at x={x[i]:g}, y={y[i]:g}")
        found.append(single)
    return found[0], found[1]


def brighter(p: np.ndarray) -> np.ndarray:
    """Polarity of any numeric or boolean type as uint8: 1 above zero, else 0.

    Raises:
        EventFault: another type, or a value that is not a number.
    """
    _check_type("p", p)
    if p.dtype.kind == "f":
        _all(~np.isnan(p), "polarities that are not numbers", lambda i: f": p={p[i]:g}")
    return (p > 0).view(np.uint8)


def check_lengths(columns: Mapping[str, np.ndarray]) -> None:
    """Check that the four columns have the same length, and fit into memory.

    Raises:
        EventFault: they are not.
    """
    lengths = {key: len(columns[key]) for key in KEYS}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{count:,} {key}" for key, count in lengths.items())
        raise EventFault(f"columns of different lengths ({counts})")
    check_count(lengths["t"])


def check_count(count: int) -> None:
    """Check that a number of events fits into memory.

    Raises:
        EventFault: they are too many.
    """
    if count > MAX_EVENTS:
        raise EventFault(f"{count:,} events to hold in memory at once; the limit is {MAX_EVENTS:,}")


def check_size(height: int, width: int) -> tuple[int, int]:
    """Check and return the (height, width) of a frame.

    Raises:
        EventFault: it may not.
    """
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise EventFault(f"a frame of {width}x{height} pixels; each side must have 1 to {MAX_SIDE:,}")
    return int(height), int(width)


def _check_type(key: str, values: np.ndarray) -> None:
    fault = fault_of_type(key, values.dtype, values.ndim)
    if fault:
        raise EventFault(f"an unusable column: {fault}")


def _all(good: np.ndarray, what: str, detail: Callable[[int], str]) -> None:
    """Raise an EventFault for the first event that is not good."""
    if not good.all():
        event = int(np.argmin(good))
        raise EventFault(what, event, detail(event))


@contextmanager
def faults_in(subject: str, remedy: str, first: int = 0) -> Iterator[None]:
    """Turn an :class:`EventFault` within the block into a DataError.

    Args:
        subject: source of the events, with the verb: ``events.npz holds``.
        remedy: what the user can do.
        first: index in the file of the first checked event.
    """
    try:
        yield
    except EventFault as error:
        raise DataError(f"{subject} {error.message(first)}; {remedy}") from error
