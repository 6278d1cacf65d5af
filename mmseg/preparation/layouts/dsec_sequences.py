"""Sequences of DSEC and their files, as its archives unpack: events, images in the event camera's view, times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmseg.errors import DataError, did_you_mean
from mmseg.events.files import open_events
from mmseg.io.files import visible
from mmseg.preparation.layouts.common import Lines
from mmseg.preparation.manifests import NO_EVENTS, covers

EVENTS, RECTIFY_MAP = "events/left/events.h5", "events/left/rectify_map.h5"
TIMES = "images/timestamps.txt"
# Folders of images in the view of the rectified event camera: ours, and that of DSEC-Semantic.
WARPED = ("warp_images", "images/left/ev_inf")
# Splits that a copy may have above its sequences.
SPLITS = ("train", "test")
FILE_NAME = r"(\d{6})\.png"


@dataclass(frozen=True)
class Frame:
    """One image of a sequence.

    Attributes:
        image: in the view of the event camera.
        time: in µs, on the clock of the recording.
        window: of its events, as in a manifest.
        label: its label map; None for none.
    """

    image: Path
    time: int
    window: dict[str, int]
    label: Path | None = None


def find_sequences(root: Path, usual: Sequence[str], wanted: Sequence[str]) -> list[Path]:
    """Folders of sequences in a root, or in its folders ``train`` and ``test``.

    Args:
        root: folder of the data set.
        usual: names to take by default, as far as they are there.
        wanted: names to take instead; all must be there.

    Raises:
        DataError: a wanted one is missing, or there is none.
    """
    folders = [folder for folder in (root, *(root / split for split in SPLITS)) if folder.is_dir()]
    there = {
        path.name: path for folder in reversed(folders) for path in visible(folder, "*") if (path / EVENTS).exists()
    }
    missing = [name for name in wanted if name not in there]
    if missing:
        hint = did_you_mean(missing[0], there)
        raise DataError(f"{root} holds no {missing[0]}/{EVENTS}{hint}; its sequences with events: {_listed(there)}")
    names = wanted or [name for name in usual if name in there]
    if not names:
        raise DataError(
            f"{root} holds none of {', '.join(usual)} with {EVENTS}; give the folder that does, or --sequences. Its "
            f"sequences with events: {_listed(there)}"
        )
    return [there[name] for name in names]


def _listed(there: dict[str, Path]) -> str:
    return ", ".join(sorted(there)) or "none"


def warped_images(sequence: Path) -> dict[int, Path]:
    """Images in the event camera's view by their number.

    Raises:
        DataError: the sequence has none.
    """
    for folder in WARPED:
        found = numbered(sequence / folder)
        if found:
            return found
    looked = " nor ".join(str(sequence / folder) for folder in WARPED)
    raise DataError(
        f"neither {looked} holds images such as 000000.png; make them from images/left/rectified with 'python "
        f"tools/warp_images.py {sequence}'"
    )


def numbered(folder: Path) -> dict[int, Path]:
    """Files ``%06d.png`` of a folder by their number."""
    matches = [(re.fullmatch(FILE_NAME, path.name), path) for path in visible(folder, "*.png")]
    return {int(match[1]): path for match, path in matches if match}


def add_frames(lines: Lines, sequence: Path, frames: Sequence[Frame]) -> None:
    """Add images of a sequence, in order of time, without those whose window the recording does not cover.

    Raises:
        DataError: a damaged recording, or no rectify map.
    """
    events, rectify_map = sequence / EVENTS, sequence / RECTIFY_MAP
    if not rectify_map.is_file():
        raise DataError(f"{rectify_map} does not exist; extract it from the same archive as {events.name}")
    covered = covers(open_events(events), [frame.time for frame in frames], [frame.window for frame in frames])
    for frame, is_covered in zip(frames, covered, strict=True):
        if not is_covered:
            lines.content.left_out[NO_EVENTS] += 1
            continue
        lines.add(
            frame.image,
            frame.label,
            events=events,
            rectify_map=rectify_map,
            time=frame.time,
            window=frame.window,
            sequence=sequence.name,
        )
