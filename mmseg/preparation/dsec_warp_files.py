"""Raw DSEC sequences -> ``warp_images/%06d.png``: images of the frame camera in the event camera's view."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmseg.errors import DataError
from mmseg.io.file_work import WorkReport, write_files
from mmseg.io.files import visible
from mmseg.io.image_files import open_image
from mmseg.io.png_files import make_png
from mmseg.preparation.dsec_warp import (
    Calibration,
    frame_positions,
    read_calibration,
    read_disparity,
    samples_of,
    warp_image,
)

SEQUENCES = tuple(f"zurich_city_09_{letter}" for letter in "abcde")
RAW_FOLDER = Path("images/left/rectified")
# Location of the calibration in the archives, and an alternative.
CALIBRATION_FILES = ("calibration/cam_to_cam.yaml", "cam_to_cam.yaml")
DISPARITY_FOLDER = Path("disparity/event")


@dataclass(frozen=True)
class WarpTask:
    """One image to warp.

    Attributes:
        image: rectified image of the frame camera.
        calibration: ``cam_to_cam.yaml`` of its sequence.
        digest: digest of that file's content, which tells files of the same name apart.
        disparity: its disparity map; None for the rotation only.
        target: file to write.
        settings: settings of the file, stored in it.
    """

    image: Path
    calibration: Path
    digest: str
    disparity: Path | None
    target: Path
    settings: str


def find_raw_sequences(root: Path) -> list[Path]:
    """Return the existing folders zurich_city_09_a .. e of a root, or the root itself if it is a sequence.

    Raises:
        DataError: there is none, or one has no raw images.
    """
    if (root / RAW_FOLDER).is_dir():
        return [root]
    sequences = [root / name for name in SEQUENCES if (root / name).is_dir()]
    if not sequences:
        raise DataError(f"{root} holds no {SEQUENCES[0]} ... _e: give the folder that does, or one DSEC sequence")
    for sequence in sequences:
        if not (sequence / RAW_FOLDER).is_dir():
            raise DataError(
                f"{sequence / RAW_FOLDER} is not a folder: extract the rectified images of the sequence's left frame "
                f"camera there, or move {sequence} elsewhere to leave it out"
            )
    return sequences


def calibration_file(sequence: Path, given: Path | None) -> Path:
    """Return the calibration of a sequence: the given one, else its own.

    Raises:
        DataError: there is none.
    """
    if given is not None:
        return given
    for name in CALIBRATION_FILES:
        if (sequence / name).is_file():
            return sequence / name
    raise DataError(
        f"{sequence / CALIBRATION_FILES[0]} does not exist: extract the calibration of the sequence there, or give one "
        "for all with --calibration"
    )


def warp_tasks(
    sequence: Path,
    calibration: Path | None = None,
    interpolation: str = "bilinear",
    disparity: bool = False,
    out_dir: str = "warp_images",
) -> list[WarpTask]:
    """List the images of a sequence to warp, in order of frame.

    Args:
        sequence: its folder.
        calibration: ``cam_to_cam.yaml``; None takes the sequence's own.
        interpolation: see :func:`.warp_image`.
        disparity: use ``disparity/event/%06d.png`` of a frame if it exists. DSEC has one for every other frame.
        out_dir: folder below the sequence.

    Raises:
        DataError: the sequence has no images, calibration or disparity maps, or the calibration cannot be used.
    """
    numbers = [p.name for p in visible(sequence / RAW_FOLDER, "*.png") if re.fullmatch(r"\d{6}\.png", p.name)]
    if not numbers:
        raise DataError(f"{sequence / RAW_FOLDER} holds no image <6 digits>.png: extract the images there")
    if (sequence / out_dir).resolve() == (sequence / RAW_FOLDER).resolve():
        raise DataError(f"--out {out_dir} is the folder of the raw images: give another one")
    calibration = calibration_file(sequence, calibration)
    read = read_calibration(calibration)
    if disparity and not (sequence / DISPARITY_FOLDER).is_dir():
        raise DataError(
            f"{sequence / DISPARITY_FOLDER} is not a folder: extract the disparity there, or omit --disparity"
        )
    if disparity and read.disparity_to_point is None:
        raise DataError(f"{calibration} has no disparity_to_depth.cams_03, which --disparity needs")
    # By content: the same calibration may lie in several places.
    digest = hashlib.sha256(calibration.read_bytes()).hexdigest()[:12]
    tasks = []
    for name in sorted(numbers):
        depth = sequence / DISPARITY_FOLDER / name if disparity else None
        depth = depth if depth is not None and depth.is_file() else None
        geometry = "disparity" if depth else "rotation"
        settings = f"warp_image calibration={digest} geometry={geometry} interpolation={interpolation}"
        image, target = sequence / RAW_FOLDER / name, sequence / out_dir / name
        tasks.append(WarpTask(image, calibration, digest, depth, target, settings))
    return tasks


@functools.lru_cache(maxsize=16)
def _calibration(path: Path, digest: str) -> Calibration:
    return read_calibration(path)


@functools.lru_cache(maxsize=2)
def _far_positions(path: Path, digest: str, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions for a scene at infinity, the same for all frames of a sequence."""
    return frame_positions(_calibration(path, digest), None, samples)


def warp_file(task: WarpTask, interpolation: str) -> Image.Image:
    """Read and warp one image.

    Returns:
        RGB image of the event camera's size.

    Raises:
        DataError: the image or disparity map is damaged, or its size is not that of the calibration.
    """
    calibration, samples = _calibration(task.calibration, task.digest), samples_of(interpolation)
    image = _read_image(task.image, calibration)
    if task.disparity is None:
        positions = _far_positions(task.calibration, task.digest, samples)
    else:
        disparity = read_disparity(task.disparity)
        if disparity.shape != calibration.event_size[::-1]:
            raise DataError(
                f"disparity map {task.disparity} is {disparity.shape[1]}x{disparity.shape[0]}, the event camera of "
                f"{task.calibration} {calibration.event_size[0]}x{calibration.event_size[1]}: replace the file"
            )
        positions = frame_positions(calibration, disparity, samples)
    return Image.fromarray(warp_image(image, positions, interpolation))


def _read_image(path: Path, calibration: Calibration) -> np.ndarray:
    """Read an image, (H, W, 3) uint8 RGB of the frame camera's size."""
    width, height = calibration.frame_size
    image = open_image(path, "RGB")
    if image.size != (width, height):
        raise DataError(
            f"{path} is {image.width}x{image.height}, the frame camera of the calibration {width}x{height}: put the "
            "rectified images of the same camera there"
        )
    return np.array(image)


def make_warp_image(task: WarpTask, interpolation: str, force: bool = False) -> str:
    """Write one warped image if it is missing, truncated, outdated or made with other settings.

    Returns:
        ``written``, ``kept`` or ``foreign``.

    Raises:
        DataError: see :func:`warp_file`, or the file cannot be written.
    """
    sources = tuple(p for p in (task.image, task.disparity) if p is not None)
    size = _calibration(task.calibration, task.digest).event_size
    # Work is spread over processes, so OpenCV's own threads would only compete with them.
    cv2.setNumThreads(1)
    return make_png(task.target, size, task.settings, sources, functools.partial(warp_file, task, interpolation), force)


def make_warp_images(
    tasks: list[WarpTask], interpolation: str, nproc: int = 1, force: bool = False, stop_at_first: bool = False
) -> WorkReport:
    """Run :func:`make_warp_image` on all tasks; arguments and errors as there and in :func:`.write_files`."""
    work = functools.partial(make_warp_image, interpolation=interpolation, force=force)
    return write_files(work, tasks, nproc, "warp images", stop_at_first)
