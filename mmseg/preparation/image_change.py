"""Image changes of Cityscapes: ``leftImg8bit_sequence`` -> ``leftImg8bit_IC1`` (input of the Image Motion-Extractor).

For every labelled frame ``<city>_<sequence>_<frame>``, the log-intensity change since an earlier frame of its 30-frame
snippet is written as an 8-bit grey PNG of the same name (CMDA, section 3.2). The formula is
:func:`mmseg.extractors.motion.image_change`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmseg.datasets.layouts import CITYSCAPES, MOTION_FOLDERS
from mmseg.errors import DataError, did_you_mean
from mmseg.extractors.motion import CLIP_RANGE, LOG_OFFSET, THRESHOLD, image_change
from mmseg.io.file_work import WorkReport, write_files
from mmseg.io.files import visible
from mmseg.io.image_files import open_image, read_header
from mmseg.io.png_files import make_png

SEQUENCE_FOLDER = "leftImg8bit_sequence"
CHANGE_FOLDER = MOTION_FOLDERS["image_change"]
SUFFIX = CITYSCAPES.image_suffix
_NAME = re.compile(r"(?P<snippet>.+)_(?P<frame>\d{6})" + re.escape(SUFFIX))


@dataclass(frozen=True)
class ChangeTask:
    """One image change to make: the labelled image (which gives the size), both frames, and the file to write."""

    labelled: Path
    current: Path
    previous: Path
    target: Path


def change_tasks(
    root: Path, split: str, offset: int = 1, sequence_dir: str = SEQUENCE_FOLDER, out_dir: str = CHANGE_FOLDER
) -> list[ChangeTask]:
    """List the image changes of a split, one per image of ``leftImg8bit/<split>``, in order of name.

    Args:
        root: Cityscapes root.
        split: folder below ``leftImg8bit``.
        offset: the earlier frame is this many frames back.
        sequence_dir, out_dir: folders of the frames and of the changes, relative to the root or absolute.

    Raises:
        DataError: a folder is missing, or an image name has no frame number.
    """
    images, frames = root / "leftImg8bit" / split, root / sequence_dir / split
    if not images.is_dir():
        splits = [p.name for p in visible(images.parent, "*") if p.is_dir()]
        raise DataError(
            f"{images} is not a folder{did_you_mean(split, splits)}: extract "
            f"leftImg8bit_trainvaltest.zip into {root}, or give another root or another split with --splits"
        )
    if not frames.is_dir():
        raise DataError(
            f"{frames} is not a folder: extract leftImg8bit_sequence_trainvaltest.zip into {root}, or give "
            "their folder as --sequence-dir"
        )
    changes = root / out_dir / split
    if changes.resolve() in (images.resolve(), frames.resolve()):
        raise DataError(f"--out {out_dir} is the folder of the images themselves: give another one")
    tasks = []
    for path in visible(images, f"*/*{SUFFIX}"):
        match, city = _NAME.fullmatch(path.name), path.parent.name
        if match is None:
            raise DataError(f"{path} is not named <city>_<sequence>_<frame of 6 digits>{SUFFIX}: rename or remove it")
        # No file has a negative number; it is reported as a missing frame.
        earlier = f"{match['snippet']}_{int(match['frame']) - offset:06d}{SUFFIX}"
        current, previous = frames / city / path.name, frames / city / earlier
        tasks.append(ChangeTask(path, current, previous, changes / city / path.name))
    if not tasks:
        raise DataError(f"{images} holds no <city>/*{SUFFIX}: extract leftImg8bit_trainvaltest.zip into {root}")
    return tasks


def change_settings(offset: int) -> str:
    """Settings of an image change, as stored in the file."""
    return f"image_change offset={offset} log_offset={LOG_OFFSET} threshold={THRESHOLD} clip_range={CLIP_RANGE}"


def make_change(task: ChangeTask, offset: int = 1, force: bool = False) -> str:
    """Write one image change if it is missing, truncated, outdated or of another offset.

    Args:
        task: the files.
        offset: stored in the file; the frames are those of the task.
        force: write it in any case.

    Returns:
        ``written``, ``kept`` or ``foreign``.

    Raises:
        DataError: a frame is missing, damaged or of another size, or the file cannot be written.
    """
    size = read_header(task.labelled).size
    for frame in (task.current, task.previous):
        if not frame.is_file():
            raise DataError(f"sequence frame {frame} does not exist: extract its city again, or check --offset")
        own = read_header(frame).size
        if own != size:
            raise DataError(
                f"sequence frame {frame} is {own[0]}x{own[1]}, its labelled image {size[0]}x{size[1]}: replace the file"
            )
    settings = change_settings(offset)

    def change() -> Image.Image:
        current, previous = (np.array(open_image(frame, "L")) for frame in (task.current, task.previous))
        return Image.fromarray(image_change(current, previous))

    return make_png(task.target, size, settings, (task.current, task.previous), change, force)


def make_changes(
    tasks: list[ChangeTask], offset: int = 1, nproc: int = 1, force: bool = False, stop_at_first: bool = False
) -> WorkReport:
    """Run :func:`make_change` on all tasks; arguments and errors as there and in :func:`.write_files`."""
    work = functools.partial(make_change, offset=offset, force=force)
    return write_files(work, tasks, nproc, "image changes", stop_at_first)
