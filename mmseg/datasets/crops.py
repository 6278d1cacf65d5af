"""Random crops of images and label maps, and the tensors made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmseg.errors import ConfigError

# Whoever makes samples finds the readers here too; tools take them from their own module, which is without torch.
from mmseg.io.image_files import open_image as open_image
from mmseg.io.image_files import open_label as open_label


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
