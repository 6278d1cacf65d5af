"""Objects of a toy street: trees, poles, lamps, signs, people and bicycles.

Builders return surfaces or a :class:`Group` in world coordinates, and the lights that belong to it.
"""

from __future__ import annotations

import cv2
import numpy as np

from mmseg.classes import CLASSES
from mmseg.toy.geometry import NO_LABEL, Group, Light, Surface, along, between, facing, flat, plain
from mmseg.toy.textures import leaves, masonry, metres, mixed, noise, size, tinted

ID = {name: number for number, name in enumerate(CLASSES)}
METAL = np.array([0.20, 0.21, 0.21])
LAMP_COLORS = ((1.0, 0.62, 0.25), (1.0, 0.74, 0.42), (0.9, 0.95, 1.0), (1.0, 0.85, 0.62))


def disc(pixels: int = 24, softness: float = 2.0) -> np.ndarray:
    """(pixels, pixels) float32 opacity of a disc that fills the texture."""
    axis = (np.arange(pixels) + 0.5) / pixels * 2 - 1
    radius = np.hypot(axis[None], axis[:, None])
    return np.clip((1 - radius) * pixels / 2 / softness, 0, 1).astype(np.float32)


def _drawing(width: float, height: float, texel: float) -> tuple[np.ndarray, float]:
    """Blank 8-bit canvas for OpenCV drawing at 4 times the texel density, and its pixels per metre."""
    scale = 4 / texel
    return np.zeros((max(8, round(height * scale)), max(8, round(width * scale))), np.uint8), scale


def _opacity(canvas: np.ndarray) -> np.ndarray:
    """Average the canvas of :func:`_drawing` down to texels; float32 in [0, 1]."""
    h, w = (max(2, n // 4) for n in canvas.shape)
    return cv2.resize(canvas, (w, h), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def glow_disc(x: float, y: float, z: float, radius: float, color: np.ndarray, label: int) -> Surface:
    """A small bright disc that faces the camera: a bulb."""
    emission = np.broadcast_to(np.asarray(color, np.float32), (24, 24, 3)).copy()
    bounds = (x - radius, x + radius, y - radius, y + radius, z)
    return facing(*bounds, albedo=plain((0.5, 0.5, 0.5)), alpha=disc(), emission=emission, label=label)


# ------------------------------------------------------------------------------------------- plants, fences


def tree(rng: np.random.Generator, x: float, z: float, base: float, texel: float) -> Group:
    """A trunk, and a crown of three layers at different depths, so that it does not look flat in motion."""
    height = rng.uniform(5.5, 9.5)
    radius = height * rng.uniform(0.22, 0.31)
    trunk = rng.uniform(0.1, 0.18)
    bark = tinted(1 + 0.3 * noise(rng, 64, 8), np.array([0.16, 0.12, 0.09]))
    top = base + height - 1.2 * radius
    surfaces = [facing(x - trunk, x + trunk, base, top, z, albedo=bark, label=ID["vegetation"])]
    for layer, shrink in ((0.6, 0.9), (0.0, 1.0), (-0.6, 0.75)):
        r = radius * shrink
        pixels = size(2 * r, max(texel, 0.03))
        axis = (np.arange(pixels) + 0.5) / pixels * 2 - 1
        ragged = 0.17 * noise(rng, pixels, pixels, max(0.3, 60 / pixels))
        alpha = np.clip((1 - np.hypot(axis[None], axis[:, None] * 0.95) + ragged - 0.3) * pixels / 4, 0, 1)
        alpha[[0, -1]], alpha[:, [0, -1]] = 0, 0
        dx, dy = rng.normal(0, 0.15 * radius, 2)
        center = base + height - radius + dy
        bounds = (x + dx - r, x + dx + r, center - r, center + r * 1.1, z + layer * radius)
        look = leaves(rng, pixels, pixels, max(1.0, 160 / pixels))
        surfaces.append(facing(*bounds, albedo=look, alpha=alpha.astype(np.float32), label=ID["vegetation"]))
    return Group(surfaces, z)


def hedge(rng: np.random.Generator, x: float, z0: float, z1: float, inward: float, texel: float) -> list[Surface]:
    """A clipped hedge along the building line: end and long side."""
    height, depth = rng.uniform(0.9, 2.2), 1.0
    side = leaves(rng, size(height, texel), size(z1 - z0, texel), 3)
    end = leaves(rng, size(height, texel), size(depth, texel), 3)
    back = between(x, x - inward * depth)
    return [
        facing(*back, 0, height, z0, albedo=end, label=ID["vegetation"]),
        along(x, z0, z1, 0, height, albedo=side, label=ID["vegetation"]),
    ]


def fence(rng: np.random.Generator, x: float, z0: float, z1: float, texel: float) -> list[Surface]:
    """Bars and rails, labelled across the gaps."""
    height, gap = rng.uniform(1.1, 1.9), rng.uniform(0.16, 0.4)
    s, y = metres(z1 - z0, height, min(texel, 0.04))
    bars = (np.mod(s, gap) < 0.06 + gap * 0.2) | (np.mod(s, 2.4) < 0.12)
    rails = (np.abs(y - 0.2) < 0.05) | (np.abs(y - height + 0.12) < 0.06)
    alpha = (bars | rails).astype(np.float32)
    color = np.array(((0.06, 0.09, 0.07), (0.50, 0.48, 0.44), (0.30, 0.20, 0.12))[rng.integers(3)])
    albedo = tinted(1 + 0.1 * noise(rng, *alpha.shape), color)
    full = np.ones((2, 2), np.float32)
    return [along(x, z0, z1, 0, height, albedo=albedo, alpha=alpha, label_alpha=full, label=ID["fence"])]


def wall(rng: np.random.Generator, x: float, z0: float, z1: float, inward: float, texel: float) -> list[Surface]:
    """A garden wall along the building line: end and long side."""
    height = rng.uniform(1.3, 2.6)
    back = between(x, x - inward * 0.4)
    return [
        facing(*back, 0, height, z0, albedo=masonry(rng, 0.4, height, texel), label=ID["wall"]),
        along(x, z0, z1, 0, height, albedo=masonry(rng, z1 - z0, height, texel), label=ID["wall"]),
    ]


# ------------------------------------------------------------------------------------------------ furniture


def pole(x: float, z: float, base: float, top: float, radius: float, color: np.ndarray = METAL) -> Surface:
    """An upright tube, shaded round."""
    shade = np.array([0.6, 1.0, 1.2, 0.9, 0.55], np.float32)[None].repeat(2, 0)
    return facing(x - radius, x + radius, base, top, z, albedo=tinted(shade, color), label=ID["pole"])


def lamp(
    rng: np.random.Generator, x: float, z: float, base: float, reach: float, night: bool, color: np.ndarray
) -> tuple[Group, list[Light]]:
    """A street lamp whose arm extends ``reach`` metres over the road, signed."""
    height, dark = rng.uniform(5.5, 7.0), METAL * rng.uniform(0.6, 1.2)
    head = x + reach
    bounds = between(x, head)
    surfaces = [
        pole(x, z, base, base + height, 0.10, dark),
        facing(*bounds, base + height - 0.08, base + height + 0.05, z, albedo=plain(dark), label=ID["pole"]),
        facing(head - 0.35, head + 0.35, base + height - 0.12, base + height + 0.1, z - 0.05, albedo=plain(dark),
               label=ID["pole"]),
    ]  # fmt: skip
    if not night or rng.random() < 0.1:  # some bulbs are broken
        return Group(surfaces, z), []
    surfaces.append(glow_disc(head, base + height - 0.14, z - 0.1, 0.2, 160 * color, ID["pole"]))
    down = np.array([-0.1 * np.sign(reach), -1.0, 0.0])
    position = np.array([head, base + height - 0.2, z])
    return Group(surfaces, z), [Light(position, 22 * color * rng.uniform(0.6, 1.3), down, 1.0)]


def _sign_face(rng: np.random.Generator, pixels: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Albedo, opacity and height/width of a road sign: disc, triangle, square or board."""
    canvas, ink = np.zeros((pixels * 4, pixels * 4), np.uint8), np.zeros((pixels * 4, pixels * 4), np.uint8)
    n, kind = pixels * 4, rng.integers(5)
    red, blue, white, yellow = ((0.55, 0.04, 0.04), (0.03, 0.12, 0.5), (0.8, 0.8, 0.8), (0.75, 0.6, 0.05))
    if kind <= 1:
        cv2.circle(canvas, (n // 2, n // 2), n // 2 - 4, 255, -1)
        cv2.circle(ink, (n // 2, n // 2), n // 2 - n // 7, 255, -1)
        outer, inner = (red, white) if kind == 0 else (blue, blue)
    elif kind == 2:
        corners = np.array([[n // 2, 4], [n - 4, n - n // 8], [4, n - n // 8]])
        cv2.fillConvexPoly(canvas, corners, 255)
        middle = corners.mean(0)
        cv2.fillConvexPoly(ink, (middle + (corners - middle) * 0.6).astype(np.int32), 255)
        outer, inner = red, white
    else:
        cv2.rectangle(canvas, (4, 4), (n - 5, n - 5), 255, -1)
        cv2.rectangle(ink, (n // 10, n // 10), (n - n // 10, n - n // 10), 255, -1)
        outer, inner = ((white, blue), (white, yellow))[kind - 3]
    albedo = np.broadcast_to(np.array(outer, np.float32), (pixels, pixels, 3)).copy()
    mixed(albedo, _opacity(ink), np.array(inner))
    mark = np.zeros_like(canvas)
    for _ in range(3):
        a, b = rng.integers(n // 3, n - n // 3, (2, 2))
        cv2.line(mark, a.tolist(), b.tolist(), 255, n // 14)
    mixed(albedo, _opacity(mark), np.array(white if inner is blue else (0.03, 0.03, 0.03)))
    return albedo, _opacity(canvas), 1.6 if kind == 4 else 1.0


def sign(rng: np.random.Generator, x: float, z: float, base: float) -> Group:
    """One or two retroreflective road signs on a tube."""
    top, surfaces = base + rng.uniform(2.4, 3.2), []
    surfaces.append(pole(x, z, base, top, 0.045, METAL * 1.8))
    for _ in range(rng.integers(1, 3)):
        albedo, alpha, ratio = _sign_face(rng, 32)
        half = rng.uniform(0.34, 0.52)
        bounds = (x - half, x + half, top - 2 * half * ratio, top, z - 0.06)
        surfaces.append(facing(*bounds, albedo=albedo, alpha=alpha, label=ID["traffic sign"], retro=25.0))
        top -= 2 * half * ratio + 0.05
    return Group(surfaces, z)


def traffic_light(
    rng: np.random.Generator, x: float, z: float, base: float, arm: float, night: bool
) -> tuple[Group, list[Light]]:
    """A signal on a mast, and a second one over the road if ``arm`` is not 0."""
    housing, color = METAL * 0.25, [(9, 0.6, 0.3), (9, 5, 0.4), (0.5, 8, 3.5)]
    lit, gain = rng.integers(3), 1.0 if night else 0.18
    height = 5.2 if arm else 3.4
    surfaces = [pole(x, z, base, base + height, 0.09)]
    heads = [(x, base + 3.4)]
    if arm:
        surfaces.append(facing(*between(x, x + arm), base + 5.1, base + 5.22, z, albedo=plain(METAL), label=ID["pole"]))
        heads.append((x + arm, base + 5.6))
    for hx, top in heads:
        bounds = (hx - 0.26, hx + 0.26, top - 1.3, top, z - 0.1)
        surfaces.append(facing(*bounds, albedo=plain(housing), label=ID["traffic light"]))
        for i in range(3):
            tone = np.array(color[i]) * gain if i == lit else np.array(color[i]) * 0.004
            surfaces.append(glow_disc(hx, top - 0.25 - 0.4 * i, z - 0.15, 0.15, tone, ID["traffic light"]))
    return Group(surfaces, z), []


# --------------------------------------------------------------------------------------------------- people


def person(
    rng: np.random.Generator, x: float, z: float, base: float, texel: float, label: str = "person", seated: bool = False
) -> Surface:
    """A standing, walking or (on a bicycle) seated figure, facing along the street."""
    height, width = rng.uniform(1.55, 1.9), 0.9
    canvas, scale = _drawing(width, height, max(texel, 0.012))
    top, legs = np.zeros_like(canvas), np.zeros_like(canvas)

    def point(px: float, py: float) -> tuple[int, int]:
        return round((px + width / 2) * scale), round((1 - py) * height * scale)

    def limb(mask: np.ndarray, a: tuple[float, float], b: tuple[float, float], thick: float) -> None:
        cv2.line(mask, point(*a), point(*b), 255, max(1, round(thick * scale)))

    step, swing, stout = rng.uniform(0.04, 0.24), rng.uniform(0.02, 0.2), rng.uniform(0.9, 1.25)
    for side in (-1, 1):
        if seated:
            limb(legs, (0.05 * side, 0.48), (0.16 * side, 0.28), 0.14 * stout)
            limb(legs, (0.16 * side, 0.28), (0.10 * side, 0.06), 0.11 * stout)
        else:
            limb(legs, (0.06 * side, 0.5), (step * side, 0.04), 0.15 * stout)
        limb(top, (0.19 * side * stout, 0.78), ((0.21 + swing) * side, 0.5), 0.10 * stout)
    cv2.fillConvexPoly(
        top, np.array([point(s * stout, t) for s, t in ((-0.2, 0.82), (0.2, 0.82), (0.16, 0.46), (-0.16, 0.46))]), 255
    )
    head = np.zeros_like(canvas)
    cv2.ellipse(head, point(0, 0.915), (round(0.10 * scale), round(0.13 * scale)), 0, 0, 360, 255, -1)
    limb(head, (0, 0.8), (0, 0.88), 0.09)
    parts = [_opacity(part) for part in (head, legs, top)]
    skin = np.array([0.42, 0.27, 0.19]) * rng.uniform(0.35, 1.1)
    clothes = rng.uniform(0.03, 0.5, (2, 3)) ** 1.3
    albedo = np.broadcast_to(skin.astype(np.float32), (*parts[0].shape, 3)).copy()
    for part, color in zip(parts[1:], clothes, strict=True):
        mixed(albedo, part, color)
    h, w = parts[0].shape
    albedo *= (1 + 0.12 * noise(rng, h, w, 3)).clip(0.6)[..., None]
    alpha = np.maximum.reduce(parts)
    alpha[0] = 0
    bounds = (x - width / 2, x + width / 2, base, base + height, z)
    return facing(*bounds, albedo=albedo.clip(0.01, 1), alpha=alpha, label=ID[label], retro=1.5)


def bicycle(rng: np.random.Generator, x: float, z: float, base: float, turn: float) -> Surface:
    """A bicycle from the side, shortened by ``turn``; wheels are labelled as full discs."""
    width, height = 1.75 * turn, 1.1
    canvas, scale = _drawing(1.75, height, 0.02)
    discs = np.zeros_like(canvas)

    def point(px: float, py: float) -> tuple[int, int]:
        return round(px * scale), round((height - py) * scale)

    for hub in (0.35, 1.38):
        cv2.circle(discs, point(hub, 0.35), round(0.35 * scale), 255, -1)
        cv2.circle(canvas, point(hub, 0.35), round(0.33 * scale), 255, round(0.055 * scale))
        cv2.circle(canvas, point(hub, 0.35), round(0.06 * scale), 255, -1)
    tubes = [(0.35, 0.35, 0.8, 0.35), (0.35, 0.35, 0.62, 0.8), (0.8, 0.35, 0.58, 0.95), (0.62, 0.8, 1.22, 0.82)]
    tubes += [(0.8, 0.35, 1.22, 0.82), (1.38, 0.35, 1.18, 1.0), (1.05, 1.02, 1.28, 1.0), (0.45, 0.96, 0.7, 0.96)]
    for x0, y0, x1, y1 in tubes:
        for mask in (canvas, discs):
            cv2.line(mask, point(x0, y0), point(x1, y1), 255, round(0.055 * scale))
    alpha, labels = _opacity(canvas), _opacity(discs)
    color = rng.uniform(0.05, 0.6, 3)
    bounds = (x - width / 2, x + width / 2, base, base + height, z)
    return facing(*bounds, albedo=tinted(np.ones_like(alpha), color), alpha=alpha, label_alpha=labels,
                  label=ID["bicycle"], retro=2.0)  # fmt: skip


def rider(rng: np.random.Generator, x: float, z: float, base: float, texel: float, speed: float) -> Group:
    """A cyclist on the road, riding at ``speed`` m/s along z."""
    bike = bicycle(rng, x, z, base, rng.uniform(0.35, 0.8))
    body = person(rng, x, z + 0.02, base + 0.42, texel, "rider", seated=True)
    return Group([body, bike], z, (0.0, 0.0, speed))


# ----------------------------------------------------------------------------------------------------- cars


def shadow(x0: float, x1: float, z0: float, z1: float, y: float, strength: float) -> Surface:
    """A soft dark patch on the road, which keeps the road's label."""
    ramp = np.minimum(np.linspace(0, 4, 24), np.linspace(4, 0, 24)).clip(0, 1)
    alpha = (strength * ramp[:, None] * ramp[None]).astype(np.float32)
    return flat(x0, x1, z0, z1, y, albedo=plain((0.02, 0.02, 0.02)), alpha=alpha, label=NO_LABEL)


def ground_lights(x: float, z: float, heading: float, power: float) -> list[Light]:
    """Headlights of a car whose front is at (x, z); ``heading`` is 1 along z and -1 against it."""
    aim = np.array([0.0, -0.08, heading])
    tone = np.array([1.0, 0.93, 0.8])
    return [Light(np.array([x, 0.65, z + 0.3 * heading]), power * tone, aim / np.linalg.norm(aim), 6.0)]
