"""DSEC-Semantic (Sun et al., "ESS", ECCV 2022): days of DSEC with labels in 11 or 19 classes.

Labels show the upper 440 of the event camera's 480 rows.
"""

from __future__ import annotations

from pathlib import Path

from mmseg.classes import CITYSCAPES_19, DSEC_11
from mmseg.datasets.dsec_frames import read_timestamps
from mmseg.errors import DataError
from mmseg.events.recording import HEIGHT
from mmseg.io.image_files import read_header
from mmseg.preparation.layouts import Selection
from mmseg.preparation.layouts.common import WITHOUT_LABELS, Lines, thinned
from mmseg.preparation.layouts.dsec_sequences import (
    TIMES,
    Frame,
    add_frames,
    find_sequences,
    numbered,
    warped_images,
)
from mmseg.preparation.manifests import NO_IMAGE, WINDOW, ManifestContent

SEQUENCES = {
    "train": tuple(f"zurich_city_{name}" for name in ("00_a", "01_a", "02_a", "04_a", "05_a", "06_a", "07_a", "08_a")),
    "test": tuple(f"zurich_city_{name}" for name in ("13_a", "14_c", "15_a")),
}
# Where label maps and their times lie: as in the code of ESS, and as downloaded. {n} is the number of classes.
LABELS = ("semantic/left/{n}classes/data", "semantic/{n}classes/data", "{n}classes")
LABEL_TIMES = ("semantic/timestamps.txt", "{name}_semantic_timestamps.txt")
CLASS_SETS = {"11": DSEC_11.name, "19": CITYSCAPES_19.name}
NO_IMAGE_THEN = "images/timestamps.txt has no image at the time of their label"
IDENTITY = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def find(root: Path, selection: Selection) -> ManifestContent:
    """Images of a split with the events of 50 ms before each, and labels.

    Raises:
        DataError: a sequence or one of its files is missing or damaged, or nothing is left.
    """
    assert selection.split is not None, "the option is required"
    lines = Lines("DSEC-Semantic")
    classes = selection.classes or "11"
    for sequence in find_sequences(root, SEQUENCES[selection.split], selection.sequences):
        frames = _frames(sequence, classes, lines) if selection.labels else _unlabelled(sequence)
        add_frames(lines, sequence, thinned(frames, selection))
    content = lines.done()
    content.header |= _header(content, CLASS_SETS[classes])
    return content


def _frames(sequence: Path, classes: str, lines: Lines) -> list[Frame]:
    """Labelled images of a sequence, in order of time."""
    labels = _labels(sequence, classes)
    times = _label_times(sequence, len(labels))
    images = warped_images(sequence)
    # Labels and images are counted from 0 alike. Where images have times too, these decide.
    number_at = {time: number for number, time in enumerate(_image_times(sequence) or [])}
    frames: list[Frame] = []
    for number, (label, time) in enumerate(zip(labels, times, strict=True)):
        image = images.get(number_at.get(time, -1) if number_at else number)
        if image is None:
            lines.content.left_out[NO_IMAGE_THEN if number_at and time not in number_at else NO_IMAGE] += 1
        else:
            frames.append(Frame(image, time, dict(WINDOW), label))
    return frames


def _unlabelled(sequence: Path) -> list[Frame]:
    """All images of a sequence that have a time."""
    times = _image_times(sequence)
    if times is None:
        raise DataError(f"{sequence / TIMES} does not exist; extract it from DSEC's archive of image times")
    found = sorted(warped_images(sequence).items())
    return [Frame(image, times[number], dict(WINDOW)) for number, image in found if number < len(times)]


def _image_times(sequence: Path) -> list[int] | None:
    path = sequence / TIMES
    return read_timestamps(path).tolist() if path.is_file() else None


def _labels(sequence: Path, classes: str) -> list[Path]:
    """Label maps in order of their numbers."""
    tried = [sequence / pattern.format(n=classes) for pattern in LABELS]
    for folder in tried:
        found = numbered(folder)
        if found:
            return [found[number] for number in sorted(found)]
    raise DataError(
        f"{sequence} has no label maps: none of {', '.join(map(str, tried))} holds files such as 000000.png; extract "
        f"the semantic labels of DSEC there, {WITHOUT_LABELS}"
    )


def _label_times(sequence: Path, count: int) -> list[int]:
    tried = [sequence / pattern.format(name=sequence.name) for pattern in LABEL_TIMES]
    path = next((path for path in tried if path.is_file()), None)
    if path is None:
        raise DataError(f"{sequence} has no times of its labels: neither {tried[0]} nor {tried[1]} exists; extract it")
    times = read_timestamps(path).tolist()
    if len(times) != count:
        raise DataError(f"{path} has {len(times)} lines for {count} label maps; extract both again")
    return times


def _header(content: ManifestContent, class_set: str) -> dict[str, object]:
    """Keys of the first line."""
    line = content.lines[0]
    height = read_header(line["image"]).height
    header: dict[str, object] = {"class_set": class_set, "events": {"mapping": "rectify_map"}}
    if height < HEIGHT:
        # Images without the rows of the hood: positions of the map are their pixels.
        header["events"] = {"mapping": "rectify_map", "matrix": IDENTITY}
    if line["label"] is not None:
        rows = read_header(line["label"]).height
        if rows < height:
            header["label_rows"] = rows
    return header
