"""Pictures of one's own: image files, folders of them, videos, and the times at which they were taken."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mmseg.errors import DataError
from mmseg.io.files import read_text, visible
from mmseg.io.image_files import open_image
from mmseg.io.videos import VIDEO_SUFFIXES, Picture, Video

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class PictureSource(Protocol):
    """Pictures in order."""

    def __len__(self) -> int:
        """Number of pictures."""

    def __iter__(self) -> Iterator[Picture]:
        """The pictures; those of a video are read on the way."""


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB, upright as its camera noted (EXIF).

    Raises:
        DataError: see :func:`.open_image`.
    """
    return np.array(open_image(path, "RGB"))


class ImageFiles:
    """Image files by name.

    Args:
        paths: the files.

    Raises:
        DataError: two of them have one stem, and so would what is made of them.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        first: dict[str, Path] = {}
        for path in self.paths:
            if path.stem in first:
                raise DataError(
                    f"{first[path.stem]} and {path} would both become {path.stem}.png; rename one, or give them in "
                    "turn with folders of their own"
                )
            first[path.stem] = path

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Picture]:
        for path in self.paths:
            yield Picture(path.stem, lambda path=path: read_image(path))


def open_pictures(inputs: Sequence[str | Path]) -> ImageFiles | Video:
    """Images and folders of images, or one video.

    Of a folder the image files are taken, in order of their names, not those in folders below it.

    Raises:
        DataError: a missing file, one of another kind, a folder without images, or a video beside something else.
    """
    paths = [Path(item) for item in inputs]
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()]
    if videos:
        if len(paths) > 1:
            raise DataError(f"{videos[0]} is a video; give one video alone, or images and folders")
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
                f"{path} is neither an image ({', '.join(IMAGE_SUFFIXES)}) nor a video ({', '.join(VIDEO_SUFFIXES)}) "
                "by its name"
            )
    return ImageFiles(files)


def _images_of(folder: Path) -> list[Path]:
    try:
        # glob would find nothing in a folder that cannot be read
        os.listdir(folder)
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read ({error.strerror})") from error
    files = [path for path in visible(folder, "*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not files:
        raise DataError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return files


@dataclass(frozen=True)
class PictureTimes:
    """When pictures were taken.

    Attributes:
        times: of each picture, in µs.
        all_times: those of all images of the recording, ascending.
        positions: place of each picture among them.
    """

    times: tuple[int, ...]
    all_times: tuple[int, ...]
    positions: tuple[int, ...]

    @classmethod
    def of_all(cls, times: Sequence[int]) -> PictureTimes:
        """Times of pictures that follow each other."""
        return cls(tuple(times), tuple(times), tuple(range(len(times))))

    def earlier(self, frames: int) -> list[int | None]:
        """Time of the image that lies ``frames`` before each picture; None before the first."""
        return [self.all_times[i - frames] if i >= frames else None for i in self.positions]


def picture_times(
    pictures: ImageFiles | Video, timestamps: str | Path | None = None, start_time: int | None = None
) -> PictureTimes:
    """Times of pictures, from a file or from the start of a video.

    Args:
        pictures: the pictures.
        timestamps: text file with a time in µs a line, ascending: a line for every picture, in their order. Of images
            whose names are numbers it may have other lines too: the number is the line then, from 0, as in DSEC.
        start_time: time of the first frame of a video, which says how much later the others were taken; or that of a
            single image.

    Raises:
        DataError: neither or both are given, or they do not fit the pictures.
    """
    if (timestamps is None) == (start_time is None):
        raise DataError("events need the times of the images: give --timestamps FILE, or --start-time of a video")
    if timestamps is not None:
        return _times_of_file(pictures, Path(timestamps))
    if isinstance(pictures, ImageFiles):
        if len(pictures) > 1:
            raise DataError(
                f"--start-time is for a video or one image, not for {len(pictures)}; give --timestamps FILE"
            )
        return PictureTimes.of_all([start_time])
    return PictureTimes.of_all([start_time + time for time in pictures.times])


def _times_of_file(pictures: ImageFiles | Video, path: Path) -> PictureTimes:
    times = _read_times(path)
    if len(times) == len(pictures):
        return PictureTimes.of_all(times)
    names = [file.stem for file in pictures.paths] if isinstance(pictures, ImageFiles) else []
    numbers = [int(name) for name in names if re.fullmatch(r"\d{1,9}", name)]
    if names and len(numbers) == len(names) and max(numbers) < len(times):
        return PictureTimes(tuple(times[i] for i in numbers), tuple(times), tuple(numbers))
    raise DataError(
        f"{path} has {len(times)} lines for {len(pictures)} images; give one line for each, or images whose names are "
        "numbers of lines, from 0"
    )


def _read_times(path: Path) -> list[int]:
    try:
        lines = read_text(path).rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"timestamps {path} cannot be read ({error})") from error
    times: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not re.fullmatch(r"\s*\d{1,18}\s*", line):
            raise DataError(f"{path}, line {number}: {line.strip()!r} is not a time in whole µs")
        if times and int(line) < times[-1]:
            raise DataError(f"{path}, line {number}: this time is earlier than the one before it")
        times.append(int(line))
    return times
