"""Normalisation of images at the input of the network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# ImageNet mean and standard deviation of RGB in 0..255.
IMAGE_MEAN = (123.675, 116.28, 103.53)
IMAGE_STD = (58.395, 57.12, 57.375)


def normalize_image(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 RGB -> (3, H, W) float32 network input."""
    image = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    return (image - mean) / std
