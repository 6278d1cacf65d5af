"""Event camera: every pixel reports when its log radiance has changed by a threshold since its last event.

The principle of Lichtsteiner et al. (JSSC 2008), simulated from renderings at many moments, with linear interpolation
of the log radiance in between. The camera sees the scene before glare, exposure and clipping.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mmseg.events.recording import HEIGHT, WIDTH

# Only the brightest lamps exceed this number of crossings per step, and the refractory period removes those.
MAX_CROSSINGS = 64


@dataclass(frozen=True)
class EventSensor:
    """Parameters of the simulator.

    Attributes:
        threshold, spread: mean and deviation over pixels of the contrast threshold, in natural log units.
        refractory: seconds for which a pixel is silent after an event.
        noise_rate: background events per pixel and second.
        dark: radiance below which changes fade.
    """

    threshold: float = 0.25
    spread: float = 0.03
    refractory: float = 0.001
    noise_rate: float = 0.5
    dark: float = 3e-4


@dataclass(frozen=True, eq=False)
class EventArrays:
    """Events in order of time: t (N,) int64 µs, x and y (N,) uint16 sensor pixels, p (N,) uint8 0 or 1."""

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray

    @classmethod
    def joined(cls, parts: list[EventArrays]) -> EventArrays:
        """One after the other."""
        return cls(*(np.concatenate([getattr(part, key) for part in parts]) for key in ("t", "x", "y", "p")))


class EventSimulator:
    """Sensor whose pixels carry their reference level from step to step.

    Args:
        rng: thresholds and noise.
        luminance: (H, W) radiance >= 0 at the start.
        sensor: parameters.
    """

    def __init__(self, rng: np.random.Generator, luminance: np.ndarray, sensor: EventSensor | None = None) -> None:
        self.sensor = sensor or EventSensor()
        self.rng = rng
        self.shape = luminance.shape
        size = luminance.size
        self.threshold = rng.normal(self.sensor.threshold, self.sensor.spread, (2, size)).astype(np.float32)
        np.maximum(self.threshold, 0.2 * self.sensor.threshold, out=self.threshold)
        self.level = self._log(luminance)
        # Pixels start at random between two events, or all would report the first change at once.
        self.reference = self.level + (rng.random(size, np.float32) - np.float32(0.5)) * self.threshold.min(axis=0)
        self.last = np.full(size, -1e9)

    def _log(self, luminance: np.ndarray) -> np.ndarray:
        return np.log(luminance.ravel() + np.float32(self.sensor.dark))

    def step(self, luminance: np.ndarray, start: float, end: float) -> EventArrays:
        """Events while the scene changes from the last call's luminance to ``luminance``.

        Args:
            luminance: (H, W) radiance at ``end``.
            start, end: seconds, 0 or more.
        """
        level = self._log(luminance)
        change = level - self.reference
        rising = change > 0
        threshold = np.where(rising, self.threshold[1], self.threshold[0])
        pixels = np.flatnonzero(np.abs(change) >= threshold)
        sign = np.where(rising[pixels], np.float32(1), np.float32(-1))
        step = sign * threshold[pixels]
        crossings = np.abs(change[pixels] / step).astype(np.int64)
        slope = (level - self.level)[pixels]
        slope[slope == 0] = 1e-6
        times, indices, polarities = [], [], []
        for count in range(1, MAX_CROSSINGS + 1):
            alive = np.flatnonzero(crossings >= count)
            if alive.size == 0:
                break
            where = pixels[alive]
            share = (self.reference[where] + count * step[alive] - self.level[where]) / slope[alive]
            time = start + np.clip(share, 0, 1).astype(np.float64) * (end - start)
            awake = time >= self.last[where] + self.sensor.refractory
            self.last[where[awake]] = time[awake]
            times.append(time[awake])
            indices.append(where[awake])
            polarities.append(sign[alive][awake] > 0)
        # the reference also follows crossings within the refractory period
        self.reference[pixels] += crossings.astype(np.float32) * step
        self.level = level
        noise = self._noise(start, end)
        return self._sorted(
            np.concatenate([*times, noise[0]]),
            np.concatenate([*indices, noise[1]]),
            np.concatenate([*polarities, noise[2]]),
        )

    def _noise(self, start: float, end: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Background events: time, pixel and polarity."""
        size = self.shape[0] * self.shape[1]
        count = self.rng.poisson(self.sensor.noise_rate * (end - start) * size)
        times = self.rng.uniform(start, end, count)
        return times, self.rng.integers(size, size=count), self.rng.random(count) < 0.5

    def _sorted(self, time: np.ndarray, pixel: np.ndarray, positive: np.ndarray) -> EventArrays:
        micros = (time * 1e6).astype(np.int64)
        order = np.lexsort((pixel, micros))
        y, x = np.divmod(pixel[order], self.shape[1])
        return EventArrays(micros[order], x.astype(np.uint16), y.astype(np.uint16), positive[order].astype(np.uint8))


def rectify_map(rng: np.random.Generator, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Rectified (x, y) of every sensor pixel: (height, width, 2) float32; a slight rotation and radial distortion.

    The sensor sees slightly more than the rectified frame, as in DSEC.
    """
    angle = np.deg2rad(rng.uniform(0.2, 0.6) * rng.choice([-1, 1]))
    radial, scale, shift = rng.uniform(0.015, 0.035), rng.uniform(1.005, 1.015), rng.uniform(-2, 2, 2)
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = np.stack((x, y), axis=-1) - center
    square = (offset**2).sum(axis=-1, keepdims=True) / (width / 2) ** 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    bent = offset * scale * (1 + radial * (square - 0.4))
    return (bent @ turn.T + center + shift).astype(np.float32)


def on_sensor(rectified: np.ndarray, mapping: np.ndarray) -> np.ndarray:
    """View of the distorted sensor of a rectified image (height, width); ``mapping`` is its rectify map."""
    x, y = mapping[..., 0], mapping[..., 1]
    return cv2.remap(rectified, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
