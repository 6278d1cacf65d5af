"""Image Content-Extractor, ICE (CMDA, section 3.3).

The log-intensity difference of an image with its own copy, shifted by a few pixels: it keeps edges and drops
the smooth glare of lamps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.errors import ConfigError, did_you_mean
from mmseg.events.normalize import rescale_array, rescale_halves
from mmseg.system.compiled import compiled

SHIFTS: dict[str, tuple[str, ...]] = {
    "rightdown": ("right", "down"),
    "leftdown": ("left", "down"),
    "rightup": ("right", "up"),
    "leftup": ("left", "up"),
    "all": ("right", "down", "left", "up"),
}
# Rows and columns by which each shift moves the image's content.
STEPS = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}
RANDOM_DIRECTIONS = (("leftdown", "leftup"), ("rightdown", "rightup"))
SHIFT_TYPES = ("random", *SHIFTS)

# ``isr_parms`` of a config; '' and None give none.
IsrParms = Mapping[str, Any] | Literal[""] | None
# Weights of PIL's conversion from RGB to grey, in 1/65536.
GREY_WEIGHTS = (19595, 38470, 7471)


@dataclass(frozen=True)
class ContentParams:
    """Parameters of the extractor.

    Attributes:
        val_range: intensities (lo, hi) to which grey levels 0 and 255 are mapped before the logarithm; lo > 0.
        threshold: smallest difference kept, as a share of log(hi) - log(lo).
        clip_range: largest difference, as the same share.
        shift_pixel: shift in pixels, >= 1.
    """

    val_range: tuple[float, float]
    threshold: float
    clip_range: float
    shift_pixel: int

    @classmethod
    def from_config(cls, cfg: IsrParms, default: ContentParams, where: str) -> ContentParams:
        """Read ``isr_parms`` of a config; None or '' gives ``default``."""
        if not cfg:
            return default
        names = {
            "val_range": "val_range",
            "_threshold": "threshold",
            "_clip_range": "clip_range",
            "shift_pixel": "shift_pixel",
        }
        for key in cfg:
            if key not in names:
                raise ConfigError(f"{where}: unknown key {key!r}{did_you_mean(key, names)}")
        missing = [key for key in names if key not in cfg]
        if missing:
            raise ConfigError(f"{where}: missing {', '.join(missing)}")
        values = {names[key]: value for key, value in cfg.items()}
        low, high = values["val_range"]
        if not 0 < low < high or int(values["shift_pixel"]) < 1:
            raise ConfigError(f"{where}: needs 0 < val_range[0] < val_range[1] and shift_pixel >= 1, got {cfg}")
        return cls((float(low), float(high)), values["threshold"], values["clip_range"], values["shift_pixel"])


def params_of_data_type(
    isr_parms: IsrParms, data_type: str, types: Mapping[str, ContentParams], where: str, key: str
) -> ContentParams:
    """Parameters of the content map: those given, else those of a data type.

    Args:
        isr_parms: as in a config; None or '' for none.
        data_type: a key of ``types``; the first one is the published one.
        where, key: config section and key of the data type, for messages.

    Raises:
        ConfigError: an unknown data type, or one that contradicts ``isr_parms``.
    """
    if data_type not in types:
        raise ConfigError(f"{where}.{key} is {data_type!r}; choose one of {', '.join(types)}")
    if isr_parms and data_type != next(iter(types)):
        raise ConfigError(
            f"{where}.{key}={data_type!r} and isr_parms both give parameters; set isr_parms=None to take those of "
            "the data type"
        )
    return ContentParams.from_config(isr_parms, types[data_type], f"{where}.isr_parms")


CITYSCAPES_PARAMS = ContentParams((1.0, 10.0), 0.03, 0.2, 3)
NIGHT_PARAMS = ContentParams((1.0, 100.0), 0.04, 0.2, 3)


def random_direction(first: int, second: int) -> str:
    """Direction chosen by the parity of two numbers (published shift type ``random``)."""
    return RANDOM_DIRECTIONS[first % 2][second % 2]


@lru_cache(maxsize=32)
def _log_table(val_range: tuple[float, float], device: torch.device) -> Tensor:
    """(256,) float32: log intensity of every grey level. Cached, since a copy to a GPU would stall the step."""
    low, high = val_range
    grey = np.arange(256, dtype=np.float32)
    return torch.from_numpy(np.log(grey / 255 * (high - low) + low).astype(np.float32)).to(device)


def grey_level(rgb: Tensor) -> Tensor:
    """(..., 3, H, W) uint8 -> (..., H, W) uint8, equal to PIL's mode 'L'."""
    red, green, blue = rgb.to(torch.int32).unbind(-3)
    weights = GREY_WEIGHTS
    return ((red * weights[0] + green * weights[1] + blue * weights[2] + 32768) >> 16).to(torch.uint8)


def shift_map(x: Tensor, direction: str, pixels: int) -> Tensor:
    """Move the content of (..., H, W) by ``pixels``; the uncovered border repeats its old content."""
    s = pixels
    if direction == "right":
        return torch.cat((x[..., :s], x[..., :-s]), dim=-1)
    if direction == "left":
        return torch.cat((x[..., s:], x[..., -s:]), dim=-1)
    if direction == "down":
        return torch.cat((x[..., :s, :], x[..., :-s, :]), dim=-2)
    return torch.cat((x[..., s:, :], x[..., -s:, :]), dim=-2)


def content_map(grey: Tensor, params: ContentParams, direction: str) -> Tensor:
    """Extract the content map.

    Args:
        grey: (..., H, W) uint8 grey images, on any device.
        params: parameters of the extractor.
        direction: a key of ``SHIFTS``.

    Returns:
        (..., H, W) float32 in [-1, 1]; 0 where nothing changes.
    """
    span = float(np.log(params.val_range[1]) - np.log(params.val_range[0]))
    threshold, clip = params.threshold * span, params.clip_range * span
    table = _log_table(params.val_range, grey.device)
    if grey.device.type == "cpu":
        flat = grey.reshape(-1, *grey.shape[-2:]).numpy()
        maps = [_array_map(image, table.numpy(), threshold, clip, params.shift_pixel, direction) for image in flat]
        return torch.from_numpy(np.stack(maps)).reshape(grey.shape)
    return _tensor_map(grey, table, threshold, clip, params.shift_pixel, direction)


def _tensor_map(grey: Tensor, table: Tensor, threshold: float, clip: float, pixels: int, direction: str) -> Tensor:
    """Content maps (..., H, W) on any device."""
    intensity = table[grey.int()]
    total = torch.zeros_like(intensity)
    for shift in SHIFTS[direction]:
        change = shift_map(intensity, shift, pixels) - intensity
        change = torch.where(change.abs() <= threshold, 0.0, change)
        total += rescale_halves(change, clip)
    return total / len(SHIFTS[direction])


def _array_map(
    grey: np.ndarray, table: np.ndarray, threshold: float, clip: float, pixels: int, direction: str
) -> np.ndarray:
    """Content map of one image (H, W) on the CPU: bit for bit that of :func:`_tensor_map`, in fewer passes."""
    intensity = cv2.LUT(grey, table)
    total = np.zeros(grey.shape, np.float32)
    change = np.empty((1, *grey.shape), np.float32)
    for shift in SHIFTS[direction]:
        down, aside = STEPS[shift]
        _changes(intensity, -down * pixels, -aside * pixels, np.float32(threshold), change[0])
        total += rescale_array(change, clip)[0]
    return total / np.float32(len(SHIFTS[direction]))


@compiled
def _changes(intensity, down, aside, threshold, change):
    """Log intensity of the pixel ``down`` rows below and ``aside`` columns to the right, minus the pixel's own.

    Where there is no such pixel, or the difference is within the threshold, it is 0.
    """
    height, width = intensity.shape
    first, last = min(max(0, -aside), width), max(min(width, width - aside), 0)
    for row in range(height):
        other, line = row + down, change[row]
        if other < 0 or other >= height or first >= last:
            line[:] = 0
            continue
        line[:first] = 0
        line[last:] = 0
        # slices of one row and no branch in the loop, so that it is vectorised
        neighbours, own, inner = (
            intensity[other, first + aside : last + aside],
            intensity[row, first:last],
            line[first:last],
        )
        for column in range(inner.shape[0]):
            difference = neighbours[column] - own[column]
            inner[column] = difference if abs(difference) > threshold else np.float32(0)


def resized_content_map(grey: Tensor, params: ContentParams, direction: str, size: tuple[int, int]) -> Tensor:
    """Content map (H, W) of a grey image, resized to ``size`` (H, W) as images are: bilinear, smoothed."""
    content = content_map(grey, params, direction)
    if content.shape == size:
        return content
    return F.interpolate(content[None, None], size, mode="bilinear", antialias=True)[0, 0]
