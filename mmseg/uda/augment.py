"""Colour jitter and blur of the mixed image, and its 8-bit form.

The jitter follows kornia 0.5.8, which the published training used: brightness is added, contrast multiplies
without subtracting the mean, saturation and hue work in HSV. Today's kornia and torchvision differ by up to 0.24.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.datasets.normalization import IMAGE_MEAN, IMAGE_STD
from mmseg.extractors.content import GREY_WEIGHTS, grey_level
from mmseg.system.compiled import compiled
from mmseg.uda.draws import JitterFactors

EPSILON = 1e-6


@lru_cache(maxsize=8)
def _mean_std_largest(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and deviation (3, 1, 1) and the largest grey level. Cached, since a copy to a GPU would stall the step."""
    mean, std = (torch.tensor(v, device=device, dtype=dtype).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    return mean, std, torch.tensor(255.0, device=device, dtype=dtype)


def denormalize(image: Tensor) -> Tensor:
    """Network input (..., 3, H, W) -> intensities in [0, 1]."""
    mean, std, largest = _mean_std_largest(image.device, image.dtype)
    # A GPU multiplies by the reciprocal of a Python number, but divides by a tensor on the device. Only the division
    # gives the 8-bit images of a CPU; otherwise 0.4 % of the values are off by one.
    return (image * std + mean) / largest


def renormalize(image: Tensor) -> Tensor:
    """Inverse of :func:`denormalize`."""
    mean, std, largest = _mean_std_largest(image.device, image.dtype)
    return (image * largest - mean) / std


def to_uint8(image: Tensor) -> Tensor:
    """Network input (..., 3, H, W) -> uint8 RGB, truncated as in the reference."""
    return (denormalize(image).clamp(0, 1) * 255).to(torch.uint8)


def input_grey_level(images: Tensor) -> Tensor:
    """Network input (B, 3, H, W) -> grey levels (B, H, W) uint8 of its :func:`to_uint8` form."""
    if images.device.type != "cpu":
        return grey_level(to_uint8(images))
    grey = np.empty((len(images), *images.shape[2:]), np.uint8)
    mean, std = np.array(IMAGE_MEAN, np.float32), np.array(IMAGE_STD, np.float32)
    _grey_levels(images.numpy(), mean, std, np.array(GREY_WEIGHTS, np.int32), grey)
    return torch.from_numpy(grey)


@compiled
def _grey_levels(images, mean, std, weights, grey):
    """The operations of ``to_uint8`` and ``grey_level``, in the same order, in one pass."""
    largest, nothing, one = np.float32(255), np.float32(0), np.float32(1)
    for i in range(images.shape[0]):
        for row in range(images.shape[2]):
            for column in range(images.shape[3]):
                total = np.int32(32768)
                for channel in range(3):
                    value = (images[i, channel, row, column] * std[channel] + mean[channel]) / largest
                    value = min(max(value, nothing), one) * largest
                    total += np.int32(value) * weights[channel]
                grey[i, row, column] = total >> 16


def rgb_to_hsv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(3, H, W) in [0, 1] -> hue in radians [0, 2 pi), saturation and value in [0, 1], each (H, W)."""
    red, green, blue = image
    value, which = image.max(dim=0)
    delta = value - image.min(dim=0).values
    saturation = delta / (value + EPSILON)
    safe = torch.where(delta == 0, 1.0, delta)
    sextant = torch.stack((green - blue, (blue - red) + 2 * safe, (red - green) + 4 * safe))
    hue = sextant.gather(0, which[None])[0] / safe
    return 2 * math.pi * ((hue / 6) % 1.0), saturation, value


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Inverse of :func:`rgb_to_hsv`; (3, H, W)."""
    sextant = hue / (2 * math.pi) * 6
    channels = []
    for offset in (5, 3, 1):
        k = (offset + sextant) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels)


def color_jitter(image: Tensor, factors: JitterFactors) -> Tensor:
    """Jitter one image (3, H, W) in [0, 1]."""
    for operation in factors.order:
        if operation == 0:
            image = (image + (factors.brightness - 1)).clamp(0, 1)
        elif operation == 1:
            image = (image * factors.contrast).clamp(0, 1)
        else:
            hue, saturation, value = rgb_to_hsv(image)
            if operation == 2:
                saturation = (saturation * factors.saturation).clamp(0, 1)
            else:
                hue = torch.fmod(hue + factors.hue * 2 * math.pi, 2 * math.pi)
            image = hsv_to_rgb(hue, saturation, value)
    return image


def blur_kernel_size(side: int) -> int:
    """Odd kernel size of about a tenth of a side."""
    tenth = math.ceil(0.1 * side)
    return math.floor(tenth - 0.5 + tenth % 2)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur (B, C, H, W) by a separable Gaussian with reflected borders."""
    channels = images.shape[1]
    for dim in (2, 3):
        size = blur_kernel_size(images.shape[dim])
        x = torch.arange(size, dtype=torch.float32, device=images.device) - size // 2
        kernel = torch.exp(-(x**2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum()).to(images.dtype)
        shape = [channels, 1, 1, 1]
        shape[dim] = size
        pad = [0, 0, 0, 0]
        pad[(3 - dim) * 2] = pad[(3 - dim) * 2 + 1] = size // 2
        images = F.conv2d(
            F.pad(images, pad, mode="reflect"), kernel.view(1, 1, *shape[2:]).expand(shape), groups=channels
        )
    return images
