"""Random crops of images and label maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmseg.errors import ConfigError


@dataclass(frozen=True)
class CropDraw:
    """Random draw of a sample: upper left corner of the crop, in pixels, and horizontal flip."""

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


def check_crop(crop: tuple[int, int], size: tuple[int, int], where: str) -> None:
    """Refuse a crop that is larger than the image; both (width, height).

    Raises:
        ConfigError: naming ``where``.
    """
    if crop[0] > size[0] or crop[1] > size[1]:
        raise ConfigError(f"{where}: a crop of {crop[0]}x{crop[1]} does not fit into {size[0]}x{size[1]} pixels")
