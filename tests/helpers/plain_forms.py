"""Plain forms of the formulas, in numpy and one step at a time, to hold the fast ones against.

``mended=False`` gives the reference's behaviour where an empty negative half becomes -1 over the frame.
"""

import numpy as np


def min_max(x, low, high):
    return (x - x.min()) / (x.max() - x.min() + np.float32(1e-8)) * np.float32(high - low) + np.float32(low)


def rescale_halves(signed, clip, mended=True):
    positive = min_max(np.clip(signed, 0, clip), 0, 1)
    negative = np.clip(signed, -clip, 0)
    if mended and not negative.any():
        return positive
    return positive + min_max(negative, -1, 0)


def voxel_grid(t, x, y, p, bins, height, width):
    grid = np.zeros((bins, height, width), np.float32)
    star = (bins - 1) * t
    for ti, xi, yi, pi in zip(star, x, y, p, strict=True):
        t0, x0, y0 = int(ti), int(xi), int(yi)
        for tl in (t0, t0 + 1):
            for yl in (y0, y0 + 1):
                for xl in (x0, x0 + 1):
                    if 0 <= tl < bins and 0 <= yl < height and 0 <= xl < width:
                        weight = (1 - abs(xl - xi)) * (1 - abs(yl - yi)) * (1 - abs(tl - ti))
                        grid[tl, yl, xl] += (2 * pi - 1) * weight
    return grid


def normalize_events(grid, clip, mended=True):
    grid = grid.astype(np.float32)
    count = (grid != 0).sum()
    if count:
        mean = grid.sum() / count
        std = np.sqrt(max((grid**2).sum() / count - mean**2, 0))
        grid = (grid != 0) * (grid - mean) / np.float32(std + 1e-8)
    return rescale_halves(grid, clip, mended)


def content_map(grey, val_range, threshold, clip_range, shift, directions, mended=True):
    low, high = val_range
    span = np.log(high) - np.log(low)
    v = np.log(grey.astype(np.float32) / 255 * (high - low) + low).astype(np.float32)
    shifted = {
        "right": np.concatenate((v[:, :shift], v[:, :-shift]), 1),
        "left": np.concatenate((v[:, shift:], v[:, -shift:]), 1),
        "down": np.concatenate((v[:shift], v[:-shift]), 0),
        "up": np.concatenate((v[shift:], v[-shift:]), 0),
    }
    maps = []
    for direction in directions:
        change = shifted[direction] - v
        change[np.abs(change) <= threshold * span] = 0
        maps.append(rescale_halves(change, np.float32(clip_range * span), mended))
    return np.mean(maps, 0)
