"""Overview picture of a toy city."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mmseg.datasets.dsec_frames import DSECFrame, read_event_index, read_frame_list
from mmseg.events.recording import HEIGHT, WIDTH, EventRecording
from mmseg.io.files import visible
from mmseg.io.image_files import open_image, open_label
from mmseg.preparation.dsec_lists import TEST_LIST, TRAIN_LIST
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


def event_picture(frame: DSECFrame, scale: float = 2.0) -> np.ndarray:
    """(480, 640, 3) uint8: events since the frame before, red where brighter, blue where darker, on white.

    Args:
        frame: from a frame list; its index file must exist.
        scale: excess of events of one sign that gives full colour.
    """
    start = int(read_event_index(frame.index_file)[frame.frame - 1])
    events = EventRecording(frame.events_file, frame.rectify_map_file).window(max(start, 0), frame.event_index)
    x, y = np.rint(events.x).astype(np.int64), np.rint(events.y).astype(np.int64)
    inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
    weights = events.p[inside] * 2.0 - 1
    total = np.bincount(y[inside] * WIDTH + x[inside], weights, minlength=WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
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


def _night_rows(out: Path) -> dict[str, np.ndarray]:
    pictures = {}
    for name in (TEST_LIST, TRAIN_LIST):
        for frame in _spread(read_frame_list(out / name), ROWS if name == TEST_LIST else ROWS // 2):
            title = f"{frame.sequence} {frame.frame:06d}"
            pictures[f"night image {title}"] = _fit(np.asarray(open_image(frame.warp_image, "RGB")))
            pictures[f"events {title}"] = _fit(event_picture(frame))
            known = frame.label.is_file()
            label = (
                color_label(np.asarray(open_label(frame.label)))
                if known
                else np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
            )
            pictures[f"{'label' if known else 'train frame, no label'} {title}"] = _fit(label, nearest=True)
    return pictures


def write_contact_sheet(out: Path, path: Path) -> None:
    """Write rows of day image, label, image change and of night image, events, label as one PNG.

    Args:
        out: a toy city with its frame lists.
        path: of the picture.
    """
    day, night = _day_rows(out / "data/cityscapes"), _night_rows(out)
    save_picture(path, np.concatenate([panel(day, columns=3), panel(night, columns=3)]))
