"""Frames of DSEC_Night, and the text files that name them: frame lists, event indices and timestamps.

The lists and indices are written by :mod:`mmseg.preparation.dsec_lists`. Layout of a recording: Gehrig et al.,
"DSEC: A Stereo Event Camera Dataset for Driving Scenarios", RA-L 2021.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmseg.errors import DataError
from mmseg.io.files import read_text

_COMMAND = "python create_dsec_dataset_txt.py --root-dir data/DSEC_Night/"
_CREATE = f"Create it with '{_COMMAND}' (give the folder of your DSEC_Night)."
# Rows of a frame that tests use; the car's hood covers those below.
TEST_ROWS = 440
DOWNLOAD_AGAIN = "Download it again from https://dsec.ifi.uzh.ch."


@dataclass(frozen=True)
class DSECFrame:
    """One image of a DSEC_Night sequence and the events that end with it.

    Attributes:
        sequence_dir: folder of the sequence, ``<root>/zurich_city_09_<a-e>``.
        sequence: name of that folder.
        frame: frame number, >= 0; the line (from 0) in ``timestamps.txt`` and in the index file.
        event_index: index of the last event at or before the image, > 0.
    """

    sequence_dir: Path
    sequence: str
    frame: int
    event_index: int

    @property
    def warp_image(self) -> Path:
        """Image warped into the event camera's frame, 640x480 RGB."""
        return self.sequence_dir / "warp_images" / f"{self.frame:06d}.png"

    @property
    def rectified_image(self) -> Path:
        """Rectified image of the frame camera. It names the frame in the lists and may be missing."""
        return self.sequence_dir / "images" / "left" / "rectified" / f"{self.frame:06d}.png"

    @property
    def label(self) -> Path:
        """Train ids 0..18 and 255 of the warp image, 640x480. Only test frames have one."""
        name = f"{self.sequence}_{self.frame:06d}_grey_gtFine_labelTrainIds.png"
        return self.sequence_dir / "labels" / name

    @property
    def events_file(self) -> Path:
        """HDF5 file with ``events/{t,x,y,p}``, ``t_offset`` (µs) and ``ms_to_idx``."""
        return self.sequence_dir / "events" / "left" / "events.h5"

    @property
    def rectify_map_file(self) -> Path:
        """HDF5 file with ``rectify_map`` (480, 640, 2)."""
        return self.sequence_dir / "events" / "left" / "rectify_map.h5"

    @property
    def index_file(self) -> Path:
        """Event index of every image of the sequence, see :func:`read_event_index`."""
        return self.sequence_dir / "images" / "images_to_events_index.txt"


def _read_lines(path: Path, remedy: str) -> list[str]:
    """Return the lines of a text file without trailing blank ones; a DataError ends with ``remedy``."""
    try:
        # Keeps bytes of folder names that are not UTF-8.
        return read_text(path, errors="surrogateescape").rstrip().splitlines()
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {remedy}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}). {remedy}") from None


def _read_integers(path: Path, lowest: int, meaning: str, remedy: str) -> np.ndarray:
    """Return (N,) int64, N > 0, from a file with one integer per line; no line is skipped, since lines count frames."""
    values = []
    for number, line in enumerate(_read_lines(path, remedy), start=1):
        if not re.fullmatch(r"\s*-?\d{1,18}\s*", line) or int(line) < lowest:
            raise DataError(f"{path}, line {number}: {line!r} is not {meaning}. {remedy}")
        values.append(int(line))
    if not values:
        raise DataError(f"{path} is empty. {remedy}")
    return np.array(values, dtype=np.int64)


def read_timestamps(path: str | Path, remedy: str = DOWNLOAD_AGAIN) -> np.ndarray:
    """Read the image timestamps of a sequence, ``images/timestamps.txt``; error messages end with ``remedy``.

    Returns:
        (number of images,) int64, µs on the clock of the recording, ascending.

    Raises:
        DataError: missing or empty file, a line that is not a time, or times out of order.
    """
    path = Path(path)
    timestamps = _read_integers(path, 0, "an image timestamp (a whole number of µs)", remedy)
    falls = np.flatnonzero(np.diff(timestamps) < 0)
    if falls.size:
        line = int(falls[0]) + 2
        raise DataError(f"{path}, line {line}: this timestamp is earlier than the one before it. {remedy}")
    return timestamps


def read_event_index(path: str | Path) -> np.ndarray:
    """Read the event index of every image of a sequence, ``images/images_to_events_index.txt``.

    Returns:
        (number of images,) int64: index of the last event at or before the image; -1 outside the recording.

    Raises:
        DataError: missing or empty file, or a line that is not an index.
    """
    return _read_integers(Path(path), -1, "an event index (a whole number, -1 or more)", _CREATE)


def read_frame_list(path: str | Path, root: str | Path | None = None) -> list[DSECFrame]:
    """Read a train or test list: lines ``<image path> <event index>``; blank lines are skipped.

    Lists of this project hold paths relative to the list. Other lists may hold paths of another machine, or relative
    to some working directory: see :func:`find_sequence`.

    Args:
        path: the list.
        root: folder in which sequences are looked for first.

    Raises:
        DataError: missing file, a malformed line, or an empty list.
    """
    frames = _frames_as_listed(Path(path))
    roots = [Path(root)] if root else []
    found = {folder: find_sequence(folder, [*roots, Path(path).parent]) for folder in {f.sequence_dir for f in frames}}
    return [replace(frame, sequence_dir=found[frame.sequence_dir]) for frame in frames]


def find_sequence(given: Path, roots: Iterable[Path]) -> Path:
    """Find the folder of a sequence that a list names.

    Each root is searched in turn, for the whole path and then for ever shorter tails of it, so that data and lists can
    move together. If there is no such folder, the path is returned as it is.
    """
    names = [part for part in given.parts if part not in (given.anchor, os.pardir)]
    tails = [Path(*names[start:]) for start in range(len(names))]
    for root in roots:
        for tail in tails if given.is_absolute() else [given, *tails]:
            if os.path.isdir(root / tail):
                return root / tail
    return given


def describe_folders(path: str | Path, frames: Iterable[DSECFrame]) -> str:
    """Message that names the folders the frames of a list are read from, and those the list names if they differ."""
    read = {frame.sequence_dir.parent for frame in frames}
    named = {frame.sequence_dir.parent for frame in _frames_as_listed(Path(path))}
    text = f"{path}: frames are read from {_listed(read)}"
    here = {os.path.abspath(folder) for folder in read}
    others = {f for f in named if not {os.path.abspath(f), os.path.abspath(Path(path).parent / f)} & here}
    return f"{text}; the list names {_listed(others)}" if others else text


def _listed(folders: Iterable[Path]) -> str:
    return ", ".join(sorted(map(str, folders)))


def _frames_as_listed(path: Path) -> list[DSECFrame]:
    """Frames of a list, with the folders as the list names them."""
    frames = []
    for number, line in enumerate(_read_lines(path, _CREATE), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"(.*\S)\s+(\d{1,18})", line.strip())
        image = Path(match[1]) if match else Path()
        # <sequence>/images/left/rectified/<image>; pathlib handles repeated slashes.
        if (
            match is None
            or int(match[2]) == 0
            or len(image.parts) < 5
            or image.parts[-4:-1] != ("images", "left", "rectified")
            or not re.fullmatch(r"\d{6}\.png", image.name)
        ):
            raise DataError(
                f"{path}, line {number}: {line!r} is not '<sequence folder>/images/left/rectified/<6 digits>"
                f".png <event index above 0>'. Fix the line, or create the list again with '{_COMMAND}'."
            )
        sequence_dir = image.parents[3]
        frames.append(DSECFrame(sequence_dir, sequence_dir.name, int(image.stem), int(match[2])))
    if not frames:
        raise DataError(f"{path} lists no frames. {_CREATE}")
    return frames
