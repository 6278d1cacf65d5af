"""Pictures of the frames of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmseg.classes import ClassSet
from mmseg.report.data import Report, Test, output_rank
from mmseg.report.pictures import QUALITY, SIGNED_QUALITY, class_map_uri, open_pixels, panel_tiles, photo_uri, train_ids
from mmseg.visualization.panels import color_label
from mmseg.work_dir.layout import TestFolder

# Title in a panel -> title in a report, in the order of the report.
INPUTS = {"image": "image", "events": "events", "img_self_res": "content map"}
LABEL = "label"


@dataclass(frozen=True)
class Picture:
    """A picture of a frame.

    Attributes:
        key: ``image``, ``events``, ``img_self_res``, ``label``, or ``test<n>`` for the prediction of a test.
        title: display title.
        uri: data URI.
        classes: whether it is a class map in the colours of the classes.
    """

    key: str
    title: str
    uri: str
    classes: bool


def gallery_tests(tests: Sequence[Test]) -> list[tuple[int, Test]]:
    """Tests with their numbers, run by run; within a run, the outputs of image, events and both come first."""
    runs = list(dict.fromkeys(test.run.folder if test.run else test.folder for test in tests))

    def place(item: tuple[int, Test]) -> tuple[int, int, int]:
        number, test = item
        return runs.index(test.run.folder if test.run else test.folder), output_rank(test), number

    return sorted(enumerate(tests), key=place)


def frame_pictures(report: Report, name: str) -> list[Picture]:
    """Available pictures of a frame: inputs, predictions, label.

    Raises:
        DataError: a file is not a picture.
    """
    tiles = _tiles(report.tests, name)
    pictures = []
    for key, title in INPUTS.items():
        if key in tiles:
            uri = photo_uri(tiles[key], QUALITY if key == "image" else SIGNED_QUALITY)
            pictures.append(Picture(key, title, uri, False))
    for number, test in gallery_tests(report.tests):
        path = TestFolder(test.folder).prediction(name)
        if name in test.frames and path.is_file():
            ids = _ids(open_pixels(path), test.classes)
            pictures.append(Picture(f"test{number}", test.title, class_map_uri(ids, test.classes), True))
    if LABEL in tiles:
        uri = class_map_uri(train_ids(tiles[LABEL], report.classes), report.classes)
        pictures.append(Picture(LABEL, LABEL, uri, True))
    return pictures


def frame_arrays(tests: Sequence[Test], name: str) -> dict[str, np.ndarray]:
    """Pictures of a frame at their full size, (H, W, 3) uint8: inputs by title, ``label``, ``test<n>`` by prediction.

    Raises:
        DataError: a file is not a picture.
    """
    tiles = _tiles(tests, name)
    found = {title: tiles[key] for key, title in INPUTS.items() if key in tiles}
    for number, test in enumerate(tests):
        path = TestFolder(test.folder).prediction(name)
        if name in test.frames and path.is_file():
            found[f"test{number}"] = color_label(_ids(open_pixels(path), test.classes), test.classes)
    return found | ({LABEL: tiles[LABEL]} if LABEL in tiles else {})


def frame_ids(test: Test, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Prediction and label of a frame, (H, W) uint8 classes each; None without the panel of a label.

    Raises:
        DataError: a file is not a picture.
    """
    label = _tiles([test], name).get(LABEL)
    if label is None:
        return None
    return _ids(open_pixels(TestFolder(test.folder).prediction(name)), test.classes), train_ids(label, test.classes)


def _ids(pixels: np.ndarray, classes: ClassSet) -> np.ndarray:
    return pixels if pixels.ndim == 2 else train_ids(pixels[..., :3], classes)


def _tiles(tests: Sequence[Test], name: str) -> Mapping[str, np.ndarray]:
    """Pictures of inputs and label by title, each from the first test whose panels contain it."""
    found: dict[str, np.ndarray] = {}
    for titles, panel, prediction in _panels(tests, name):
        if not set(titles) & {*INPUTS, LABEL} - found.keys():
            continue
        tiles = panel_tiles(panel, titles, open_pixels(prediction).shape[1])
        found = {**tiles, **found}
    return found


def _panels(tests: Sequence[Test], name: str) -> Iterator[tuple[tuple[str, ...], Path, Path]]:
    """Titles, panel and prediction of a frame in each test that has both."""
    for test in tests:
        files = TestFolder(test.folder)
        panel, prediction = files.panel(name), files.prediction(name)
        if test.panel and name in test.frames and panel.is_file() and prediction.is_file():
            yield test.panel, panel, prediction
