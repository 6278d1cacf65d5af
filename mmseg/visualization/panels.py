"""Pictures of network inputs, predictions and labels, and panels of them with titles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from mmseg.classes import CITYSCAPES_19, ClassSet
from mmseg.datasets.normalization import IMAGE_MEAN, IMAGE_STD
from mmseg.io.files import atomic_path

GAP = 4
TITLE_HEIGHT = 22


@lru_cache(maxsize=8)
def _color_table(classes: ClassSet) -> np.ndarray:
    """(256, 3) uint8 RGB by class; others are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = classes.palette
    return table


def color_label(label: np.ndarray, classes: ClassSet = CITYSCAPES_19) -> np.ndarray:
    """(H, W) classes -> (H, W, 3) uint8 RGB in the colours of the class set; ignored pixels are black."""
    return _color_table(classes)[label.astype(np.uint8)]


def image_picture(image: Tensor) -> np.ndarray:
    """Network input (3, H, W) -> (H, W, 3) uint8 RGB."""
    rgb = image.detach().float().cpu().permute(1, 2, 0).numpy() * IMAGE_STD + IMAGE_MEAN
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def signed_picture(signed: Tensor) -> np.ndarray:
    """Map (C, H, W) in [-1, 1] -> (H, W, 3) uint8 RGB: white at 0, red if positive, blue if negative."""
    value = signed[0].detach().float().cpu().numpy()
    positive, negative = np.clip(value, 0, 1), np.clip(-value, 0, 1)
    rgb = 1 - np.stack((negative, positive + negative, positive), axis=-1)
    return (np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def weight_picture(weight: Tensor) -> np.ndarray:
    """Weight (H, W) in [0, 1] -> (H, W, 3) uint8 grey."""
    grey = (weight.detach().float().cpu().numpy().clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def confidence_picture(confidence: np.ndarray) -> np.ndarray:
    """Probabilities (H, W) in [0, 1] -> (H, W) uint8 in 0..255."""
    return np.rint(confidence * 255).astype(np.uint8)


def overlay_picture(colors: np.ndarray, image: np.ndarray, opacity: float) -> np.ndarray:
    """Colours over an image, both (H, W, 3) uint8, with an opacity of 0..1."""
    return cv2.addWeighted(colors, opacity, image, 1 - opacity, 0)


def label_picture(label: Tensor, classes: ClassSet = CITYSCAPES_19) -> np.ndarray:
    """Classes (H, W) -> (H, W, 3) uint8 RGB."""
    return color_label(label.detach().cpu().numpy(), classes)


def panel(pictures: Mapping[str, np.ndarray], columns: int | None = None) -> np.ndarray:
    """Put titled pictures of one size side by side, in rows of ``columns``; (H', W', 3) uint8 RGB."""
    columns = columns or len(pictures)
    height, width = next(iter(pictures.values())).shape[:2]
    rows = -(-len(pictures) // columns)
    shape = (rows * (height + TITLE_HEIGHT + GAP) + GAP, columns * (width + GAP) + GAP, 3)
    canvas = np.full(shape, 255, np.uint8)
    for i, (title, picture) in enumerate(pictures.items()):
        y = i // columns * (height + TITLE_HEIGHT + GAP) + GAP
        x = i % columns * (width + GAP) + GAP
        _write_title(canvas, title, x, y, width)
        y += TITLE_HEIGHT
        canvas[y : y + height, x : x + width] = picture
    return canvas


def _write_title(canvas: np.ndarray, title: str, x: int, y: int, width: int) -> None:
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    text_width = cv2.getTextSize(title, font, scale, 1)[0][0]
    scale *= min(1.0, width / max(text_width, 1))
    cv2.putText(canvas, title, (x + 1, y + TITLE_HEIGHT - 7), font, scale, (0, 0, 0), 1, cv2.LINE_AA)


def save_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) RGB or (H, W) grey uint8 as PNG, atomically.

    Raises:
        OSError: the picture cannot be written.
    """
    if picture.ndim == 3:
        picture = picture[..., ::-1]
    with atomic_path(path) as temporary:
        written, data = cv2.imencode(".png", picture)
        if not written:
            raise OSError(f"cannot encode {path}")
        temporary.write_bytes(data.tobytes())


def step_panel(pictures: Mapping[str, Tensor], classes: ClassSet = CITYSCAPES_19, sample: int = 0) -> np.ndarray:
    """Panel of one sample of a training step, with a row each for source, target, mixed and masked batch, if any."""
    columns: Sequence[tuple[str, str]] = (
        ("image", "image"),
        ("events", "signed"),
        ("img_self_res", "signed"),
        ("label", "label"),
        ("weight", "weight"),
    )
    aliases = {"target.label": "target.pseudo_label", "target.weight": "target.pseudo_weight"}
    render: Mapping[str, Callable[[Tensor], np.ndarray]] = {
        "image": image_picture,
        "signed": signed_picture,
        "label": partial(label_picture, classes=classes),
        "weight": weight_picture,
    }
    shown: dict[str, np.ndarray] = {}
    size = pictures["source.image"].shape[2:]
    present = [c for c in columns if any(f"{row}.{c[0]}" in pictures for row in ("source", "mixed"))]
    rows = ["source", "target", "mixed"] + ["masked"] * ("masked.image" in pictures)
    for row in rows:
        for name, kind in present:
            key = f"{row}.{name}"
            tensor = pictures.get(aliases.get(key, key))
            title = aliases.get(key, key)
            shown[title] = np.full((*size, 3), 255, np.uint8) if tensor is None else render[kind](tensor[sample])
    return panel(shown, columns=len(present))
