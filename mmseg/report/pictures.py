"""Small pictures for a report, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmseg.classes import CITYSCAPES_19, IGNORE_LABEL, ClassSet
from mmseg.io.image_files import decode, stored_samples
from mmseg.visualization.panels import GAP, TITLE_HEIGHT

WIDTH = 440
QUALITY = 68
# Event and content maps are dots on white: a low quality saves much and is not visible.
SIGNED_QUALITY = 30


def open_pixels(path: Path) -> np.ndarray:
    """Pixels of a file: (H, W) stored samples, or (H, W, 3) uint8 RGB.

    Raises:
        DataError: no such file, or not a picture.
    """
    image, header = decode(path, remedy="test the run again")
    samples = stored_samples(image, header)
    return np.asarray(image.convert("RGB") if samples is None else samples)


def panel_tiles(path: Path, titles: Sequence[str], width: int) -> dict[str, np.ndarray]:
    """Cut a panel into its pictures (H, W, 3) by title; empty if it does not contain that many of this width.

    Args:
        titles: titles from left to right.
        width: of one picture, in pixels.
    """
    pixels = open_pixels(path)
    if pixels.ndim != 3 or pixels.shape[1] != len(titles) * (width + GAP) + GAP:
        return {}
    top, bottom = GAP + TITLE_HEIGHT, pixels.shape[0] - GAP
    lefts = [GAP + i * (width + GAP) for i in range(len(titles))]
    return {title: pixels[top:bottom, x : x + width] for title, x in zip(titles, lefts, strict=True)}


def train_ids(colored: np.ndarray, classes: ClassSet = CITYSCAPES_19) -> np.ndarray:
    """(H, W, 3) in the colours of the classes -> (H, W) uint8 classes; other colours become the ignore label."""
    codes = colored.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    ids = np.full(codes.shape, IGNORE_LABEL, np.uint8)
    for i, (red, green, blue) in enumerate(classes.palette):
        ids[codes == (red << 16 | green << 8 | blue)] = i
    return ids


def photo_uri(pixels: np.ndarray, quality: int = QUALITY) -> str:
    """(H, W, 3) uint8 -> WebP as data URI, at most ``WIDTH`` pixels wide."""
    image = Image.fromarray(pixels)
    return _uri(image.resize(_size(image), Image.Resampling.LANCZOS), "WEBP", quality=quality, method=5)


def class_map_uri(ids: np.ndarray, classes: ClassSet = CITYSCAPES_19) -> str:
    """(H, W) classes -> PNG in their colours as data URI; colours stay exact."""
    number = len(classes)
    # One more colour than there are classes: ignored pixels are black.
    colors = (*classes.palette, (0, 0, 0))
    image = Image.fromarray(np.where(ids < number, ids, number).astype(np.uint8))
    image = image.resize(_size(image), Image.Resampling.NEAREST)
    image.putpalette(np.array(colors, np.uint8).tobytes())
    return _uri(image, "PNG", optimize=True)


def _size(image: Image.Image) -> tuple[int, int]:
    width = min(WIDTH, image.width)
    return width, max(1, round(image.height * width / image.width))


def _uri(image: Image.Image, kind: str, **options: object) -> str:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"
