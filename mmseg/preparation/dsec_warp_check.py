"""Check of how well a warped image fits the events: events drawn over it, and the shift at which they fit best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmseg.datasets.dsec_frames import read_timestamps
from mmseg.errors import DataError
from mmseg.events.event_index import image_event_index
from mmseg.events.recording import HEIGHT, WIDTH, EventRecording

# Events up to this long before and after the image are drawn, in µs: at most a few pixels of motion.
HALF_WINDOW = 10_000
MAX_SHIFT = 16
MIN_EVENTS = 500
POSITIVE, NEGATIVE = (255, 60, 30), (60, 140, 255)


@dataclass(frozen=True)
class Agreement:
    """Shift (x, y) in pixels at which events match the edges best; correlation there and without shift."""

    shift: tuple[int, int]
    best: float
    unshifted: float


def frame_event_counts(sequence: Path, frame: int) -> np.ndarray:
    """Count the events around the time of an image, rectified.

    Args:
        sequence: folder with ``events/left/{events,rectify_map}.h5`` and ``images/timestamps.txt``.
        frame: number of the image.

    Returns:
        (2, 480, 640) float32: negative and positive events per pixel.

    Raises:
        DataError: a file is missing or damaged, or there are no events around the image.
    """
    timestamps = read_timestamps(sequence / "images" / "timestamps.txt")
    events_file = sequence / "events" / "left" / "events.h5"
    counts = np.zeros((2, HEIGHT, WIDTH), np.float32)
    first, last = -1, -1
    if frame < len(timestamps):
        times = (int(timestamps[frame]) - HALF_WINDOW, int(timestamps[frame]) + HALF_WINDOW)
        first, last = image_event_index(events_file, times).tolist()
    if first < 0 or last - first < MIN_EVENTS:
        raise DataError(f"{events_file} holds fewer than {MIN_EVENTS} events around frame {frame}")
    events = EventRecording(events_file, sequence / "events" / "left" / "rectify_map.h5").window(first + 1, last)
    column, row = np.rint(events.x).astype(np.int64), np.rint(events.y).astype(np.int64)
    inside = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
    np.add.at(counts, (events.p[inside].astype(np.int64), row[inside], column[inside]), 1)
    return counts


def agreement(image: np.ndarray, counts: np.ndarray) -> Agreement:
    """Find the shift, up to ``MAX_SHIFT`` pixels, at which events match the edges of an image best.

    Args:
        image: (H, W, 3) uint8 RGB.
        counts: (2, H, W) events per pixel.
    """
    grey = np.log(cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 1.0).astype(np.float32) + 10)
    edges = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    # Limit the influence of a few lamps, in the image and in the events.
    edges = np.minimum(edges, np.percentile(edges, 98))
    activity = cv2.GaussianBlur(np.log1p(counts.sum(axis=0)), (0, 0), 1.0)
    inner = activity[MAX_SHIFT:-MAX_SHIFT, MAX_SHIFT:-MAX_SHIFT]
    scores = cv2.matchTemplate(edges, np.ascontiguousarray(inner), cv2.TM_CCOEFF_NORMED)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    shift = (int(column) - MAX_SHIFT, int(row) - MAX_SHIFT)
    return Agreement(shift, float(scores.max()), float(scores[MAX_SHIFT, MAX_SHIFT]))


def draw_events(image: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Draw events over the grey image: red where most are positive, blue where most are negative."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    picture = np.repeat(grey[..., None], 3, axis=-1)
    negative, positive = counts
    picture[(positive > 0) & (positive >= negative)] = POSITIVE
    picture[negative > positive] = NEGATIVE
    return picture
