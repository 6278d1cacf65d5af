"""Overview picture of a toy city."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mmseg.datasets.frames import FramesDataset
from mmseg.events.recording import EventRecording
from mmseg.io.files import visible
from mmseg.io.image_files import open_image, open_label
from mmseg.toy.manifests import MANIFESTS
from mmseg.visualization.panels import color_label, panel, save_picture

ROWS = 4
CELL_WIDTH = 400


def _fit(picture: np.ndarray, nearest: bool = False) -> np.ndarray:
    """Scale to the width of a cell."""
    height = round(picture.shape[0] * CELL_WIDTH / picture.shape[1])
    way = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA
    return cv2.resize(picture, (CELL_WIDTH, height), interpolation=way)


def _spread(items: list, count: int) -> list:
    """At most ``count`` items, evenly spaced."""
    positions = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[round(position)] for position in positions]


def event_picture(night: FramesDataset, index: int, scale: float = 2.0) -> np.ndarray:
    """(H, W, 3) uint8: events of a frame, red where brighter, blue where darker, on white.

    Args:
        night: frames with events and a rectify map.
        index: of the frame.
        scale: excess of events of one sign that gives full colour.
    """
    frame, (height, width) = night.frames[index], night.size
    assert frame.events is not None, "every frame of a toy city has events"
    events = EventRecording(frame.events, frame.rectify_map, night.size).window(*night.windows[index])
    x, y = np.rint(events.x).astype(np.int64), np.rint(events.y).astype(np.int64)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    weights = events.p[inside] * 2.0 - 1
    total = np.bincount(y[inside] * width + x[inside], weights, minlength=width * height).reshape(height, width)
    total = np.clip(total / scale, -1, 1)
    rgb = np.stack((1 + np.minimum(total, 0), 1 - np.abs(total), 1 - np.maximum(total, 0)), axis=-1)
    return (rgb * 255).astype(np.uint8)


def _day_rows(city: Path) -> dict[str, np.ndarray]:
    pictures = {}
    for path in _spread(visible(city / "leftImg8bit/train", "*/*.png"), ROWS):
        name, folder = path.name.replace("_leftImg8bit.png", ""), path.parent.name
        label = city / "gtFine/train" / folder / f"{name}_gtFine_labelTrainIds.png"
        change = city / "leftImg8bit_IC1/train" / folder / path.name
        pictures[f"day image {name}"] = _fit(np.asarray(open_image(path, "RGB")))
        pictures[f"label {name}"] = _fit(color_label(np.asarray(open_label(label))), nearest=True)
        pictures[f"image change {name}"] = _fit(np.asarray(open_image(change, "RGB")))
    return pictures


def _night_rows(out: Path, sensor: tuple[int, int]) -> dict[str, np.ndarray]:
    pictures = {}
    for kind, rows in (("test", ROWS), ("train", ROWS // 2)):
        night = FramesDataset(out / MANIFESTS[kind], sensor, ("image", "events_vg"))
        for index in _spread(list(range(len(night))), rows):
            frame = night.frames[index]
            title = f"{frame.sequence} {frame.image.stem}"
            pictures[f"night image {title}"] = _fit(np.asarray(open_image(frame.image, "RGB")))
            pictures[f"events {title}"] = _fit(event_picture(night, index))
            label = np.full((*night.size, 3), 255, np.uint8)
            if frame.label:
                label = color_label(np.asarray(open_label(frame.label)))
            pictures[f"{'label' if frame.label else 'train frame, no label'} {title}"] = _fit(label, nearest=True)
    return pictures


def write_contact_sheet(out: Path, sensor: tuple[int, int], path: Path) -> None:
    """Write rows of day image, label, image change and of night image, events, label as one PNG.

    Args:
        out: a toy city with its manifests.
        sensor: (width, height) of its night images.
        path: of the picture.
    """
    day, night = _day_rows(out / "data/cityscapes"), _night_rows(out, sensor)
    save_picture(path, np.concatenate([panel(day, columns=3), panel(night, columns=3)]))
