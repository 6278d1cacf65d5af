"""Cars of the toy street: a body and a cabin of flat faces, with windows, wheels and lights."""

from __future__ import annotations

import numpy as np

from mmseg.toy.geometry import Group, Light, Surface, along, facing, plain
from mmseg.toy.objects import ID, disc, glow_disc, ground_lights, shadow
from mmseg.toy.textures import Palette, metres, mixed, noise, tinted

PAINTS: Palette = (
    (0.5, 0.5, 0.52),
    (0.03, 0.03, 0.035),
    (0.65, 0.65, 0.65),
    (0.4, 0.03, 0.03),
    (0.04, 0.09, 0.3),
)
PAINTS += ((0.16, 0.17, 0.18), (0.05, 0.18, 0.1), (0.5, 0.36, 0.06), (0.25, 0.24, 0.2))
GLASS = np.array([0.05, 0.06, 0.07])


def _quad(p00: tuple, p10: tuple, p01: tuple, outward: tuple, albedo: np.ndarray, **rest) -> Surface:
    """Face with the corners (s, t) = (0, 0), (1, 0) and (0, 1)."""
    corner = np.array(p00, float)
    return Surface(
        corner, np.array(p10, float) - corner, np.array(p01, float) - corner, albedo, ID["car"],
        outward=np.array(outward, float), **rest,
    )  # fmt: skip


def _end_face(rng: np.random.Generator, width: float, height: float, paint: np.ndarray, rear: bool) -> np.ndarray:
    """Front or rear of the body: lights, plate, bumper."""
    x, y = metres(width, height, 0.02)
    texture = tinted(np.ones((y.shape[0], x.shape[1])) * (0.75 + 0.35 * y / height), paint)
    edge = np.minimum(x, width - x)
    lights = (edge > 0.05) & (edge < 0.36) & (y > height * 0.55) & (y < height * 0.85)
    mixed(texture, lights, np.array([0.35, 0.02, 0.02]) if rear else np.array([0.7, 0.7, 0.7]))
    mixed(texture, (np.abs(x - width / 2) < 0.26) & (np.abs(y - height * 0.5) < 0.06), np.array([0.7, 0.7, 0.65]))
    if not rear:
        mixed(texture, (np.abs(x - width / 2) < 0.5) & (np.abs(y - height * 0.72) < 0.07), np.array([0.03] * 3))
    mixed(texture, np.broadcast_to(y < height * 0.22, texture.shape[:2]), np.array([0.04, 0.04, 0.045]))
    return texture * (1 + 0.04 * noise(rng, *texture.shape[:2])).clip(0.8)[..., None]


def _side_face(length: float, height: float, paint: np.ndarray) -> np.ndarray:
    """Side of the body: sill, door gaps."""
    x, y = metres(length, height, 0.04)
    texture = tinted(np.ones((y.shape[0], x.shape[1])) * (0.8 + 0.3 * y / height), paint)
    for position in (0.3, 0.53, 0.74):
        mixed(texture, np.broadcast_to(np.abs(x - position * length) < 0.03, texture.shape[:2]), paint * 0.4)
    mixed(texture, np.broadcast_to(y < 0.12, texture.shape[:2]), np.array([0.03] * 3))
    return texture


def _glazed(paint: np.ndarray, columns: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """Cabin face: panes in a frame, and the opacity of the trapezium; ``slope`` is the inset of the roof."""
    pixels = 64
    x = (np.arange(pixels)[None] + 0.5) / pixels
    y = (np.arange(pixels)[::-1, None] + 0.5) / pixels
    inset = slope * y
    s = (x - inset) / (1 - 2 * inset)
    # slightly too wide, so that nothing shines through where two faces meet
    alpha = np.clip((0.5 - np.abs(s - 0.5)) * pixels * 0.5 + 1.2, 0, 1).astype(np.float32)
    texture = np.broadcast_to(paint.astype(np.float32), (pixels, pixels, 3)).copy()
    cell = np.mod(s * columns, 1)
    pane = (np.abs(cell - 0.5) < 0.5 - 0.06 * columns) & (y > 0.06) & (y < 0.86)
    mixed(texture, pane, GLASS * (1 + 2.5 * y[..., None]))
    return texture, alpha


def _wheels(x: float, outward: tuple, z0: float, length: float, base: float) -> list[Surface]:
    """Two wheels on a side, as discs just outside it."""
    axis = (np.arange(24) + 0.5) / 12 - 1
    rim = (np.hypot(axis[None], axis[:, None]) < 0.55).astype(np.float32)
    albedo = np.full((24, 24, 3), 0.02, np.float32)
    mixed(albedo, rim, np.array([0.3, 0.3, 0.3]))
    middles = (z0 + at * length for at in (0.19, 0.79))
    rest = dict(albedo=albedo, alpha=disc(), label=ID["car"], outward=np.array(outward, float))
    return [along(x, z - 0.33, z + 0.33, base, base + 0.66, **rest) for z in middles]


def car(
    rng: np.random.Generator, x: float, z: float, heading: int, speed: float, lit: bool, base: float = 0.0
) -> tuple[Group, list[Light]]:
    """A car.

    Args:
        x, z: middle of its near end, metres.
        heading: 1 shows its rear to the camera, -1 its front.
        speed: m/s along z, with sign.
        lit: head and tail lights are on.
    """
    width, length, van = rng.uniform(1.7, 1.9), rng.uniform(3.9, 4.8), rng.random() < 0.2
    paint = np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.8, 1.2)
    low, belt, top = base + 0.24, base + rng.uniform(0.85, 1.0), base + (rng.uniform(1.8, 2.1) if van else 1.46)
    x0, x1, z1 = x - width / 2, x + width / 2, z + length
    near, far = (0.02, 0.72) if (van or heading > 0) else (0.22, 0.96)
    c0, c1 = z + near * length, z + far * length
    slope_near = (0.1 if van else 0.55) if heading > 0 else 0.75
    end = _end_face(rng, width, belt - low, paint, heading > 0)
    side = _side_face(length, belt - low, paint)
    lean = 0.07 * width
    # so that sides and ends meet, each is inset at the roof by the slope of the other
    glass, glass_alpha = _glazed(paint, 1, 0.07)
    doors, doors_alpha = _glazed(paint, 3 if van else 2, slope_near / (c1 - c0))
    surfaces = [shadow(x0 - 0.3, x1 + 0.3, z - 0.4, z1 + 0.4, base + 0.02, 0.85)]
    for edge, outward, towards in ((x0, (-1, 0, 0), 1), (x1, (1, 0, 0), -1)):
        surfaces.append(_quad((edge, belt, z), (edge, belt, z1), (edge, low, z), outward, side))
        surfaces += _wheels(edge + 0.02 * outward[0], outward, z, length, base)
        roof_x = edge + lean * towards
        surfaces.append(_quad((roof_x, top, c0), (roof_x, top, c1), (edge, belt, c0), outward, doors,
                              alpha=doors_alpha))  # fmt: skip
    surfaces += [
        _quad((x0, belt, z1), (x1, belt, z1), (x0, belt, z), (0, 1, 0), plain(paint * 1.15)),
        _quad((x0, top, c0 + slope_near), (x1, top, c0 + slope_near), (x0, belt, c0), (0, 0.3, -1), glass,
              alpha=glass_alpha),
        facing(x0, x1, low, belt, z, albedo=end, label=ID["car"]),
        _quad((x0 + lean, top, c1 - slope_near), (x1 - lean, top, c1 - slope_near), (x0 + lean, top, c0 + slope_near),
              (0, 1, 0), plain(paint * 1.1)),
    ]  # fmt: skip
    lights: list[Light] = []
    if lit:
        surfaces += _bulbs(x0, x1, low, belt, z, heading)
        if heading < 0:
            lights = ground_lights(x, z, -1, 9.0)
    return Group(surfaces, z, (0.0, 0.0, speed)), lights


def _bulbs(x0: float, x1: float, low: float, belt: float, z: float, heading: int) -> list[Surface]:
    """Lights at the near end: red at the rear, dazzling at the front."""
    y = low + 0.7 * (belt - low)
    color, radius = (np.array([6.0, 0.35, 0.2]), 0.09) if heading > 0 else (np.array([240.0, 220.0, 180.0]), 0.10)
    return [glow_disc(edge, y, z - 0.02, radius, color, ID["car"]) for edge in (x0 + 0.22, x1 - 0.22)]
