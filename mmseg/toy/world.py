"""Layout of a toy street. All sizes are in metres, drawn from a generator."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from mmseg.toy import objects as build
from mmseg.toy.cars import car
from mmseg.toy.geometry import Group, Street, Surface, along, between, facing, flat, plain
from mmseg.toy.objects import ID
from mmseg.toy.textures import asphalt, facade, grass, leaves, noise, pavement, size, sky, tinted, zebra

NEAR, FAR = -4.0, 130.0
KERB = 0.12
# Depths at which long surfaces are cut, so that each piece has one texture density.
CUTS = tuple(2.0 * 1.5**k for k in range(11))


@dataclass(frozen=True)
class Strip:
    """A band of ground along the street, from ``inner`` to ``outer`` metres from its middle."""

    kind: str
    inner: float
    outer: float


@dataclass(frozen=True)
class Plan:
    """Cross-section of a street; the right side is index 1."""

    half_road: float
    parking: tuple[bool, bool]
    sides: tuple[tuple[Strip, ...], tuple[Strip, ...]]
    crossing: float

    def wall(self, side: int) -> float:
        """Distance of the building line from the middle."""
        return self.sides[side][-1].outer


def _plan(rng: np.random.Generator) -> Plan:
    parking = (bool(rng.random() < 0.5), bool(rng.random() < 0.5))
    half = 3.2 * rng.integers(1, 3) + rng.uniform(0, 0.6) + 2.2 * max(parking)
    sides = []
    for _ in range(2):
        kinds = [("sidewalk", rng.uniform(1.8, 4.0))]
        if rng.random() < 0.6:
            kinds.insert(rng.integers(2), ("terrain", rng.uniform(1.4, 3.4)))
        strips, at = [], float(half)
        for kind, width in kinds:
            strips.append(Strip(kind, at, at + width))
            at += width
        sides.append(tuple(strips))
    return Plan(float(half), parking, (sides[0], sides[1]), float(rng.uniform(9, 40)))


def build_street(rng: np.random.Generator, night: bool, focal: float) -> Street:
    """Build a street.

    Args:
        rng: source of all random choices.
        night: turn on lamps, windows and car lights.
        focal: focal length of the camera in pixels; textures are only as fine as it can resolve.
    """
    plan = _plan(rng)
    street = Street(lane=1.6 + float(rng.uniform(-0.25, 0.25)), walls=(-plan.wall(0), plan.wall(1)))
    street.ground = _ground(rng, plan, night, focal)
    heights = []
    for side in (0, 1):
        profile = np.zeros(int(FAR) + 60, np.float32)
        street.lots += _lots(rng, plan, side, night, focal, profile)
        heights.append(profile)
    street.heights = (heights[0], heights[1])
    street.lots.append(_skyline(rng, night, focal))
    _furnish(rng, plan, street, night, focal)
    _populate(rng, plan, street, night, focal)
    return street


# --------------------------------------------------------------------------------------------------- ground


def _coordinates(x0: float, x1: float, z0: float, z1: float, focal: float) -> tuple[np.ndarray, np.ndarray]:
    """World x (1, w) and z (h, 1) of the texels of a piece of ground, as fine as the camera can resolve."""
    near = max(z0, 2.5)
    w = size(x1 - x0, max(0.035, 0.5 * near / focal))
    h = size(z1 - z0, max(0.035, 0.25 * near**2 / (focal * 1.5)))
    x = x0 + (np.arange(w) + 0.5) * (x1 - x0) / w
    z = z1 - (np.arange(h) + 0.5) * (z1 - z0) / h
    return x[None], z[:, None]


def _ground(rng: np.random.Generator, plan: Plan, night: bool, focal: float) -> list[Surface]:
    backdrop = facing(-6000, 6000, -40, 4000, 4000, albedo=plain((0, 0, 0)), emission=sky(rng, night),
                      label=ID["sky"], shaded=False)  # fmt: skip
    surfaces = [backdrop, flat(-300, 300, NEAR, 400, -0.02, albedo=plain((0.12, 0.15, 0.07)), label=ID["terrain"])]
    lanes = [(0.0, rng.random() < 0.7)]
    edge = plan.half_road - 2.2
    lanes += [(side * edge, False) for side, parked in zip((-1, 1), plan.parking, strict=True) if parked]
    if edge > 5:
        lanes += [(3.2, True), (-3.2, True)]
    look = rng.random(6)
    slab, stone = rng.uniform(0.5, 1.1), np.array([0.30, 0.29, 0.27]) * rng.uniform(0.7, 1.3)
    bounds = (NEAR, *CUTS, FAR + 60)
    for z0, z1 in reversed(list(itertools.pairwise(bounds))):
        # extend each piece under the next nearer one, so that their soft edges leave no gap
        z0 = max(NEAR, z0 - 0.06 * abs(z0) - 0.1)
        for side, sign in ((0, -1), (1, 1)):
            for strip in plan.sides[side]:
                surfaces += _strip(rng, strip, sign, (z0, z1), (slab, stone), focal)
        x, z = _coordinates(-plan.half_road - 0.05, plan.half_road + 0.05, z0, z1, focal)
        road = asphalt(rng, x, z, lanes, look)
        if plan.crossing < 28:
            zebra(road, x, z, plan.crossing, plan.half_road)
        half = plan.half_road + 0.05
        surfaces.append(flat(-half, half, z0, z1, 0.0, albedo=road, label=ID["road"]))
    kerb = plain((0.36, 0.35, 0.33))
    for edge_x in (-plan.half_road, plan.half_road):
        surfaces.append(along(edge_x, NEAR, FAR + 60, 0, KERB, albedo=kerb, label=ID["sidewalk"]))
    return surfaces


def _strip(
    rng: np.random.Generator,
    strip: Strip,
    sign: int,
    depths: tuple[float, float],
    paving: tuple[float, np.ndarray],
    focal: float,
) -> list[Surface]:
    x0, x1 = sorted((sign * (strip.inner - 0.04), sign * (strip.outer + 0.1)))
    x, z = _coordinates(x0, x1, *depths, focal)
    if strip.kind == "sidewalk":
        albedo, label = pavement(rng, x, z, *paving), "sidewalk"
    else:
        albedo, label = grass(rng, z.shape[0], x.shape[1]), "terrain"
    return [flat(x0, x1, *depths, KERB, albedo=albedo, label=ID[label])]


# ------------------------------------------------------------------------------------------- building line


def _lots(
    rng: np.random.Generator, plan: Plan, side: int, night: bool, focal: float, profile: np.ndarray
) -> list[Group]:
    """Houses, and gardens between them; the heights of the houses are written into ``profile``."""
    x, inward = (-1, 1)[side] * plan.wall(side), (1, -1)[side]
    z, groups, dense = NEAR + rng.uniform(-8, 0), [], rng.uniform(0.5, 0.9)
    garden_due = rng.random() < 0.55  # one near enough to be clearly visible
    while z < FAR:
        texel = max(0.06, 0.5 * max(z, 6) / focal)
        if rng.random() < dense and not (garden_due and 9 < z < 26):
            length, height = rng.uniform(9, 22), rng.uniform(6, 20)
            groups.append(_house(rng, x, inward, (z, z + length), height, night, texel))
            profile[max(0, int(z) + 10) : max(0, int(z + length) + 10)] = height
        else:
            length, garden_due = rng.uniform(8, 20), garden_due and z <= 9
            groups += _garden(rng, x, inward, (z, z + length), night, texel)
        z += length
    return groups


def _house(
    rng: np.random.Generator,
    x: float,
    inward: int,
    depths: tuple[float, float],
    height: float,
    night: bool,
    texel: float,
) -> Group:
    z0, z1 = depths
    lit, shop = (rng.uniform(0.08, 0.4) if night else 0.0), bool(rng.random() < 0.35)
    front, front_light = facade(rng, z1 - z0, height, texel, lit, shop)
    color = np.median(front, axis=(0, 1))
    depth = 12.0
    pixels = (size(height, texel * 2), size(depth, texel * 2))
    end = tinted(1 + 0.08 * noise(rng, *pixels), color * rng.uniform(0.8, 1.05))
    back = between(x, x - inward * depth)
    surfaces = [facing(*back, 0, height, z0, albedo=end, label=ID["building"])]
    if rng.random() < 0.55:
        rise, run = rng.uniform(1.8, 3.5), rng.uniform(2.5, 4.5)
        tiles = np.array(((0.26, 0.12, 0.08), (0.12, 0.12, 0.13), (0.2, 0.15, 0.11))[rng.integers(3)])
        rows = np.arange(size(rise * 2, texel))[:, None]
        shade = (0.85 + 0.2 * (rows % 3 == 0)) * (1 + 0.12 * noise(rng, len(rows), size(z1 - z0, texel)))
        eaves = np.array([x + inward * 0.25, height - 0.05, z0 - 0.1])
        slope = np.array([-inward * run, rise, 0.0])
        roof = Surface(eaves + slope, np.array([0, 0, z1 - z0 + 0.4]), -slope, tinted(shade, tiles), ID["building"])
        ramp = np.clip((np.linspace(0, 1, 32)[None] - np.linspace(1, 0, 32)[:, None]) * 32 + 0.5, 0, 1)
        ramp = (ramp[:, ::-1] if inward > 0 else ramp).astype(np.float32)
        gable = between(x, x - inward * run)
        surfaces.append(facing(*gable, height, height + rise, z0, albedo=end, alpha=ramp, label=ID["building"]))
        surfaces.append(roof)
    # the far end reaches behind the next house, whose soft edge would show the sky
    surfaces.append(along(x, z0, z1 + 0.4, 0, height, albedo=front, emission=front_light, label=ID["building"]))
    return Group(surfaces, z0)


def _garden(
    rng: np.random.Generator, x: float, inward: int, depths: tuple[float, float], night: bool, texel: float
) -> list[Group]:
    """A gap: a house at the back, trees, and a hedge, wall or fence along the pavement."""
    (z0, z1), surfaces = depths, []
    if rng.random() < 0.7:
        back, height = x - inward * rng.uniform(11, 16), rng.uniform(5, 14)
        look, glow = facade(rng, z1 - z0 + 14, height, texel * 2, 0.15 if night else 0.0, False)
        surfaces.append(along(back, z0 - 6, z1 + 8, 0, height, albedo=look, emission=glow, label=ID["building"]))
    for _ in range(rng.integers(1, 4)):
        at = x - inward * rng.uniform(2.5, 8), rng.uniform(z0 + 1, z1 - 1)
        surfaces += build.tree(rng, *at, 0.0, texel).surfaces
    kind = rng.integers(3)
    if kind == 0:
        surfaces += build.hedge(rng, x, z0, z1, inward, texel)
    elif kind == 1:
        surfaces += build.wall(rng, x, z0, z1, inward, texel)
    else:
        surfaces += build.fence(rng, x, z0, z1, texel)
    return [Group(surfaces, z0)]


def _skyline(rng: np.random.Generator, night: bool, focal: float) -> Group:
    """The far end of the street: rows of houses or trees."""
    surfaces, texel = [], 0.5 * FAR / focal
    for z in (FAR + 45, FAR + 20):
        x = -90.0
        while x < 90:
            width, height = rng.uniform(10, 24), rng.uniform(7, 24)
            if rng.random() < 0.75:
                look, glow = facade(rng, width, height, texel, 0.25 if night else 0.0, False)
                surfaces.append(
                    facing(x, x + width + 0.3, 0, height, z, albedo=look, emission=glow, label=ID["building"])
                )
            else:
                pixels = (size(height * 0.5, texel), size(width, texel))
                look = leaves(rng, *pixels, 4)
                edge = np.linspace(1, 0, pixels[0])[:, None] + 0.12 * noise(rng, *pixels, 3)
                alpha = np.clip((0.8 - edge) * 8, 0, 1).astype(np.float32)
                surfaces.append(
                    facing(x - 1, x + width + 1, 0, height * 0.5, z, albedo=look, alpha=alpha, label=ID["vegetation"])
                )
            x += width
    return Group(surfaces, FAR + 20)


# ---------------------------------------------------------------------------------------- street furniture


def _furnish(rng: np.random.Generator, plan: Plan, street: Street, night: bool, focal: float) -> None:
    """Lamps, trees, signs, traffic lights and posts on the pavements."""
    gap, color = rng.uniform(17, 26), np.array(build.LAMP_COLORS[rng.integers(len(build.LAMP_COLORS))])
    for side, sign in ((0, -1), (1, 1)):
        kerb, wall = plan.half_road, plan.wall(side)
        if side == 0 or rng.random() < 0.7:
            for z in np.arange(rng.uniform(2, gap), 110, gap):
                group, lights = build.lamp(rng, sign * (kerb + 0.5), z, KERB, -sign * 1.8, night, color)
                street.objects.append(group)
                street.lights += lights
        if rng.random() < 0.6:
            step, terrain = rng.uniform(8, 15), [s for s in plan.sides[side] if s.kind == "terrain"]
            inner, outer = (terrain[0].inner, terrain[0].outer) if terrain else (kerb, kerb + 1.8)
            for z in np.arange(rng.uniform(6, 6 + step), 100, step):
                texel = 0.7 * z / focal
                street.objects.append(build.tree(rng, sign * (inner + outer) / 2, z, KERB, texel))
        for z in _spots(rng, int(rng.integers(1, 4)), 8, 45):
            street.objects.append(build.sign(rng, sign * (kerb + rng.uniform(0.35, 0.8)), z, KERB))
        if rng.random() < 0.35:
            for z in np.arange(rng.uniform(4, 9), 40, rng.uniform(2, 4)):
                post = build.pole(sign * (kerb + 0.3), z, KERB, KERB + 1.0, 0.07)
                street.objects.append(Group([post], z))
        if rng.random() < 0.75:
            arm = -sign * rng.uniform(2.5, 4) if rng.random() < 0.5 else 0.0
            z = plan.crossing + 3.8 if plan.crossing < 28 else rng.uniform(10, 24)
            x = sign * min(kerb + 0.45, wall - 0.2)
            street.objects.append(build.traffic_light(rng, x, z, KERB, arm, night)[0])


def _spots(rng: np.random.Generator, count: int, low: float, high: float) -> list[float]:
    """Random depths, more near than far, since far objects fill few pixels."""
    return [float(low + (high - low) * value**1.6) for value in rng.random(count)]


# ------------------------------------------------------------------------------------------------- traffic


def _populate(rng: np.random.Generator, plan: Plan, street: Street, night: bool, focal: float) -> None:
    """People, bicycles and cars."""
    for side, sign in ((0, -1), (1, 1)):
        walk = next(s for s in plan.sides[side] if s.kind == "sidewalk")
        for z in _spots(rng, int(rng.integers(2, 6)), 7, 45):
            x = sign * rng.uniform(walk.inner + 0.5, walk.outer - 0.4)
            figure = build.person(rng, x, z, KERB, 0.6 * z / focal)
            street.objects.append(Group([figure], z, (0.0, 0.0, rng.choice([-1.3, 0, 1.3]))))
        for z in _spots(rng, int(rng.integers(0, 3)), 8, 30):
            x = sign * (walk.outer - 0.6) if rng.random() < 0.5 else sign * (walk.inner + 0.8)
            street.objects.append(Group([build.bicycle(rng, x, z, KERB, rng.uniform(0.5, 1.0))], z))
        if plan.parking[side] or rng.random() < 0.3:
            at, x = rng.uniform(4, 9), sign * (plan.half_road - 1.1)
            if abs(x - street.lane) < 2.4:
                continue
            while at < 90:
                if rng.random() < 0.65:
                    street.objects.append(car(rng, x, at, sign, 0.0, lit=False)[0])
                at += rng.uniform(5.6, 7.5)
    _traffic(rng, plan, street, night, focal)


def _traffic(rng: np.random.Generator, plan: Plan, street: Street, night: bool, focal: float) -> None:
    """Moving road users. Speeds are close to the camera's, 8 to 13 m/s."""
    moving = []
    if rng.random() < 0.6:
        moving.append((street.lane + rng.uniform(-0.2, 0.2), rng.uniform(9, 32), 1, rng.uniform(7, 12)))
    for z in _spots(rng, int(rng.integers(0, 3)), 12, 70):
        moving.append((-1.7 + rng.uniform(-0.2, 0.2), z, -1, -rng.uniform(7, 12)))
    for x, z, heading, speed in moving:
        group, lights = car(rng, x, z, heading, speed, lit=night)
        street.objects.append(group)
        street.lights += lights
    if rng.random() < 0.6:
        z = rng.uniform(8, 22)
        x = min(plan.half_road - (2.6 if plan.parking[1] else 0.6), street.lane + 2.4)
        street.objects.append(build.rider(rng, x, z, 0.0, 0.6 * z / focal, rng.uniform(3, 6)))
    if rng.random() < 0.3:
        z = rng.uniform(11, 22)
        figure = build.person(rng, rng.uniform(-plan.half_road + 1, plan.half_road - 1), z, 0.0, 0.6 * z / focal)
        street.objects.append(Group([figure], z, (1.3, 0.0, 0.0)))
