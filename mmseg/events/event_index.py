"""Index of the last event at or before an image, in a DSEC recording."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from mmseg.events.columns import check_order, whole_times
from mmseg.events.hdf5 import DOWNLOAD_AGAIN, H5Fault, event_times, h5_reading, millisecond_index, open_h5, time_offset

logger = logging.getLogger(__name__)

# Events read at once; a millisecond of a busy night recording has fewer.
MAX_EVENTS_READ = 1 << 16
NOT_IN_ORDER = "events/t is not in order of time"


def image_event_index(
    events_file: str | Path, timestamps: Iterable[int], missing_offset: int | None = None
) -> np.ndarray:
    """Find the last event at or before each image, as the reference does.

    Only slices of about a millisecond of ``events/t`` are read, since a recording holds up to 1e9 events:
    ``ms_to_idx`` says where they lie. Without it the file is bisected.

    Args:
        events_file: DSEC ``events.h5``: ``events/t`` (µs since ``t_offset``, ascending), ``t_offset`` (µs).
        timestamps: image times in µs on the clock of the recording.
        missing_offset: ``t_offset`` of a file that has none, as those of MUSES; None refuses such a file, since one of
            DSEC is then damaged.

    Returns:
        (number of timestamps,) int64, in 0..number of events - 1, or -1 where the image is outside the
        recording: at or before ``t_offset``, before the first event, or after the last.

    Raises:
        DataError: missing or damaged file, no events, or events out of order.
    """
    path = Path(events_file)
    with h5_reading(path, "DSEC recording"), open_h5(path) as recording:
        return _index_recording(recording, timestamps, missing_offset)


def last_window(events_file: str | Path, duration: int) -> tuple[int, int]:
    """Time of the last event of a recording, and how many events lie at most ``duration`` µs before it.

    A file without ``t_offset`` counts from 0.

    Returns:
        Time in µs on the clock of the recording, and number of events; the last one included.

    Raises:
        DataError: missing or damaged file, no events, or events out of order.
    """
    path = Path(events_file)
    with h5_reading(path, "event recording"), open_h5(path) as recording:
        times, offset = event_times(recording), time_offset(recording, missing=0)
        total = len(times)
        if total == 0:
            raise H5Fault("it holds no events", DOWNLOAD_AGAIN)
        last = _time(times, total - 1)
        earlier = _count_until(times, last - duration - 1, 0, total)
        if not _separates(times, earlier, last - duration - 1):
            raise H5Fault(NOT_IN_ORDER, DOWNLOAD_AGAIN)
        return last + offset, total - earlier


def _time(times: h5py.Dataset, event: int) -> int:
    """Time of one event, µs."""
    return int(whole_times(times[event : event + 1])[0])


def _count_until(times: h5py.Dataset, time: int, low: int, high: int) -> int:
    """Return the number of events with t <= ``time``, known to lie in [low, high], from few small reads."""
    while high - low > MAX_EVENTS_READ:
        middle = (low + high) // 2
        if _time(times, middle) <= time:
            low = middle + 1
        else:
            high = middle
    window = whole_times(times[low:high])
    check_order(window)
    return low + int(np.searchsorted(window, time, side="right"))


def _separates(times: h5py.Dataset, count: int, time: int) -> bool:
    """Tell whether the first ``count`` events end at or before ``time`` and the next one comes after it."""
    around = whole_times(times[max(count - 1, 0) : count + 1])
    return (count == 0 or around[0] <= time) and (count == len(times) or around[-1] > time)


def _window(first_of_ms: np.ndarray, millisecond: int, total: int) -> tuple[int, int]:
    """Return where the events of a millisecond start and end, by ``ms_to_idx``."""
    if not len(first_of_ms):
        return 0, total
    low = int(first_of_ms[min(millisecond, len(first_of_ms) - 1)])
    # The last millisecond has no successor in ms_to_idx: it ends with the recording.
    high = int(first_of_ms[millisecond + 1]) if millisecond + 1 < len(first_of_ms) else total
    return min(max(low, 0), total), min(max(high, 0), total)


def _index_recording(recording: h5py.File, timestamps: Iterable[int], missing_offset: int | None) -> np.ndarray:
    """Do the work of :func:`image_event_index` on an open recording; its caller names the file in errors."""
    times, offset = event_times(recording), time_offset(recording, missing_offset)
    total = len(times)
    if total == 0:
        raise H5Fault("it holds no events", DOWNLOAD_AGAIN)
    first_time, last_time = _time(times, 0), _time(times, total - 1)
    if first_time > last_time:
        raise H5Fault(NOT_IN_ORDER, DOWNLOAD_AGAIN)
    # ms_to_idx[k] is the index of the first event at or after k ms: 60,000 entries for a minute.
    first_of_ms = millisecond_index(recording)
    disagreements = 0

    index = []
    for timestamp in timestamps:
        time = int(timestamp) - offset
        if not 0 < time <= last_time:
            index.append(-1)
            continue
        low, high = _window(first_of_ms, time // 1000, total)
        count = _count_until(times, time, low, high)
        if not _separates(times, count, time):
            disagreements += 1
            count = _count_until(times, time, 0, total)
            if not _separates(times, count, time):
                raise H5Fault(NOT_IN_ORDER, DOWNLOAD_AGAIN)
        index.append(count - 1)  # -1 where no event precedes the image
    if disagreements:
        logger.warning(
            "%s: ms_to_idx disagrees with events/t at %d images; events/t was searched instead",
            recording.filename,
            disagreements,
        )
    return np.array(index, dtype=np.int64)
