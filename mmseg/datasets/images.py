"""Reading image and label files, random crops, and the tensors made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmseg.datasets.classes import CLASSES, IGNORE_LABEL, LABEL_NAME_TO_ID
from mmseg.datasets.image_decoding import decode, stored_samples, upright
from mmseg.errors import ConfigError, DataError


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
    """Read an image file whole, upright, as 8 bits a value.

    Palettes, alpha (left out), one-bit, grey and CMYK images become the mode asked for. More than 8 bits a value are
    refused: which part of their range the picture fills is not said in a file.

    Args:
        path: a file of one of :data:`.FORMATS`, whatever its suffix.
        mode: ``RGB`` or ``L``.

    Raises:
        DataError: see :func:`.decode`; or more than 8 bits a value, or colours that cannot be converted.
    """
    image, header = decode(path)
    if header.bits > 8:
        raise DataError(f"{path} has more than 8 bits a value ({header.bits}); convert it to 8 bits")
    image = upright(image)
    if image.mode == mode:
        return image
    # One colour that counts as transparent does not change the pixels, but makes Pillow warn.
    image.info.pop("transparency", None)
    try:
        return image.convert(mode)
    except ValueError:
        raise DataError(f"{path} has colours of mode {image.mode}; convert it to RGB") from None


@dataclass(frozen=True)
class LabelKind:
    """What the values of a label map may be, and how messages call one of them."""

    values: frozenset[int]
    name: str


TRAIN_IDS = LabelKind(frozenset({*range(len(CLASSES)), IGNORE_LABEL}), "train id")
LABEL_IDS = LabelKind(frozenset({label_id % 256 for label_id in LABEL_NAME_TO_ID.values()} | {255}), "label id")


def open_label(path: str | Path, remedy: str = "replace the file", kind: LabelKind = TRAIN_IDS) -> Image.Image:
    """Read a label map, a PNG file of grey samples (1 to 16 bits, as they are stored) or palette indices.

    Args:
        path: the file.
        remedy: ends the messages on a file that is not such a map.
        kind: values that it may hold.

    Returns:
        Image of mode ``L`` with these values.

    Raises:
        DataError: missing or damaged file, colours in the place of classes, or other values.
    """
    image, header = decode(path, formats=("PNG",), remedy=remedy)
    label = stored_samples(image, header)
    if label is None:
        raise DataError(
            f"{path} has pixels of mode {header.color!r}, expected 8-bit grey or palette indices: it is a picture, not "
            f"a map of classes; {remedy}"
        )
    if label.mode == "L":
        values = [value for value, count in enumerate(label.histogram()) if count]
    else:
        values = np.unique(label).tolist()
    strange = [value for value in values if value not in kind.values]
    if len(strange) == 1:
        raise DataError(f"{path} holds the value {strange[0]}, which is not a Cityscapes {kind.name}; {remedy}")
    if strange:
        raise DataError(f"{path} holds the values {strange[:5]}, which are no {kind.name}s; {remedy}")
    return label if label.mode == "L" else Image.fromarray(np.asarray(label).astype(np.uint8))


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
