"""Reading image and label files, random crops, and the tensors made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmseg.datasets.classes import CLASSES, IGNORE_LABEL
from mmseg.errors import ConfigError, DataError

VALID_LABELS = {*range(len(CLASSES)), IGNORE_LABEL}


@dataclass(frozen=True)
class CropDraw:
    """Random draw of a sample: left upper corner of the crop, in pixels, and horizontal flip."""

    x: int
    y: int
    flip: bool

    @classmethod
    def make(cls, rng: np.random.Generator, width: int, height: int, crop_width: int, crop_height: int) -> CropDraw:
        """Draw a crop of ``crop_width`` x ``crop_height`` inside ``width`` x ``height``."""
        flip = bool(rng.random() < 0.5)
        x, y = rng.integers(0, width - crop_width + 1), rng.integers(0, height - crop_height + 1)
        return cls(int(x), int(y), flip)

    def apply(self, image: Image.Image, crop_width: int, crop_height: int) -> Image.Image:
        """Crop and flip an image."""
        image = image.crop((self.x, self.y, self.x + crop_width, self.y + crop_height))
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flip else image


def open_image(path: str | Path, mode: str) -> Image.Image:
    """Read an image file whole and convert it to a PIL mode.

    Raises:
        DataError: missing or damaged file.
    """
    try:
        with Image.open(path) as image:
            return image.convert(mode) if image.mode != mode else image.copy()
    except FileNotFoundError:
        raise DataError(f"image {path} does not exist") from None
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path} is not a readable image ({error}); replace the file") from error


def open_label(path: str | Path) -> Image.Image:
    """Read a map of train ids (0..18, 255 ignored) as mode 'L'.

    Raises:
        DataError: missing or damaged file, or other values in it.
    """
    label = open_image(path, "L")
    strange = [value for value, count in enumerate(label.histogram()) if count and value not in VALID_LABELS]
    if strange:
        raise DataError(
            f"{path} holds the values {strange[:5]}, which are no train ids (0..{len(CLASSES) - 1}, {IGNORE_LABEL}); "
            "make label maps with tools/convert_datasets/cityscapes.py"
        )
    return label


def label_tensor(label: Image.Image) -> Tensor:
    """Label image of mode 'L' -> (1, H, W) int64."""
    return torch.from_numpy(np.array(label, dtype=np.int64))[None]


def grey_tensor(image: Image.Image) -> Tensor:
    """PIL image -> (H, W) uint8 grey levels."""
    return torch.from_numpy(np.array(image.convert("L")))


def three_channels(single: Tensor) -> Tensor:
    """(H, W) or (1, H, W) -> (3, H, W), one channel repeated."""
    return single.expand(3, *single.shape[-2:])


def check_crop(crop: tuple[int, int], size: tuple[int, int], where: str) -> None:
    """Refuse a crop that is larger than the image; both (width, height).

    Raises:
        ConfigError: naming ``where``.
    """
    if crop[0] > size[0] or crop[1] > size[1]:
        raise ConfigError(f"{where}: a crop of {crop[0]}x{crop[1]} does not fit into {size[0]}x{size[1]} pixels")


def check_outputs(outputs: object, known: tuple[str, ...], where: str) -> frozenset[str]:
    """Read an ``outputs`` key (set or list of names).

    Raises:
        ConfigError: an unknown name.
    """
    names = frozenset(outputs)
    unknown = sorted(names - set(known))
    if unknown:
        raise ConfigError(f"{where}: unknown output {', '.join(unknown)}; known: {', '.join(known)}")
    return names
