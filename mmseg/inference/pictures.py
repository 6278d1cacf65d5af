"""Your own images: files, folders, videos, and the times at which they were taken."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmseg.datasets.dsec_frames import read_timestamps
from mmseg.errors import DataError
from mmseg.io.files import visible
from mmseg.io.image_files import open_image
from mmseg.io.videos import VIDEO_SUFFIXES, Picture, Video

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
TIMES_REMEDY = "Give a text file with one ascending time in whole µs per line."


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB, turned upright as its EXIF data says.

    Raises:
        DataError: see :func:`.open_image`.
    """
    return np.array(open_image(path, "RGB"))


class ImageFiles:
    """Image files by name.

    Args:
        paths: the files.

    Raises:
        DataError: two of them have the same stem, and so would their output files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        first: dict[str, Path] = {}
        for path in self.paths:
            if path.stem in first:
                raise DataError(
                    f"{first[path.stem]} and {path} would both become {path.stem}.png; rename one, or process them "
                    "separately with different output folders"
                )
            first[path.stem] = path

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Picture]:
        for path in self.paths:
            yield Picture(path.stem, partial(read_image, path))


def open_pictures(inputs: Sequence[str | Path]) -> ImageFiles | Video:
    """Images and folders of images, or one video.

    A folder stands for its image files, sorted by name, without those of its subfolders.

    Raises:
        DataError: a missing file, an unsupported file, a folder without images, or a video together with other inputs.
    """
    paths = [Path(item) for item in inputs]
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()]
    if videos:
        if len(paths) > 1:
            raise DataError(f"{videos[0]} is a video; give either one video, or images and folders")
        return Video(videos[0])
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += _images_of(path)
        elif not path.exists():
            raise DataError(f"{path} does not exist")
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            files.append(path)
        else:
            raise DataError(
                f"{path} has the suffix of neither an image ({', '.join(IMAGE_SUFFIXES)}) nor a video "
                f"({', '.join(VIDEO_SUFFIXES)})"
            )
    return ImageFiles(files)


def _images_of(folder: Path) -> list[Path]:
    try:
        # glob finds nothing in a folder that cannot be read.
        os.listdir(folder)
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read ({error.strerror})") from error
    files = [path for path in visible(folder, "*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not files:
        raise DataError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return files


@dataclass(frozen=True)
class PictureTimes:
    """Times at which images were taken.

    Attributes:
        times: time of each image, in µs.
        all_times: times of all images of the recording, ascending.
        positions: index of each image in ``all_times``.
    """

    times: tuple[int, ...]
    all_times: tuple[int, ...]
    positions: tuple[int, ...]

    @classmethod
    def of_all(cls, times: Sequence[int]) -> PictureTimes:
        """Times of consecutive images."""
        return cls(tuple(times), tuple(times), tuple(range(len(times))))

    def earlier(self, frames: int) -> list[int | None]:
        """Time of the image ``frames`` before each image; None if there is none."""
        return [self.all_times[i - frames] if i >= frames else None for i in self.positions]


def picture_times(
    pictures: ImageFiles | Video, timestamps: str | Path | None = None, start_time: int | None = None
) -> PictureTimes:
    """Times of images, from a file or from the start of a video.

    Args:
        pictures: the images.
        timestamps: text file with one line per image, in order: ascending times in µs. If the names of the images are
            numbers, it may have more lines: the number then is the line, from 0, as in DSEC.
        start_time: time of the first frame of a video, whose file gives the offsets of the others; or that of a single
            image.

    Raises:
        DataError: neither or both are given, or they do not match the images.
    """
    if timestamps is not None and start_time is None:
        return _times_of_file(pictures, Path(timestamps))
    if start_time is None or timestamps is not None:
        raise DataError("events need the times of the images: give --timestamps FILE, or --start-time of a video")
    if isinstance(pictures, ImageFiles):
        if len(pictures) > 1:
            raise DataError(
                f"--start-time is for a video or one image, not for {len(pictures)}; give --timestamps FILE"
            )
        return PictureTimes.of_all([start_time])
    return PictureTimes.of_all([start_time + time for time in pictures.times])


def _times_of_file(pictures: ImageFiles | Video, path: Path) -> PictureTimes:
    times = read_timestamps(path, TIMES_REMEDY).tolist()
    if len(times) == len(pictures):
        return PictureTimes.of_all(times)
    names = [file.stem for file in pictures.paths] if isinstance(pictures, ImageFiles) else []
    numbers = [int(name) for name in names if re.fullmatch(r"\d{1,9}", name)]
    if names and len(numbers) == len(names) and max(numbers) < len(times):
        return PictureTimes(tuple(times[i] for i in numbers), tuple(times), tuple(numbers))
    raise DataError(
        f"{path} has {len(times)} lines for {len(pictures)} images; give one line per image, or images whose names are "
        "line numbers, from 0"
    )
