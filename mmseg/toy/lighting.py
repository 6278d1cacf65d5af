"""Light on a toy street. Surfaces are matt, so light on them does not depend on the camera and is baked once.

Only the car's own headlights move with the camera; the renderer adds them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mmseg.toy.geometry import Light, Street, Surface

# Distance in metres between points at which light is computed; it is interpolated in between.
STEP = 0.5
MAX_POINTS = 160


@dataclass(frozen=True, eq=False)
class DayLight:
    """Sun and sky.

    Attributes:
        sun: (3,) unit vector towards the sun.
        sun_color, sky_color: (3,) irradiance of a surface facing the sun, and of one open to the sky.
        street: its houses cast shadows.
    """

    sun: np.ndarray
    sun_color: np.ndarray
    sky_color: np.ndarray
    street: Street

    def irradiance(self, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Light on points (N, 3) of a surface with one unit normal; (N, 3)."""
        open_sky = 0.62 + 0.38 * normal[1]
        direct = max(0.0, float(normal @ self.sun))
        light = np.broadcast_to(open_sky * self.sky_color, points.shape)
        if direct == 0:
            return light
        return light + (direct * self._sunlit(points, normal))[:, None] * self.sun_color

    def _sunlit(self, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """(N,) in {0, 1}: 0 if a house on the sunny side is between point and sun."""
        side = int(self.sun[0] > 0)
        away = (self.street.walls[side] - points[:, 0]) / self.sun[0]
        height = points[:, 1] + away * self.sun[1]
        profile = self.street.heights[side]
        metre = (points[:, 2] + away * self.sun[2]).astype(np.int64) - self.street.first_metre
        blocked = (away > 0.05) & (profile[metre.clip(0, len(profile) - 1)] > height)
        return 1.0 - blocked


@dataclass(frozen=True, eq=False)
class NightLight:
    """Faint sky glow, and lamps."""

    ambient: np.ndarray
    lamps: list[Light]

    def irradiance(self, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Light on points (N, 3) of a surface with one unit normal; (N, 3)."""
        total = np.broadcast_to((0.7 + 0.3 * normal[1]) * self.ambient, points.shape).copy()
        for lamp in self.lamps:
            ray = points - lamp.position
            square = np.einsum("ij,ij->i", ray, ray)
            distance = np.sqrt(square)
            # thin objects such as signs and leaves let some light through
            incidence = -(ray @ normal) / distance
            incidence = np.where(incidence > 0, incidence, -0.15 * incidence)
            gain = incidence / (square + 0.3)
            if lamp.aim is not None:
                gain = gain * np.clip((ray @ lamp.aim) / distance, 0, 1) ** lamp.sharpness
            total += gain[:, None] * lamp.intensity
        return total


def make_light(rng: np.random.Generator, street: Street, night: bool) -> DayLight | NightLight:
    """Draw the light of a street: time of day, weather, colour of the sky's glow."""
    if night:
        # mostly lamp light reflected by road and houses: facades stand out against the black sky
        return NightLight(np.array([0.006, 0.005, 0.00425]) * rng.uniform(0.6, 1.5), street.lights)
    clear, elevation = rng.random() < 0.65, np.deg2rad(rng.uniform(20, 62))
    azimuth = np.deg2rad(rng.uniform(0, 360))
    horizontal = np.cos(elevation)
    sun = np.array([horizontal * np.sin(azimuth), np.sin(elevation), horizontal * np.cos(azimuth)])
    sun[0] = np.copysign(max(abs(sun[0]), 0.05), sun[0])
    warmth = np.array([1.0, 0.78 + 0.2 * np.sin(elevation), 0.55 + 0.4 * np.sin(elevation)])
    sky = np.array([0.42, 0.48, 0.60]) if clear else np.array([0.82, 0.85, 0.9]) * rng.uniform(0.7, 1.1)
    return DayLight(sun, warmth * (rng.uniform(0.8, 1.6) if clear else 0.12), sky, street)


def _light_map(surface: Surface, light: DayLight | NightLight, eye: np.ndarray) -> np.ndarray:
    """Irradiance on the texels of a surface, (h, w, 3) float32, or (1, 1, 3) if it is small."""
    normal = surface.normal
    if surface.outward is not None:
        normal = normal if normal @ surface.outward > 0 else -normal
    elif normal @ (eye - surface.center) < 0:
        normal = -normal
    lengths = [np.linalg.norm(surface.v), np.linalg.norm(surface.u)]
    rows, columns = (int(np.clip(np.ceil(length / STEP), 1, MAX_POINTS)) for length in lengths)
    s, t = (np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows
    t, s = (a.reshape(-1, 1) for a in np.meshgrid(t, s, indexing="ij"))
    points = surface.origin + s * surface.u + t * surface.v
    values = light.irradiance(points, normal).reshape(rows, columns, 3).astype(np.float32)
    if rows * columns == 1:
        return values
    h, w = surface.albedo.shape[:2]
    return cv2.resize(values, (w, h), interpolation=cv2.INTER_LINEAR).reshape(h, w, 3)


def bake(surface: Surface, light: DayLight | NightLight, eye: np.ndarray) -> np.ndarray:
    """Radiance of a surface's texels, and their reflection of the car's headlights.

    Args:
        surface: the surface.
        light: the light on it.
        eye: (3,) position of the camera; thin surfaces are lit on the side facing it.

    Returns:
        (h, w, 4) float32: RGB radiance >= 0, and grey albedo times ``retro``.
    """
    h, w = surface.albedo.shape[:2]
    if surface.emission is not None:
        h, w = surface.emission.shape[:2]
    texture = np.zeros((h, w, 4), np.float32)
    if surface.shaded:
        albedo = surface.albedo
        lit = albedo * _light_map(surface, light, eye)
        if albedo.shape[:2] != (h, w):
            lit = cv2.resize(lit, (w, h))
            albedo = cv2.resize(albedo, (w, h))
        texture[..., :3] = lit
        texture[..., 3] = albedo.mean(axis=-1) * surface.retro
    if surface.emission is not None:
        texture[..., :3] += surface.emission
    return texture
