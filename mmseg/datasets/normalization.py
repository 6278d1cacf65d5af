"""Normalisation of images at the input of the network."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mmseg.system.compiled import compiled

# ImageNet mean and standard deviation of RGB in 0..255.
IMAGE_MEAN = (123.675, 116.28, 103.53)
IMAGE_STD = (58.395, 57.12, 57.375)


def normalize_image(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 RGB -> (3, H, W) float32 network input.

    Raises:
        ValueError: an image of another type or shape, for which the compiled loop would read outside its table.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"the image is {rgb.shape} of {rgb.dtype}, not (H, W, 3) of uint8")
    normal = np.empty((3, *rgb.shape[:2]), np.float32)
    _look_up(rgb, _table(), normal)
    return torch.from_numpy(normal)


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """(256, 3) float32: network input for each value of each channel."""
    values = np.arange(256, dtype=np.float32)[:, None]
    return (values - np.array(IMAGE_MEAN, np.float32)) / np.array(IMAGE_STD, np.float32)


@compiled
def _look_up(rgb, table, normal):
    for row in range(rgb.shape[0]):
        for column in range(rgb.shape[1]):
            for channel in range(3):
                normal[channel, row, column] = table[rgb[row, column, channel], channel]
