"""Plain implementations of sample preparation: whole-array operations in torch, numpy and PIL, one step at a time.

``data_speed.py`` compares the package with these, first for equality, then for time. They are straightforward
translations of the formulas, not slowed down: the fastest of several variants was kept.
"""

from __future__ import annotations

import math

import h5py
import hdf5plugin  # noqa: F401  h5py finds the Blosc filter of DSEC files only after this import
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.crops import CropDraw
from mmseg.datasets.dsec_night import DSECDataset, DSECDraw
from mmseg.datasets.normalization import IMAGE_MEAN, IMAGE_STD
from mmseg.extractors.content import SHIFTS, ContentParams, random_direction

EPSILON = 1e-8


def voxel_grid(t: Tensor, x: Tensor, y: Tensor, p: Tensor, bins: int, height: int, width: int) -> Tensor:
    """Accumulate events into a grid: one scatter-add for each of an event's eight neighbours.

    Args:
        t: (N,) float32 in [0, 1].
        x, y: (N,) float32 pixel positions, which may lie outside the frame.
        p: (N,) float32 polarity, 0 or 1.
        bins, height, width: size of the grid.

    Returns:
        (bins, height, width) float32.
    """
    grid = torch.zeros((bins, height, width))
    time = (bins - 1) * t
    first, row, column = time.int(), y.int(), x.int()
    value = 2 * p - 1
    for b in (first, first + 1):
        for i in (row, row + 1):
            for j in (column, column + 1):
                inside = (b < bins) & (i >= 0) & (i < height) & (j >= 0) & (j < width)
                share = (1 - (b - time).abs()) * (1 - (i - y).abs()) * (1 - (j - x).abs())
                cell = ((b * height + i) * width + j).long()
                grid.put_(cell[inside], (value * share)[inside], accumulate=True)
    return grid


def rectified(x: np.ndarray, y: np.ndarray, rectify_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of raw pixels, each (N,) float32; the map is (H, W, 2)."""
    position = rectify_map[y, x]
    return position[:, 0], position[:, 1]


def normalize_events(grid: Tensor, clip: float) -> Tensor:
    """Give the non-zero cells mean 0 and deviation 1, clip them and scale each half, over all bins.

    Args:
        grid: (bins, H, W) float32.
        clip: largest magnitude kept, in standard deviations.

    Returns:
        Same shape, in [-1, 1].
    """
    filled = grid != 0
    count = filled.sum()
    if count == 0:
        return torch.zeros_like(grid)
    mean = grid.sum() / count
    deviation = ((grid**2).sum() / count - mean**2).clamp(min=0).sqrt()
    standard = filled * (grid - mean) / (deviation + EPSILON)
    positive, negative = standard.clamp(0, clip), standard.clamp(-clip, 0)
    positive = (positive - positive.min()) / (positive.max() - positive.min() + EPSILON)
    if negative.any():
        negative = (negative - negative.min()) / (negative.max() - negative.min() + EPSILON) - 1
    return positive + negative


def content_map(image: Image.Image, params: ContentParams, direction: str) -> np.ndarray:
    """Content map (H, W) float32 in [-1, 1] of one image."""
    low, high = params.val_range
    span, pixels = math.log(high) - math.log(low), params.shift_pixel
    grey = np.asarray(image.convert("L"), np.float32)
    intensity = np.log(grey / 255 * (high - low) + low)
    maps = []
    for shift in SHIFTS[direction]:
        if shift == "right":
            shifted = np.concatenate((intensity[:, :pixels], intensity[:, :-pixels]), axis=1)
        elif shift == "left":
            shifted = np.concatenate((intensity[:, pixels:], intensity[:, -pixels:]), axis=1)
        elif shift == "down":
            shifted = np.concatenate((intensity[:pixels], intensity[:-pixels]), axis=0)
        else:
            shifted = np.concatenate((intensity[pixels:], intensity[-pixels:]), axis=0)
        change = shifted - intensity
        change[np.abs(change) <= params.threshold * span] = 0
        maps.append(_scaled_halves(change, params.clip_range * span))
    return np.mean(maps, axis=0)


def _scaled_halves(change: np.ndarray, clip: float) -> np.ndarray:
    positive, negative = np.clip(change, 0, clip), np.clip(change, -clip, 0)
    positive = (positive - positive.min()) / (positive.max() - positive.min() + np.float32(EPSILON))
    if negative.any():
        negative = (negative - negative.min()) / (negative.max() - negative.min() + np.float32(EPSILON)) - 1
    return positive + negative


def picture(image: Tensor) -> Image.Image:
    """Network input (3, H, W), on any device -> 8-bit RGB image, truncated."""
    mean, std = (torch.tensor(values, device=image.device).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    shown = ((image * std + mean) / 255).clamp(0, 1) * 255
    return Image.fromarray(shown.permute(1, 2, 0).cpu().numpy().astype(np.uint8))


def batch_content_map(images: Tensor, params: ContentParams, direction: str) -> Tensor:
    """Content maps (B, 3, H, W) of network inputs (B, 3, H, W), computed from one image per sample on the host."""
    maps = [torch.from_numpy(content_map(picture(image), params, direction)) for image in images]
    return torch.stack(maps)[:, None].repeat(1, 3, 1, 1).to(images.device)


def normalized(image: Image.Image) -> Tensor:
    """RGB image -> network input (3, H, W) float32."""
    values = (np.asarray(image, np.float32) - np.float32(IMAGE_MEAN)) / np.float32(IMAGE_STD)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def _cropped(image: Image.Image, draw: CropDraw, width: int, height: int) -> Image.Image:
    image = image.crop((draw.x, draw.y, draw.x + width, draw.y + height))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.flip else image


def dsec_sample(dataset: DSECDataset, index: int, draw: DSECDraw) -> dict[str, Tensor]:
    """Training sample of a data set with one bin, read from the files.

    Args:
        dataset: provides frames, windows and settings; its readers are not used.
        index: position in ``dataset.frames``.
        draw: crop and flip; no clip range.

    Returns:
        ``warp_image``, ``events_vg`` and ``warp_img_self_res``, each (3, H, W) float32.
    """
    frame, (start, finish), crop = dataset.frames[index], dataset.windows[index], draw.crop
    height, width = dataset.crop
    with Image.open(frame.warp_image) as file:
        image = _cropped(file.convert("RGB"), crop, width, height)
    image = image.resize(dataset.sample_size[::-1], Image.Resampling.BILINEAR)
    settings = dataset.content
    direction = random_direction(crop.x, crop.y) if settings.shift_type == "random" else settings.shift_type
    content = torch.from_numpy(content_map(image, settings.params, direction))

    with h5py.File(frame.events_file, "r") as file:
        t, x, y, p = (file["events"][key][start : finish + 1] for key in ("t", "x", "y", "p"))
    with h5py.File(frame.rectify_map_file, "r") as file:
        rectify_map = file["rectify_map"][:]
    t = (t - t[0]).astype(np.float32) / np.float32(t[-1] - t[0])
    x, y = rectified(x, y, rectify_map)
    events = (torch.from_numpy(values) for values in (t, x, y, p.astype(np.float32)))
    grid = voxel_grid(*events, 1, *rectify_map.shape[:2])
    grid = normalize_events(grid, 1.5 * (finish - start) / 500_000)
    grid = grid[:, crop.y : crop.y + height, crop.x : crop.x + width]
    grid = grid.flip(-1) if crop.flip else grid
    grid = F.interpolate(grid[None], size=dataset.sample_size, mode="bilinear", align_corners=False)[0]
    return {
        "warp_image": normalized(image),
        "events_vg": grid.repeat(3, 1, 1),
        "warp_img_self_res": content.repeat(3, 1, 1),
    }


def cityscapes_sample(dataset: CityscapesICDataset, index: int, draw: CropDraw) -> dict[str, Tensor]:
    """Training sample read from the files.

    Args:
        dataset: provides names, paths and settings; its readers are not used.
        index: position in ``dataset.names``.
        draw: crop and flip.

    Returns:
        ``image``, ``img_time_res`` and ``img_self_res``, each (3, H, W) float32, and ``label`` (1, H, W) int64.
    """
    name = dataset.names[index]
    with Image.open(dataset.image_path(name)) as file:
        image = file.convert("RGB").resize(dataset.size, Image.Resampling.BILINEAR)
    with Image.open(dataset.label_path(name)) as file:
        label = file.resize(dataset.size, Image.Resampling.NEAREST)
    with Image.open(dataset.motion_path(name)) as file:
        change = file.convert("L").resize(dataset.size, Image.Resampling.BILINEAR)
    image, label, change = (_cropped(part, draw, *dataset.crop) for part in (image, label, change))
    settings = dataset.content
    direction = random_direction(draw.x, int(draw.flip)) if settings.shift_type == "random" else settings.shift_type
    content = torch.from_numpy(content_map(image, settings.params, direction))
    motion = torch.from_numpy((np.asarray(change, np.float32) / 255 - 0.5) / 0.5)
    return {
        "image": normalized(image),
        "label": torch.from_numpy(np.asarray(label, np.int64))[None],
        "img_time_res": motion.repeat(3, 1, 1),
        "img_self_res": content.repeat(3, 1, 1),
    }
