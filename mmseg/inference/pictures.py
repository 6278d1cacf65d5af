"""Your own images: files, folders, videos, and the times at which they were taken."""

from __future__ import annotations

import glob
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
from mmseg.io.streams import is_stream, shown_address
from mmseg.io.videos import VIDEO_SUFFIXES, Picture, Video
from mmseg.system.text import natural_key

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
# Pictures that are not read -> what to do
_TO_PNG = "convert it to .png"
OTHER_PICTURES = {
    ".gif": "convert it to .png, or to a video",
    **dict.fromkeys((".heic", ".heif", ".avif"), "convert it to .jpg or .png"),
    **dict.fromkeys((".jp2", ".jxl", ".ppm", ".pgm", ".tga", ".exr", ".hdr", ".svg", ".psd", ".pdf"), _TO_PNG),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"), f"raw of a camera, {_TO_PNG}"),
    **dict.fromkeys(VIDEO_SUFFIXES, "a video, give it by itself"),
}
# Skipped files that one message names
LISTED_SKIPPED = 5
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
        skipped: one message for each file next to them that is a picture or a video, and is not read.

    Raises:
        DataError: two of them have the same stem, and so would their output files.
    """

    def __init__(self, paths: Sequence[Path], skipped: Sequence[str] = ()) -> None:
        self.paths, self.skipped = list(paths), list(skipped)
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

    A folder stands for its image files, sorted by name and the numbers in it (:func:`.natural_key`), without those of
    its subfolders; a pattern such as ``night/*.jpg`` for the files and folders that it matches, as in a shell, ``**``
    for any depth. Other pictures and videos that are found in this way are skipped, see :attr:`ImageFiles.skipped`.

    Raises:
        DataError: a missing file, an unsupported file, a folder or a pattern without images, or a video together with
            other inputs.
    """
    named = [path for item in inputs for path in _matches(item)]
    videos = [path for path, _ in named if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()]
    if len(named) == 1 and videos:
        return Video(videos[0])
    files: list[Path] = []
    skipped: list[str] = []
    for path, by_name in named:
        if path.is_dir():
            found, others = _in_folder(path)
            if by_name and not found:
                raise _nothing_in(str(path), others)
            files += found
            skipped += others
        elif not path.exists():
            raise DataError(f"{path} does not exist")
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            files.append(path)
        elif not by_name:
            skipped += _skipped([path])
        elif path in videos:
            raise DataError(f"{path} is a video; give either one video, or images and folders")
        else:
            raise _unsupported(path)
    if not files:
        raise _nothing_in(", ".join(map(str, inputs)), skipped)
    if not all(by_name for _, by_name in named):
        # patterns match files and their folders
        files, skipped = list(dict.fromkeys(files)), list(dict.fromkeys(skipped))
    return ImageFiles(files, skipped)


def _matches(item: str | Path) -> list[tuple[Path, bool]]:
    """The paths that an input stands for, and whether it names them itself."""
    path = Path(item)
    if path.exists() or not glob.has_magic(str(item)):
        return [(path, True)]
    found = sorted(map(Path, glob.glob(str(item), recursive=True)), key=_by_number)
    if not found:
        raise DataError(f"no file or folder matches {item}")
    return [(one, False) for one in found]


def _by_number(path: Path) -> list[tuple]:
    """Key that sorts files as they were taken: folders first, then stems."""
    return [natural_key(part) for part in (*path.parts[:-1], path.stem, path.suffix)]


def _unsupported(path: Path) -> DataError:
    known = f"neither an image ({', '.join(IMAGE_SUFFIXES)}) nor a video ({', '.join(VIDEO_SUFFIXES)})"
    remedy = OTHER_PICTURES.get(path.suffix.lower())
    return DataError(f"{path} has the suffix of {known}{f'; {remedy}' if remedy else ''}")


def _nothing_in(where: str, skipped: Sequence[str]) -> DataError:
    others = f"; not read: {', '.join(skipped[:LISTED_SKIPPED])}" if skipped else ""
    return DataError(f"{where} holds no image ({', '.join(IMAGE_SUFFIXES)}){others}")


def _skipped(paths: Sequence[Path]) -> list[str]:
    """Messages for the pictures and videos among files that are not read."""
    remedies = [(path, OTHER_PICTURES.get(path.suffix.lower())) for path in paths]
    return [f"{path} ({remedy})" for path, remedy in remedies if remedy]


def _in_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """The images of a folder, and messages for other pictures."""
    try:
        # glob finds nothing in a folder that cannot be read.
        os.listdir(folder)
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read ({error.strerror})") from error
    files = sorted((path for path in visible(folder, "*") if path.is_file()), key=_by_number)
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    return images, _skipped([path for path in files if path.suffix.lower() not in IMAGE_SUFFIXES])


def live_source(inputs: Sequence[str | Path]) -> str | None:
    """The camera or address of a stream that the inputs name; None for files.

    Raises:
        DataError: it is given together with other inputs.
    """
    live = [str(item) for item in inputs if is_stream(item)]
    if live and len(inputs) > 1:
        raise DataError(f"{shown_address(live[0])} is a camera or a stream; give either one of these, or files")
    return live[0] if live else None


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
