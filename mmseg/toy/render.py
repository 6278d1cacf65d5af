"""Rendering: surfaces painted from far to near, each by the homography from its texture to the image.

Radiance and label come from the same coverage masks, so they agree to the pixel. The centre of pixel (0, 0) is at
(0, 0), as in OpenCV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from mmseg.toy.geometry import NO_LABEL, Group, Street, Surface
from mmseg.toy.lighting import DayLight, NightLight, bake

NEAR_PLANE = 0.4
# Fractional bits of corners for OpenCV.
SHIFT = 5
# Ratio of the far to the near distance of a piece of a long surface.
PIECE_RATIO = 1.5


@dataclass(frozen=True)
class Camera:
    """Pinhole camera without distortion: size and focal length in pixels; ``horizon`` is its row at zero pitch."""

    width: int
    height: int
    focal: float
    horizon: float

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3), from right, up, forward to homogeneous pixels."""
        return np.array([[self.focal, 0, (self.width - 1) / 2], [0, -self.focal, self.horizon], [0, 0, 1.0]])


@dataclass(frozen=True)
class Pose:
    """Camera position in metres and direction in radians; yaw to the right, pitch upwards."""

    position: tuple[float, float, float]
    yaw: float = 0.0
    pitch: float = 0.0

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3), from world axes to right, up, forward."""
        cy, sy, cp, sp = np.cos(self.yaw), np.sin(self.yaw), np.cos(self.pitch), np.sin(self.pitch)
        yaw = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        return pitch @ yaw


def project(camera: Camera, pose: Pose, points: np.ndarray) -> np.ndarray:
    """World points (..., 3), in metres, -> pixels (..., 2) and depth: (..., 3) of x, y, z."""
    seen = (np.asarray(points, float) - pose.position) @ (camera.matrix @ pose.rotation).T
    return np.concatenate((seen[..., :2] / seen[..., 2:], seen[..., 2:]), axis=-1)


@dataclass(eq=False)
class View:
    """Rendered view of a camera.

    Attributes:
        radiance: (H, W, 3) float32 >= 0, unclipped.
        label: (H, W) uint8 train ids; None if not requested.
    """

    radiance: np.ndarray
    label: np.ndarray | None

    @property
    def train_ids(self) -> np.ndarray:
        """The label map, which must have been requested."""
        if self.label is None:
            raise ValueError("the view was rendered without labels")
        return self.label


@dataclass(frozen=True, eq=False)
class Headlights:
    """The car's own lights: ``power`` (3,) at 1 m in the middle of the beam."""

    power: np.ndarray

    def beam(self, camera: Camera) -> np.ndarray:
        """(H, W) float32: fraction of the power in the direction of each pixel, over (distance / depth)^3."""
        x = (np.arange(camera.width) - (camera.width - 1) / 2)[None] / camera.focal
        y = (camera.horizon - np.arange(camera.height))[:, None] / camera.focal
        wide = np.exp(-((x / 0.42) ** 2))
        # dipped: almost nothing above the horizon
        high = 1 / (1 + np.exp((y + 0.012) / 0.022)) + 0.035 * np.exp(-((y / 0.25) ** 2))
        return (wide * high / (1 + x**2 + y**2) ** 1.5).astype(np.float32)


@dataclass(eq=False)
class _Piece:
    """A surface ready to be painted."""

    surface: Surface
    texture: np.ndarray
    alpha: np.ndarray | None
    label_alpha: np.ndarray | None
    velocity: np.ndarray


def _shrunk(texture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Average a texture down if it is finer than visible."""
    h, w = min(texture.shape[0], max(1, rows)), min(texture.shape[1], max(1, columns))
    if (h, w) == texture.shape[:2]:
        return np.ascontiguousarray(texture)
    return cv2.resize(texture, (w, h), interpolation=cv2.INTER_AREA)


def _texels(surface: Surface, eye: np.ndarray, near: float, focal: float) -> tuple[int, int]:
    """Rows and columns of the texture that a camera at ``eye`` can resolve; ``near`` is the smallest distance."""
    counts = []
    away = max(abs(float(surface.normal @ (surface.center - eye))), 0.3)
    for edge in (surface.v, surface.u):
        length = math.sqrt(float(edge @ edge))
        slant = abs(edge[2]) / length
        # along the line of sight a pixel covers distance / away times as much
        footprint = near / focal * (1 + slant * (max(near / away, 1) - 1))
        counts.append(round(length / footprint) + 1)
    return counts[0], counts[1]


def _pieces(surface: Surface, texture: np.ndarray, eye: np.ndarray, focal: float) -> list[_Piece]:
    """Cut a surface that is long in z into pieces, far ones first, each with its own texture density."""
    z = surface.u[2]
    plain = surface.alpha is None and texture.shape[1] <= 2
    if abs(z) < 2.5 or plain or abs(surface.v[2]) > abs(z):
        near = max(
            0.8, float(np.linalg.norm(surface.center - eye)) - 0.5 * float(np.linalg.norm(surface.u + surface.v))
        )
        counts = _texels(surface, eye, near, focal)
        alpha = None if surface.alpha is None else _shrunk(surface.alpha, *counts)
        return [_Piece(surface, _shrunk(texture, *counts), alpha, surface.label_alpha, np.zeros(3))]
    start, total, pieces = surface.origin[2] - eye[2], texture.shape[1], []
    for k in range(13, -1, -1):
        low, high = (PIECE_RATIO**k if k else -10.0), PIECE_RATIO ** (k + 1)
        # overlap the next nearer piece, so that their soft edges leave no gap
        low = low - 0.05 * abs(low)
        ends = np.clip([(low - start) / z * total, (high - start) / z * total], 0, total)
        first, last = int(np.floor(ends.min())), int(np.ceil(ends.max()))
        if last - first < 1 or ends[0] == ends[1]:
            continue
        part = replace(
            surface, origin=surface.origin + surface.u * (first / total), u=surface.u * ((last - first) / total)
        )
        counts = _texels(part, eye, max(low, 1.0), focal)
        alpha = None
        if surface.alpha is not None:
            alpha = _shrunk(surface.alpha[:, first:last], *counts)
        pieces.append(_Piece(part, _shrunk(texture[:, first:last], *counts), alpha, surface.label_alpha, np.zeros(3)))
    return pieces


class Renderer:
    """Paints a street from poses near the one it was prepared for.

    Args:
        street, light: the scene.
        camera: intrinsics.
        eye: (3,) position that the camera stays within a few metres of.
        headlights: those of the car, or None.
    """

    def __init__(
        self,
        street: Street,
        light: DayLight | NightLight,
        camera: Camera,
        eye: tuple[float, float, float],
        headlights: Headlights | None = None,
    ) -> None:
        self.camera = camera
        self.headlights = headlights
        self._beam = headlights.beam(camera) if headlights else None
        self.pieces: list[_Piece] = []
        at = np.asarray(eye, float)
        for group in _in_order(street):
            velocity = np.asarray(group.velocity, float)
            for surface in group.surfaces:
                for piece in _pieces(surface, bake(surface, light, at), at, camera.focal):
                    piece.velocity = velocity
                    self.pieces.append(piece)
        self._origin, self._u, self._v, self._velocity = (
            np.stack(arrays)
            for arrays in (
                [p.surface.origin for p in self.pieces],
                [p.surface.u for p in self.pieces],
                [p.surface.v for p in self.pieces],
                [p.velocity for p in self.pieces],
            )
        )
        hidden = [np.zeros(3) if p.surface.outward is None else p.surface.outward for p in self.pieces]
        self._outward = np.stack(hidden)
        self._normal = np.stack([p.surface.normal for p in self.pieces])

    def render(self, pose: Pose, time: float, with_label: bool = True) -> View:
        """Render the scene.

        Args:
            pose: of the camera.
            time: in seconds, for moving objects.
            with_label: also render the label map, a sixth of the time.
        """
        camera = self.camera
        canvas = np.zeros((camera.height, camera.width, 4), np.float32)
        label = np.full((camera.height, camera.width), 255, np.uint8) if with_label else None
        inverse_depth = np.zeros((camera.height, camera.width), np.float32) if self.headlights else None
        origin = self._origin + self._velocity * time - np.asarray(pose.position)
        view = camera.matrix @ pose.rotation
        maps = np.stack((self._u, self._v, origin), axis=-1)  # (s, t, 1) -> world, seen from the camera
        projections = view @ maps
        inverses, regular = _inverses(projections)
        middle = origin + (self._u + self._v) / 2
        away = np.abs(np.einsum("ij,ij->i", self._normal, origin)).astype(np.float32)
        facing_us = np.einsum("ij,ij->i", self._outward, middle) <= 0
        for i in np.flatnonzero(facing_us & regular):
            self._paint(self.pieces[i], projections[i], inverses[i], away[i], canvas, label, inverse_depth)
        radiance = np.ascontiguousarray(canvas[..., :3])
        if self.headlights is not None and self._beam is not None and inverse_depth is not None:
            gain = canvas[..., 3] * self._beam * inverse_depth**3
            radiance += gain[..., None] * self.headlights.power.astype(np.float32)
        return View(radiance, label)

    def _paint(
        self,
        piece: _Piece,
        projection: np.ndarray,
        inverse: np.ndarray,
        away: np.float32,
        canvas: np.ndarray,
        label: np.ndarray | None,
        inverse_depth: np.ndarray | None,
    ) -> None:
        outline = _outline(projection)
        if outline is None:
            return
        # two pixels beyond the outline, since its edge is soft
        height, width = canvas.shape[:2]
        left, top = (int(max(0, v)) for v in np.floor(outline.min(0)) - 2)
        right = int(min(width, np.ceil(outline[:, 0].max()) + 3))
        bottom = int(min(height, np.ceil(outline[:, 1].max()) + 3))
        if left >= right or top >= bottom:
            return
        region = np.s_[top:bottom, left:right]
        to_surface = inverse @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]])
        shape = (right - left, bottom - top)
        solid = np.zeros(shape[::-1], np.uint8)
        corners = np.rint((outline.clip(-3e4, 3e4) - (left, top)) * (1 << SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(solid, corners, 255, cv2.LINE_AA, SHIFT)
        weight = solid.astype(np.float32) * np.float32(1 / 255)
        if piece.alpha is not None:
            weight *= _warp(piece.alpha, to_surface, shape)
        colors = _warp(piece.texture, to_surface, shape)
        if inverse_depth is not None:
            colors[..., 3] *= away
        target = canvas[region]
        target[...] = cv2.blendLinear(colors, target, weight, 1 - weight)
        if inverse_depth is not None:
            a, b, c = to_surface[2].astype(np.float32)
            plane = a * np.arange(shape[0], dtype=np.float32)[None] + (
                b * np.arange(shape[1], dtype=np.float32)[:, None] + c
            )
            # soft edges reach slightly beyond a surface's horizon, where depth becomes negative
            np.copyto(inverse_depth[region], np.maximum(plane, 0), where=weight > 0.5)
        if label is not None and piece.surface.label != NO_LABEL:
            if piece.label_alpha is not None:
                weight = solid * _warp(piece.label_alpha, to_surface, shape) * np.float32(1 / 255)
            np.copyto(label[region], np.uint8(piece.surface.label), where=weight > 0.5)


def _in_order(street: Street) -> list[Group]:
    """Groups from far to near: the ground, then lots beyond the building line, then the street."""
    ground = Group(street.ground, 0.0)
    return [
        ground,
        *sorted(street.lots, key=lambda group: -group.depth),
        *sorted(street.objects, key=lambda group: -group.depth),
    ]


def _inverses(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverses of (N, 3, 3), and which of them exist: a surface seen exactly edge-on has none."""
    a, b, c = np.moveaxis(matrices, -1, 0)
    rows = np.stack((np.cross(b, c), np.cross(c, a), np.cross(a, b)), axis=1)
    determinant = np.einsum("ij,ij->i", a, rows[:, 0])
    regular = np.abs(determinant) > 1e-9
    return rows / np.where(regular, determinant, 1)[:, None, None], regular


def _outline(projection: np.ndarray) -> np.ndarray | None:
    """Corners (N, 2) in pixels of the part of a surface beyond the near plane; None if there is none."""
    corners = projection @ np.array([[0, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1.0]])
    depth = corners[2]
    if depth.max() <= NEAR_PLANE:
        return None
    if depth.min() < NEAR_PLANE:
        clipped = []
        for i in range(4):
            a, b = corners[:, i], corners[:, (i + 1) % 4]
            if a[2] >= NEAR_PLANE:
                clipped.append(a)
            if (a[2] < NEAR_PLANE) != (b[2] < NEAR_PLANE):
                clipped.append(a + (b - a) * (NEAR_PLANE - a[2]) / (b[2] - a[2]))
        corners = np.stack(clipped, axis=1)
    return (corners[:2] / corners[2]).T


def _warp(texture: np.ndarray, to_surface: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Sample a texture at the pixels of a region of ``shape`` (width, height); float32."""
    h, w = texture.shape[:2]
    to_texels = np.array([[w, 0, -0.5], [0, h, -0.5], [0, 0, 1.0]]) @ to_surface
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    picture = cv2.warpPerspective(texture, to_texels, shape, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    ends = to_surface[2] @ np.array([[0, shape[0], 0, shape[0]], [0, 0, shape[1], shape[1]], [1, 1, 1, 1.0]])
    if ends.min() <= 0:
        # the margin touches the surface's horizon, where positions are infinite and the weight is 0
        cv2.patchNaNs(picture, 0.0)
        np.clip(picture, -1e6, 1e6, out=picture)
    return picture
