"""Procedural textures, functions of metres on the surface, so that they stick to it as the camera moves."""

from __future__ import annotations

import functools

import cv2
import numpy as np

TILE = 512
Palette = tuple[tuple[float, float, float], ...]


@functools.cache
def _tile() -> np.ndarray:
    """(TILE, TILE) float32 seamless fractal noise of zero mean and unit deviation."""
    rng = np.random.default_rng(20230713)
    total = np.zeros((TILE, TILE), np.float32)
    for cells in (8, 16, 32, 64, 128, 256, 512):
        values = rng.standard_normal((cells, cells)).astype(np.float32)
        padded = np.pad(values, 2, mode="wrap")
        step = TILE // cells
        grown = cv2.resize(padded, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
        total += grown[2 * step : 2 * step + TILE, 2 * step : 2 * step + TILE] * cells**-0.45
    return (total - total.mean()) / total.std()


def noise(rng: np.random.Generator, height: int, width: int, scale: float = 1.0) -> np.ndarray:
    """(height, width) float32 noise of about unit deviation; ``scale`` > 1 makes it finer."""
    rows = (rng.integers(TILE) + np.arange(height) * scale).astype(np.int64) % TILE
    columns = (rng.integers(TILE) + np.arange(width) * scale).astype(np.int64) % TILE
    return _tile()[np.ix_(rows, columns)]


def size(length: float, texel: float) -> int:
    """Texels along a length."""
    return max(2, round(length / texel))


def metres(width: float, height: float, texel: float) -> tuple[np.ndarray, np.ndarray]:
    """Centres of texels: x (1, w) from the left edge and y (h, 1) from the bottom, texture row 0 on top."""
    w, h = size(width, texel), size(height, texel)
    x = ((np.arange(w, dtype=np.float32) + 0.5) * np.float32(width / w))[None]
    y = ((np.arange(h, dtype=np.float32)[::-1] + 0.5) * np.float32(height / h))[:, None]
    return x, y


def tinted(shade: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Grey shade (h, w) times a colour (3,), clipped to [0.01, 1]."""
    return np.clip(shade[..., None] * np.asarray(color, np.float32), 0.01, 1).astype(np.float32)


def mixed(texture: np.ndarray, mask: np.ndarray, color: np.ndarray) -> None:
    """Blend a colour (3,) or a texture into a texture, in place, by a mask (h, w), bool or in [0, 1]."""
    if mask.dtype == bool:
        np.copyto(texture, np.asarray(color, np.float32), where=mask[..., None])
        return
    weight = np.broadcast_to(mask, texture.shape[:2])[..., None].astype(np.float32)
    texture += (np.asarray(color, np.float32) - texture) * weight


# --------------------------------------------------------------------------------------------------- houses

PLASTER: Palette = (
    (0.55, 0.50, 0.42),
    (0.62, 0.58, 0.52),
    (0.50, 0.36, 0.28),
    (0.45, 0.45, 0.46),
    (0.60, 0.47, 0.30),
)
PLASTER += ((0.38, 0.26, 0.22), (0.52, 0.55, 0.57), (0.66, 0.62, 0.50), (0.40, 0.42, 0.36))
WINDOW_LIGHT = ((1.0, 0.72, 0.38), (1.0, 0.82, 0.55), (0.85, 0.92, 1.0), (1.0, 0.60, 0.25))


def _bricks(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(h, w) shade of brickwork or panels, large enough to be visible in a small image."""
    course, length = (0.24, 0.6) if rng.random() < 0.6 else (1.5, 3.0)
    row = np.floor(y / course).astype(np.int64)
    column = np.floor(x / length + 0.5 * (row % 2)).astype(np.int64)
    table = rng.uniform(0.82, 1.12, (16, 16)).astype(np.float32)
    return table[row % 16, column % 16]


def facade(
    rng: np.random.Generator, width: float, height: float, texel: float, lit: float, shop: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Front of a house with floors of windows.

    Args:
        width, height, texel: metres.
        lit: fraction of lit windows.
        shop: large panes on the ground floor.

    Returns:
        albedo and emission, both (h, w, 3) float32.
    """
    x, y = metres(width, height, texel)
    h, w = y.shape[0], x.shape[1]
    base = np.array(PLASTER[rng.integers(len(PLASTER))]) * rng.uniform(0.7, 1.15) + rng.normal(0, 0.02, 3)
    shade = 1 + 0.06 * noise(rng, h, w, max(0.2, texel * 4))
    if rng.random() < 0.5:
        shade = shade * _bricks(rng, x, y)
    shade = shade * (1 - 0.25 * np.exp(-y / 0.8))  # splashed plinth
    albedo, emission = tinted(shade, base), np.zeros((h, w, 3), np.float32)

    floor, bay = rng.uniform(2.8, 3.4), rng.uniform(1.9, 3.3)
    bay = width / max(1, round(width / bay))
    pane_w, pane_h = bay * rng.uniform(0.38, 0.62), floor * rng.uniform(0.42, 0.6)
    level, column = np.floor(y / floor).astype(np.int64), np.floor(x / bay).astype(np.int64)
    from_x, from_y = np.abs(x - (column + 0.5) * bay), np.abs(y - (level + 0.52) * floor)
    complete = ((level + 1) * floor < height + 0.3) & (level >= (1 if shop else 0))
    frame = (from_x < pane_w / 2 + 0.12) & (from_y < pane_h / 2 + 0.12) & complete
    pane = (from_x < pane_w / 2) & (from_y < pane_h / 2) & complete
    bar = (from_x < 0.05) & (rng.random() < 0.6)
    band = (np.abs(y - (level + 0.02) * floor) < 0.12) & (rng.random() < 0.7)
    mixed(albedo, np.broadcast_to(band, (h, w)), np.clip(base * 1.25, 0, 0.9))
    mixed(albedo, frame, rng.uniform(0.25, 0.8) * np.ones(3))
    _fill_panes(rng, albedo, emission, pane & ~bar, level, column, lit)
    if shop:
        _shop(rng, albedo, emission, x, y, floor, lit)
    mixed(albedo, y > height - 0.35, np.clip(base * rng.uniform(0.5, 1.4), 0.02, 0.9))
    return albedo, emission


def _fill_panes(
    rng: np.random.Generator,
    albedo: np.ndarray,
    emission: np.ndarray,
    pane: np.ndarray,
    level: np.ndarray,
    column: np.ndarray,
    lit: float,
) -> None:
    """Glass of every window: dark with a tint of the sky, or lit from inside."""
    shape = (int(level.max()) + 1, int(column.max()) + 1)
    glass = (rng.uniform(0.03, 0.22, shape)[..., None] * np.array([0.8, 0.95, 1.1])).astype(np.float32)
    tone = np.array(WINDOW_LIGHT, np.float32)[rng.integers(len(WINDOW_LIGHT), size=shape)]
    power = (rng.random(shape) < lit) * rng.lognormal(-1.6, 0.8, shape)
    rows, columns = np.nonzero(pane)
    window = level[rows, 0], column[0, columns]
    albedo[rows, columns] = glass[window]
    if power.any():
        light = (tone * power[..., None].astype(np.float32))[window]
        emission[rows, columns] = light * (0.75 + 0.2 * noise(rng, *pane.shape)[rows, columns])[:, None].clip(0.3)


def _shop(
    rng: np.random.Generator,
    albedo: np.ndarray,
    emission: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    floor: float,
    lit: float,
) -> None:
    """Shop windows, doors and a name board on the ground floor."""
    bay = rng.uniform(3.0, 5.0)
    index = np.floor(x / bay).astype(np.int64)
    inside = np.abs(x - (index + 0.5) * bay)
    pane = (inside < bay * 0.42) & (y > 0.5) & (y < floor * 0.72)
    board = (inside < bay * 0.46) & (y > floor * 0.78) & (y < floor * 0.97)
    count = int(index.max()) + 1
    colors = rng.uniform(0.05, 0.8, (count, 3)).astype(np.float32)
    mixed(albedo, pane, np.array([0.08, 0.09, 0.10]))
    mixed(albedo, board, colors[index[0]][None])
    glow = (rng.random(count) < 2 * lit)[index[0]][None, :, None]
    if not glow.any():
        return
    goods = (0.7 + 0.4 * noise(rng, y.shape[0], x.shape[1], 1.5))[..., None].clip(0.1)
    tone = np.array(WINDOW_LIGHT[rng.integers(3)], np.float32)
    emission += pane[..., None] * glow * goods * tone * rng.uniform(0.25, 0.8)
    emission += board[..., None] * glow * colors[index[0]][None] * 0.4


# --------------------------------------------------------------------------------------------------- ground


def asphalt(
    rng: np.random.Generator, x: np.ndarray, z: np.ndarray, lanes: list[tuple[float, bool]], look: np.ndarray
) -> np.ndarray:
    """Road surface with lane markings and repairs.

    Args:
        rng: for the grain.
        x: (1, w), z: (h, 1) metres in the world.
        lanes: x of every marking, and whether it is dashed.
        look: (6,) in [0, 1], the same for all pieces of a road: position of repairs, and darkness.
    """
    h, w = z.shape[0], x.shape[1]
    a, b, c, d, many, shade = look
    # tyre streaks run along the whole street
    streaks = 1 + 0.07 * np.sin(x * (3 + 2 * a) + 6 * b) + 0.04 * np.sin(x * 9.1 + 6 * c)
    waves = np.sin(z * (0.2 + 0.3 * c) + 6 * a) * np.sin(x * (0.8 + b) + 6 * d + 0.8 * np.sin(z * 0.11 + 6 * c))
    patches = (waves > 0.7 + 0.5 * many) * -0.22
    color = np.array([0.125, 0.125, 0.13]) * (0.75 + 0.55 * shade)
    texture = tinted((streaks + patches + 0.07 * noise(rng, h, w)).astype(np.float32), color)
    for position, dashed in lanes:
        mark = np.abs(x - position) < 0.09
        if dashed:
            mark = mark & (np.mod(z, 7.0) < 3.5)
        mixed(texture, np.broadcast_to(mark, (h, w)) * np.float32(0.85), np.array([0.62, 0.62, 0.6]))
    return texture


def zebra(texture: np.ndarray, x: np.ndarray, z: np.ndarray, start: float, half_road: float) -> None:
    """Paint a pedestrian crossing onto a road texture, 3.5 m deep from ``start``."""
    bars = (np.mod(x, 1.1) < 0.55) & (z > start) & (z < start + 3.5) & (np.abs(x) < half_road - 0.3)
    mixed(texture, bars * np.float32(0.85), np.array([0.62, 0.62, 0.6]))


def pavement(rng: np.random.Generator, x: np.ndarray, z: np.ndarray, tile: float, color: np.ndarray) -> np.ndarray:
    """Slabs with joints; x (1, w), z (h, 1) metres in the world."""
    column, row = np.floor(x / tile).astype(np.int64), np.floor(z / tile).astype(np.int64)
    table = np.random.default_rng(7).uniform(0.88, 1.1, (32, 32)).astype(np.float32)
    joint = (np.mod(x, tile) < 0.05) | (np.mod(z, tile) < 0.05)
    shade = table[row % 32, column % 32] + 0.05 * noise(rng, z.shape[0], x.shape[1]) - 0.3 * joint
    return tinted(shade, color)


def grass(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Lawn with worn patches."""
    shade = 1 + 0.25 * noise(rng, height, width, 2.0)
    texture = tinted(shade, np.array([0.16, 0.22, 0.07]))
    worn = np.clip(noise(rng, height, width, 0.7) - 0.9, 0, 1)
    mixed(texture, worn, np.array([0.28, 0.23, 0.15]))
    return texture


def leaves(rng: np.random.Generator, height: int, width: int, fine: float = 2.0) -> np.ndarray:
    """Foliage, lighter at the top."""
    shade = 1 + 0.38 * noise(rng, height, width, fine)
    shade = shade * np.linspace(1.25, 0.7, height, dtype=np.float32)[:, None]
    green = np.array([0.13, 0.22, 0.06]) * rng.uniform(0.7, 1.3) * np.array([rng.uniform(0.8, 1.5), 1, 1])
    return tinted(shade, green)


def masonry(rng: np.random.Generator, width: float, height: float, texel: float) -> np.ndarray:
    """Garden wall: stone or concrete."""
    x, y = metres(width, height, texel)
    shade = _bricks(rng, x, y) * (1 + 0.12 * noise(rng, y.shape[0], x.shape[1], 1.5))
    color = np.array(((0.42, 0.40, 0.37), (0.36, 0.22, 0.17), (0.48, 0.46, 0.40))[rng.integers(3)])
    texture = tinted(shade, color)
    mixed(texture, y > height - 0.15, color * 1.3)
    return texture


def sky(rng: np.random.Generator, night: bool) -> np.ndarray:
    """(128, 256, 3) float32 radiance from the horizon (last row) upwards; at night, the glow of the city.

    In night images of real cities the sky is about as bright as the houses.
    """
    up = np.linspace(1, 0, 128, dtype=np.float32)[:, None, None]
    if night:
        lit = rng.uniform(0.6, 1.5)
        glow, zenith = np.array([0.010, 0.0075, 0.0055]) * lit, np.array([0.0034, 0.0031, 0.0032]) * lit
        return (zenith + (glow - zenith) * np.exp(-up * 5)).astype(np.float32) * np.ones((1, 256, 1), np.float32)
    overcast = rng.random()
    blue = np.array([0.32, 0.52, 0.95]) * (1 - overcast) + 0.75 * overcast
    base = blue + (np.array([0.85, 0.9, 0.98]) - blue) * np.exp(-up * 3)
    cover = noise(rng, 128, 256, 0.5) * 0.7 + noise(rng, 128, 256, 1.0) * 0.3
    cloud = np.clip(cover - 1 + 1.4 * overcast, 0, 1)[..., None]
    return (0.8 * np.clip(base + (np.array([0.98, 0.97, 0.96]) - base) * cloud, 0, 1.2)).astype(np.float32)
