"""Frame lists of DSEC_Night: the last event of every image, and the images for training and testing.

``create_dsec_dataset_txt.py`` calls :func:`create_dsec_lists`; the DSEC dataset reads the files with
:mod:`mmseg.datasets.dsec_frames`. Train and test frames: CMDA, ICCV 2023.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from mmseg.datasets.dsec_frames import DSECFrame, read_timestamps
from mmseg.errors import DataError
from mmseg.events.event_index import image_event_index
from mmseg.io.files import write_text
from mmseg.system.printing import TextTable, say, track

logger = logging.getLogger(__name__)

TRAIN_LIST = "night_dataset_warp.txt"
TEST_LIST = "night_test_dataset_warp.txt"

# Frames around the labelled ones, kept out of training. A frame number is a line number (from 0) of timestamps.txt.
HELD_OUT_FRAMES: dict[str, range] = {
    "zurich_city_09_a": range(0, 798),
    "zurich_city_09_b": range(0, 150),
    "zurich_city_09_c": range(0, 582),
    "zurich_city_09_d": range(0, 744),
    "zurich_city_09_e": range(0, 366),
}
FIRST_FRAME = 2
PUBLISHED_TRAIN_FRAMES = 1692
PUBLISHED_TEST_FRAMES = 150


@dataclass(frozen=True)
class SequenceFrames:
    """Frames of one sequence in the lists.

    Attributes:
        sequence_dir: folder of the sequence.
        event_index: (number of images,) int64, see :func:`image_event_index`.
        train: frames for training, by frame number.
        test: labelled frames, by frame number.
        unlisted_labels: reason -> numbers of the labelled frames left out of ``test`` for it.
    """

    sequence_dir: Path
    event_index: np.ndarray
    train: tuple[DSECFrame, ...]
    test: tuple[DSECFrame, ...]
    unlisted_labels: dict[str, tuple[int, ...]]


def _frame_numbers(folder: Path, pattern: str) -> set[int]:
    """Return the frame numbers (group 1 of ``pattern``) of the files in a folder; empty if it does not exist."""
    if not folder.is_dir():
        return set()
    try:
        with os.scandir(folder) as entries:
            matches = [re.fullmatch(pattern, entry.name) for entry in entries if entry.is_file()]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}). Check its permissions.") from None
    return {int(match[1]) for match in matches if match}


def select_frames(sequence_dir: Path, event_index: np.ndarray) -> SequenceFrames:
    """Choose the train and test frames of a sequence.

    A frame is listed if its warp image exists, its event index is > 0 and its number is >= 2. Training drops
    the held-out frames; the test list keeps all labelled frames, held out or not, as in the reference.

    Args:
        sequence_dir: folder of the sequence; its name is a key of ``HELD_OUT_FRAMES``.
        event_index: (number of images,) int64, see :func:`image_event_index`.
    """
    name = sequence_dir.name
    warped = _frame_numbers(sequence_dir / "warp_images", r"(\d{6})\.png")
    labelled = _frame_numbers(sequence_dir / "labels", re.escape(name) + r"_(\d{6})_grey_gtFine_labelTrainIds\.png")
    inside = {int(frame) for frame in np.flatnonzero(event_index > 0)}
    listed = [
        DSECFrame(sequence_dir, name, frame, int(event_index[frame]))
        for frame in sorted(warped & inside)
        if frame >= FIRST_FRAME
    ]
    reasons = {
        "no warp image": labelled - warped,
        "event index not above 0": (labelled & warped) - inside,
        f"frame number below {FIRST_FRAME}": {f for f in labelled & warped & inside if f < FIRST_FRAME},
    }
    return SequenceFrames(
        sequence_dir=sequence_dir,
        event_index=event_index,
        train=tuple(frame for frame in listed if frame.frame not in HELD_OUT_FRAMES[name]),
        test=tuple(frame for frame in listed if frame.frame in labelled),
        unlisted_labels={reason: tuple(sorted(frames)) for reason, frames in reasons.items() if frames},
    )


def find_sequences(root_dir: str | Path) -> list[Path]:
    """Return the sequence folders in the root, in order of name.

    Raises:
        DataError: no root, no sequence in it, or a sequence without timestamps, events or warp images.
    """
    root = Path(root_dir)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder. Give the one that contains zurich_city_09_a ... _e as --root-dir.")
    sequences = [root / name for name in sorted(HELD_OUT_FRAMES) if os.path.isdir(root / name)]
    if not sequences:
        raise DataError(f"{root} contains no zurich_city_09_a ... _e. Give the folder that does as --root-dir.")
    for sequence in sequences:
        for part in ("images/timestamps.txt", "events/left/events.h5", "warp_images"):
            if not os.path.exists(sequence / part):
                raise DataError(f"{sequence / part} is missing. Add it, or move {sequence} elsewhere to leave it out.")
    return sequences


def _write_lines(path: Path, lines: Iterable[object], remedy: str) -> None:
    """Write one item per line, atomically; a file with the same content is left alone."""
    content = "".join(f"{line}\n" for line in lines)
    with contextlib.suppress(OSError):
        # Allows a read-only disk that already has the right file.
        if path.read_bytes() == content.encode():
            return
    try:
        write_text(path, content)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror}). {remedy}") from None


def _write_all(sequences: list[SequenceFrames], out_dir: Path) -> None:
    """Write the event index of every sequence, then both lists."""
    for sequence in sequences:
        _write_lines(
            sequence.sequence_dir / "images" / "images_to_events_index.txt",
            sequence.event_index,
            "The event index is written next to the images: make that folder writable, or use a writable copy.",
        )
    remedy = "Make the folder writable, or choose another one with --out."
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot create {out_dir} ({error.strerror}). {remedy}") from None
    for list_name, frames in (
        (TRAIN_LIST, [frame for sequence in sequences for frame in sequence.train]),
        (TEST_LIST, [frame for sequence in sequences for frame in sequence.test]),
    ):
        folders = {frame.sequence_dir: _seen_from(out_dir, frame.sequence_dir) for frame in frames}
        listed = [replace(frame, sequence_dir=folders[frame.sequence_dir]) for frame in frames]
        lines = [f"{frame.rectified_image.as_posix()} {frame.event_index}" for frame in listed]
        _write_lines(out_dir / list_name, lines, remedy)
        if not frames:
            logger.warning("%s is empty: no frame qualifies", out_dir / list_name)


def _seen_from(folder: Path, sequence_dir: Path) -> Path:
    """Path of a sequence relative to a folder, absolute if that does not lead there (links, other drives)."""
    with contextlib.suppress(ValueError, OSError):
        relative = Path(os.path.relpath(sequence_dir, folder))
        if os.path.samefile(folder / relative, sequence_dir):
            return relative
    return sequence_dir.absolute()


def _report(sequences: list[SequenceFrames], console: Console) -> None:
    """Warn about labels left out, then print a table of counts and the published totals."""
    table = TextTable()
    table.add_column("sequence")
    for column in ("images", "with events", "train", "test"):
        table.add_column(column, justify="right")
    for sequence in sequences:
        with_events = int((sequence.event_index > 0).sum())
        counts = (len(sequence.event_index), with_events, len(sequence.train), len(sequence.test))
        table.add_row(sequence.sequence_dir.name, *(f"{count:,}" for count in counts))
        for reason, frames in sequence.unlisted_labels.items():
            logger.warning(
                "%s: %d labelled frames are not listed (%s): %s",
                sequence.sequence_dir.name,
                len(frames),
                reason,
                ", ".join(f"{frame:06d}" for frame in frames[:5]) + (", ..." if len(frames) > 5 else ""),
            )
    console.print(table)
    train, test = sum(len(s.train) for s in sequences), sum(len(s.test) for s in sequences)
    say(
        console,
        f"{train:,} train and {test:,} test frames "
        f"(the full data has {PUBLISHED_TRAIN_FRAMES:,} and {PUBLISHED_TEST_FRAMES:,})",
    )


def create_dsec_lists(
    root_dir: str | Path, out_dir: str | Path = ".", console: Console | None = None
) -> list[SequenceFrames]:
    """Write the event index of every sequence under ``root_dir``, and the train and test list.

    Nothing is written until everything is computed. The lists hold image paths relative to their own folder, so that
    lists and data can be moved together.

    Args:
        root_dir: folder of DSEC_Night, with or without a slash at its end.
        out_dir: folder of the two lists, created if absent.
        console: for progress (only on a terminal) and the final table; stdout by default.

    Returns:
        One entry per sequence, in order of name.

    Raises:
        DataError: see :func:`find_sequences`, :func:`.read_timestamps` and :func:`image_event_index`; or a
            folder that cannot be written.
    """
    console = console or Console()
    sequences = []
    for sequence_dir in find_sequences(root_dir):
        timestamps = read_timestamps(sequence_dir / "images" / "timestamps.txt")
        steps = track(timestamps, sequence_dir.name, console=console, transient=True, disable=not console.is_terminal)
        event_index = image_event_index(sequence_dir / "events" / "left" / "events.h5", steps)
        sequences.append(select_frames(sequence_dir, event_index))
    _write_all(sequences, Path(out_dir))
    _report(sequences, console)
    return sequences
