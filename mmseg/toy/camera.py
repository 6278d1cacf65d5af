"""From radiance to 8-bit images: motion blur, glare, exposure, noise and clipping; and the motion of the car."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mmseg.toy.render import Camera, Pose

LUMINANCE = np.array([[0.299, 0.587, 0.114]], np.float32)
# Glare: sigma as a fraction of the image width, and the fraction of light that it spreads.
GLARE = ((0.0025, 0.045), (0.012, 0.022), (0.045, 0.012), (0.15, 0.005))
CAR_HEIGHT = 1.5


@dataclass(frozen=True)
class Sensor:
    """A frame camera.

    Attributes:
        full_well: electrons at full scale; fewer give more shot noise.
        read_noise: standard deviation as a fraction of full scale.
        gamma: exponent of the 8-bit encoding.
        sharpness: sigma of the lens blur in pixels; 0 for none.
        glare: factor on ``GLARE``.
    """

    full_well: float
    read_noise: float
    gamma: float = 1 / 2.2
    sharpness: float = 0.0
    glare: float = 1.0


DAY_SENSOR = Sensor(full_well=9000, read_noise=0.0015, glare=0.3)
# Set so that saturated pixels, contrast and noise are about those of night images of DSEC and Dark Zurich.
NIGHT_SENSOR = Sensor(full_well=3000, read_noise=0.004, gamma=1 / 1.6, sharpness=0.7, glare=3.0)
PHONE_SENSOR = Sensor(full_well=2000, read_noise=0.004, gamma=1 / 1.7, sharpness=0.9, glare=2.5)


@dataclass(frozen=True)
class Ride:
    """Motion of the car: straight ahead, with some sway and nod.

    Attributes:
        lane: x in metres.
        speed: m/s.
        sway, nod: (amplitude in radians, frequency in Hz, phase) of yaw and pitch.
        tilt: mean pitch in radians.
    """

    lane: float
    speed: float
    sway: tuple[float, float, float]
    nod: tuple[float, float, float]
    tilt: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator, lane: float) -> Ride:
        """A ride at 7 to 13 m/s."""
        sway = (np.deg2rad(rng.uniform(0.3, 1.0)), rng.uniform(0.4, 1.1), rng.uniform(0, 2 * np.pi))
        nod = (np.deg2rad(rng.uniform(0.06, 0.2)), rng.uniform(1.5, 3.0), rng.uniform(0, 2 * np.pi))
        tilt = np.deg2rad(rng.normal(0, 0.5))
        speed = float(rng.uniform(7, 13))
        return cls(lane, speed, _floats(*sway), _floats(*nod), float(tilt))

    def pose(self, time: float) -> Pose:
        """Pose at a time in seconds; z is 0 at time 0."""
        yaw, pitch = (a * np.sin(2 * np.pi * f * time + p) for a, f, p in (self.sway, self.nod))
        return Pose((self.lane, CAR_HEIGHT, self.speed * time), float(yaw), float(pitch) + self.tilt)


def _floats(a: float, b: float, c: float) -> tuple[float, float, float]:
    return float(a), float(b), float(c)


def luminance(radiance: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W) float32."""
    return cv2.transform(radiance, LUMINANCE)


def hood(camera: Camera, first_row: int) -> np.ndarray:
    """(H, W) bool: the car's hood, below an arc whose top is ``first_row``."""
    x = (np.arange(camera.width) - (camera.width - 1) / 2) / (camera.width / 2)
    edge = first_row + 0.035 * camera.height * x**4 + 0.02 * camera.height * x**2
    return np.arange(camera.height)[:, None] >= edge[None]


def cover_hood(radiance: np.ndarray, mask: np.ndarray, brightness: float) -> None:
    """Paint the hood into an image, in place: dark, with a dull sheen."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return
    sheen = np.linspace(1.6, 0.5, rows.size, dtype=np.float32)[:, None, None]
    patch = brightness * sheen * np.array([0.9, 0.95, 1.05], np.float32)
    region = radiance[rows[0] :]
    np.copyto(region, patch, where=mask[rows[0] :, :, None])


def glare(radiance: np.ndarray, strength: float) -> np.ndarray:
    """Spread part of the light around every pixel, as lens and windscreen do; total light is preserved."""
    height, width = radiance.shape[:2]
    kept, spread = 1.0, np.zeros_like(radiance)
    for sigma, share in GLARE:
        pixels = max(sigma * width, 0.6)
        step = max(1, int(pixels / 3))
        small = cv2.resize(radiance, (-(-width // step), -(-height // step)), interpolation=cv2.INTER_AREA)
        blurred = cv2.GaussianBlur(small, (0, 0), pixels / step, borderType=cv2.BORDER_REFLECT)
        spread += strength * share * cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
        kept -= strength * share
    return radiance * np.float32(kept) + spread


def auto_gain(radiance: np.ndarray, target: float = 0.27) -> float:
    """Exposure of a day image: the 70th percentile becomes ``target`` of full scale."""
    return target / max(float(np.percentile(luminance(radiance), 70)), 1e-6)


def expose(
    rng: np.random.Generator, views: Sequence[np.ndarray], gain: float, sensor: Sensor, tint: np.ndarray | None = None
) -> np.ndarray:
    """Take an image.

    Args:
        rng: for the noise.
        views: radiance (H, W, 3) at moments of the exposure; averaged for motion blur.
        gain: full scale is radiance 1/gain.
        sensor: the camera.
        tint: (3,) white balance.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    light = np.asarray(np.mean(views, axis=0, dtype=np.float32)) if len(views) > 1 else views[0]
    light = glare(light, sensor.glare) * np.float32(gain)
    if tint is not None:
        light = light * tint.astype(np.float32)
    if sensor.sharpness:
        light = cv2.GaussianBlur(light, (0, 0), sensor.sharpness)
    # beyond twice full scale everything is white despite noise
    light = np.clip(light, 0, 2)
    deviation = np.sqrt(light / np.float32(sensor.full_well) + np.float32(sensor.read_noise**2))
    light += deviation * rng.standard_normal(light.shape, dtype=np.float32)
    return np.rint(np.clip(light, 0, 1) ** np.float32(sensor.gamma) * 255).astype(np.uint8)
