"""Images of DSEC's frame camera seen from the rectified event camera: the geometry behind ``warp_images``.

Conventions of the calibration file (Gehrig et al., "DSEC: A Stereo Event Camera Dataset for Driving Scenarios",
RA-L 2021): camera 0 is the left event camera, 1 the left frame camera; ``T_10`` maps a point from camera 0 to camera
1; ``R_rect<n>`` maps it from camera n to its rectified frame; ``camera_matrix`` is [fx, fy, cx, cy].

A point X of the rectified event camera is ``R X + t`` in the rectified frame camera, with
``R = R_rect1 R_10 R_rect0^T`` and ``t = R_rect1 t_10``. At a distance t hardly matters (DSEC's 4.4 cm are 2.6 pixels of
the event camera at 10 m, 0.5 at 50 m), so a rotation alone aligns a street well; with a disparity map, t is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from mmseg.config.dotted import get_key
from mmseg.errors import DataError
from mmseg.io.files import read_text
from mmseg.io.image_files import decode, stored_samples

INTERPOLATIONS = ("nearest", "bilinear", "area")
# "area" averages this many bilinear samples per pixel in each direction; a pixel covers two by two of the frame camera.
AREA_SAMPLES = 4
_ORTHONORMAL = 1e-3


@dataclass(frozen=True, eq=False)
class Calibration:
    """Parts of a ``cam_to_cam.yaml`` that the warp needs.

    Attributes:
        event_matrix, frame_matrix: (3, 3) float64, intrinsics of the rectified cameras, in pixels.
        rotation: (3, 3), from the rectified event camera to the rectified frame camera.
        translation: (3,), between the same frames, in metres.
        event_size, frame_size: (width, height).
        disparity_to_point: (4, 4), maps (x, y, disparity, 1) of the event camera to a homogeneous point in metres;
            None if the file has no ``disparity_to_depth.cams_03``.
    """

    event_matrix: np.ndarray
    frame_matrix: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    event_size: tuple[int, int]
    frame_size: tuple[int, int]
    disparity_to_point: np.ndarray | None


def read_calibration(path: str | Path) -> Calibration:
    """Read a DSEC ``cam_to_cam.yaml``.

    Raises:
        DataError: the file is missing or not YAML, or a value is missing or invalid.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(read_text(path))
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist: extract the calibration of the sequence, or give --calibration"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not readable YAML ({reason}): extract the calibration again") from None
    content = content if isinstance(content, Mapping) else {}
    transform = _matrix(content, "extrinsics.T_10", (4, 4), path)
    from_event, from_frame = (_rotation(content, f"extrinsics.R_rect{n}", path) for n in (0, 1))
    between = _check_rotation(transform[:3, :3], "extrinsics.T_10", path)
    disparity = get_key(content, "disparity_to_depth.cams_03")
    return Calibration(
        event_matrix=_intrinsics(content, "camRect0", path),
        frame_matrix=_intrinsics(content, "camRect1", path),
        rotation=from_frame @ between @ from_event.T,
        translation=from_frame @ transform[:3, 3],
        event_size=_size(content, "camRect0", path),
        frame_size=_size(content, "camRect1", path),
        disparity_to_point=None if disparity is None else _matrix(content, "disparity_to_depth.cams_03", (4, 4), path),
    )


def _matrix(content: Mapping[str, Any], key: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    value = get_key(content, key)
    if value is None:
        raise DataError(f"{path} has no {key}: give the cam_to_cam.yaml of a DSEC sequence")
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != shape or not np.isfinite(matrix).all():
        form = "x".join(map(str, shape))
        raise DataError(f"{path}: {key} is not an array of {form} numbers; extract the calibration again")
    return matrix


def _check_rotation(matrix: np.ndarray, key: str, path: Path) -> np.ndarray:
    if np.abs(matrix @ matrix.T - np.eye(3)).max() > _ORTHONORMAL or np.linalg.det(matrix) < 0:
        raise DataError(f"{path}: {key} is not a rotation; extract the calibration again")
    return matrix


def _rotation(content: Mapping[str, Any], key: str, path: Path) -> np.ndarray:
    return _check_rotation(_matrix(content, key, (3, 3), path), key, path)


def _intrinsics(content: Mapping[str, Any], camera: str, path: Path) -> np.ndarray:
    key = f"intrinsics.{camera}.camera_matrix"
    focal_x, focal_y, center_x, center_y = _matrix(content, key, (4,), path)
    if focal_x <= 0 or focal_y <= 0:
        raise DataError(
            f"{path}: {key} starts with focal lengths, which must be above 0; extract the calibration again"
        )
    return np.array([[focal_x, 0, center_x], [0, focal_y, center_y], [0, 0, 1]])


def _size(content: Mapping[str, Any], camera: str, path: Path) -> tuple[int, int]:
    key = f"intrinsics.{camera}.resolution"
    width, height = _matrix(content, key, (2,), path)
    if width < 1 or height < 1 or width % 1 or height % 1:
        raise DataError(f"{path}: {key} is not a size in pixels; extract the calibration again")
    return int(width), int(height)


def frame_positions(
    calibration: Calibration, disparity: np.ndarray | None = None, samples: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the pixels of the rectified event camera in the rectified frame image.

    Args:
        calibration: both cameras.
        disparity: (H, W) float, pixels between the event cameras; 0 is at infinity. None: everything is at infinity.
        samples: positions per pixel in each direction, evenly over its area.

    Returns:
        x and y, each (H * samples, W * samples) float32; -1 where a point is not in front of the frame camera.
        Pixel centres lie at whole numbers.

    Raises:
        DataError: a disparity map of another size, or a calibration without disparity.
    """
    width, height = calibration.event_size
    columns, rows = ((np.arange(length * samples) + 0.5) / samples - 0.5 for length in (width, height))
    x, y = np.meshgrid(columns, rows)
    matrix = calibration.frame_matrix
    if disparity is None:
        rays = np.stack((x, y, np.ones_like(x)))
        turn = matrix @ calibration.rotation @ np.linalg.inv(calibration.event_matrix)
        points = np.tensordot(turn, rays, 1)
    else:
        if disparity.shape != (height, width):
            raise DataError(f"a disparity map is {disparity.shape[1]}x{disparity.shape[0]}, not {width}x{height}")
        if calibration.disparity_to_point is None:
            raise DataError("the calibration has no disparity_to_depth.cams_03, which --disparity needs")
        fine = disparity.repeat(samples, 0).repeat(samples, 1)
        homogeneous = np.tensordot(calibration.disparity_to_point, np.stack((x, y, fine, np.ones_like(x))), 1)
        # (X, Y, Z, W): W is 0 at infinity, where the translation has no effect.
        moved = np.tensordot(calibration.rotation, homogeneous[:3], 1)
        moved += calibration.translation[:, None, None] * homogeneous[3]
        points = np.tensordot(matrix, moved, 1)
    in_front = points[2] > 0
    depth = np.where(in_front, points[2], 1)
    column, row = (np.where(in_front, points[k] / depth, -1).astype(np.float32) for k in (0, 1))
    return column, row


def seen_share(calibration: Calibration) -> float:
    """Fraction of the event camera's pixels that the frame camera also sees; the others become black."""
    x, y = frame_positions(calibration)
    width, height = calibration.frame_size
    return float(((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).mean())


def warp_image(image: np.ndarray, positions: tuple[np.ndarray, np.ndarray], interpolation: str) -> np.ndarray:
    """Sample a frame image at given positions.

    Args:
        image: (H, W, 3) or (H, W) uint8, rectified.
        positions: of :func:`frame_positions`, with ``samples=AREA_SAMPLES`` for ``area``, else 1.
        interpolation: ``nearest``, ``bilinear``, or ``area``, the mean over the area of a pixel.

    Returns:
        uint8 image of the event camera's size; black where the frame camera sees nothing. OpenCV rounds bilinear
        positions to 1/32 of a pixel.
    """
    flag = cv2.INTER_NEAREST if interpolation == "nearest" else cv2.INTER_LINEAR
    warped = cv2.remap(image, *positions, flag, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    if interpolation == "area":
        size = (warped.shape[1] // AREA_SAMPLES, warped.shape[0] // AREA_SAMPLES)
        warped = cv2.resize(warped, size, interpolation=cv2.INTER_AREA)
    return warped


def samples_of(interpolation: str) -> int:
    """Positions per pixel in each direction that an interpolation needs."""
    return AREA_SAMPLES if interpolation == "area" else 1


def read_disparity(path: str | Path) -> np.ndarray:
    """Read a DSEC disparity map, a 16-bit PNG of 256ths of a pixel, and fill its holes.

    A pixel without a measurement (0) takes the value of the nearest pixel with one: holes at infinity would tear the
    image at every edge of a measured patch.

    Returns:
        (H, W) float32, pixels; all 0 if nothing was measured.

    Raises:
        DataError: missing or damaged file, or not a 16-bit grey PNG.
    """
    path = Path(path)
    image, header = decode(path, formats=("PNG",), remedy="extract the disparity map again")
    samples = stored_samples(image, header)
    if samples is None or header.bits != 16:
        raise DataError(
            f"disparity map {path} is not a 16-bit grey PNG ({header.bits}-bit {header.color}); extract it again"
        )
    raw = np.asarray(samples)
    measured = raw > 0
    if not measured.any():
        return np.zeros(raw.shape, np.float32)
    _, nearest = cv2.distanceTransformWithLabels(
        (~measured).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(nearest.max() + 1, np.float32)
    of_label[nearest[measured]] = raw[measured] / np.float32(256)
    return of_label[nearest]
