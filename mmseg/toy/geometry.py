"""Parts of a toy street: textured parallelograms in groups, and lights.

World axes: x to the right, y up, z along the street, in metres. The camera starts near z = 0 and looks along +z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

# Label of shadows, which are painted but leave the label beneath.
NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class Surface:
    """A parallelogram ``origin + s*u + t*v``, s and t in [0, 1]; s runs along texture columns, t along rows.

    Attributes:
        origin, u, v: (3,) float64, metres.
        albedo: (h, w, 3) float32 in [0, 1].
        label: train id, 255, or ``NO_LABEL``.
        alpha: (h, w) float32 in [0, 1], opacity; None is opaque.
        label_alpha: (h, w) float32; the label is written where it exceeds 0.5. None uses ``alpha``. Fences are labelled
            across their gaps, as in Cityscapes.
        emission: (h, w, 3) float32 >= 0, emitted radiance; None for none.
        outward: (3,) normal of a face of a closed body, not visible from behind; None is visible from both sides.
        retro: reflection back to the car's own headlights, relative to a matt surface.
        shaded: False if only ``emission`` is visible, as for the sky.
    """

    origin: np.ndarray
    u: np.ndarray
    v: np.ndarray
    albedo: np.ndarray
    label: int
    alpha: np.ndarray | None = None
    label_alpha: np.ndarray | None = None
    emission: np.ndarray | None = None
    outward: np.ndarray | None = None
    retro: float = 1.0
    shaded: bool = True

    @property
    def center(self) -> np.ndarray:
        """(3,) metres."""
        return self.origin + (self.u + self.v) / 2

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit normal of arbitrary sign."""
        (a, b, c), (d, e, f) = self.u.tolist(), self.v.tolist()
        x, y, z = b * f - c * e, c * d - a * f, a * e - b * d
        return np.array([x, y, z]) / math.sqrt(x * x + y * y + z * z)


@dataclass(frozen=True, eq=False)
class Group:
    """Surfaces that move as one body and are painted in order.

    Attributes:
        depth: z in metres, by which groups are sorted, far ones first.
        velocity: m/s along (x, y, z).
    """

    surfaces: list[Surface]
    depth: float
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Light:
    """A lamp. ``intensity`` (3,) is the irradiance at 1 m; ``aim`` is the axis of its lobe, None for all directions."""

    position: np.ndarray
    intensity: np.ndarray
    aim: np.ndarray | None = None
    sharpness: float = 1.0


@dataclass(eq=False)
class Street:
    """A street seen from its camera at time 0.

    Attributes:
        ground: painted first, in order: sky, base plane and strips.
        lots: buildings and gardens at or beyond the building line.
        objects: everything in the street.
        lane: x of the camera.
        walls: x of the building line, left and right.
        heights: per side, (number of metres,) height of the houses from z = ``first_metre``; for shadows.
    """

    ground: list[Surface] = field(default_factory=list)
    lots: list[Group] = field(default_factory=list)
    objects: list[Group] = field(default_factory=list)
    lights: list[Light] = field(default_factory=list)
    lane: float = 1.6
    walls: tuple[float, float] = (-8.0, 8.0)
    heights: tuple[np.ndarray, np.ndarray] = (np.zeros(1), np.zeros(1))
    first_metre: int = -10


def between(a: float, b: float) -> tuple[float, float]:
    """The smaller and the larger of two coordinates."""
    return (a, b) if a <= b else (b, a)


def facing(x0: float, x1: float, y0: float, y1: float, z: float, **rest) -> Surface:
    """Upright rectangle across the street; texture row 0 is its top."""
    return Surface(np.array([x0, y1, z]), np.array([x1 - x0, 0.0, 0.0]), np.array([0.0, y0 - y1, 0.0]), **rest)


def along(x: float, z0: float, z1: float, y0: float, y1: float, **rest) -> Surface:
    """Upright rectangle along the street; texture column 0 is the near end."""
    return Surface(np.array([x, y1, z0]), np.array([0.0, 0.0, z1 - z0]), np.array([0.0, y0 - y1, 0.0]), **rest)


def flat(x0: float, x1: float, z0: float, z1: float, y: float, **rest) -> Surface:
    """Horizontal rectangle; texture row 0 is its far end."""
    return Surface(np.array([x0, y, z1]), np.array([x1 - x0, 0.0, 0.0]), np.array([0.0, 0.0, z0 - z1]), **rest)


def plain(color: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """Uniform texture, (2, 2, 3) float32."""
    return np.broadcast_to(np.asarray(color, np.float32), (2, 2, 3)).copy()
