"""Distance of translated image changes to real night event frames: a custom measure without a network.

Four statistics of the pictures are compared as distributions, by the area between their cumulative distributions
(1-Wasserstein distance, in the unit of the statistic; 0 for equal distributions):

* values: of all pixels, in [-1, 1];
* gradients: magnitude of the difference of horizontal and of vertical neighbours, in [0, 2];
* blocks: mean of every block of 4x4 pixels, in [-1, 1]; noise cancels in it, structure does not;
* activity: share of pixels beyond 0.1 in magnitude in every block of 32x32, in [0, 1]: where and how sparse.

The distance is their sum. In addition, ``kept`` is the mean correlation of activity in blocks of 16x16 between a
picture and its translation; it is 0 for a generator that ignores its input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn

from mmseg.system.printing import TextTable

ACTIVE = 0.1
BINS = 512
# Statistic -> lowest and highest value.
RANGES = {"values": (-1.0, 1.0), "gradients": (0.0, 2.0), "blocks": (-1.0, 1.0), "activity": (0.0, 1.0)}
BLOCK, ACTIVITY_BLOCK, KEPT_BLOCK = 4, 32, 16


def _active_share(picture: Tensor, block: int) -> Tensor:
    """Share of active pixels in every block of (1, H, W); a side shorter than the block is one block."""
    size = tuple(min(block, side) for side in picture.shape[1:])
    return F.avg_pool2d((picture.abs() > ACTIVE).float()[None], size)[0]


@dataclass
class StyleStatistics:
    """Histograms of the four statistics over pictures (1, H, W) in [-1, 1] on the CPU."""

    counts: dict[str, np.ndarray] = field(default_factory=lambda: {name: np.zeros(BINS) for name in RANGES})

    @classmethod
    def of(cls, pictures: Iterable[Tensor]) -> StyleStatistics:
        """Statistics of several pictures."""
        statistics = cls()
        for picture in pictures:
            statistics.add(picture)
        return statistics

    def add(self, picture: Tensor) -> None:
        """Count one picture."""
        steps = [picture.diff(dim=d).abs().flatten() for d in (1, 2)]
        values = {
            "values": picture,
            "gradients": torch.cat(steps),
            "blocks": F.avg_pool2d(picture[None], BLOCK),
            "activity": _active_share(picture, ACTIVITY_BLOCK),
        }
        for name, (low, high) in RANGES.items():
            # Bins are centred on levels, so that rounding cannot split equal values between two bins.
            place = (values[name].numpy().ravel() - low) / (high - low) * (BINS - 1)
            self.counts[name] += np.bincount(np.clip(np.rint(place), 0, BINS - 1).astype(np.int64), minlength=BINS)

    def distances(self, other: StyleStatistics) -> dict[str, float]:
        """1-Wasserstein distance of each statistic, and their sum as ``total``."""
        result = {}
        for name, (low, high) in RANGES.items():
            cumulative = [np.cumsum(s.counts[name]) / s.counts[name].sum() for s in (self, other)]
            result[name] = float(np.abs(cumulative[0] - cumulative[1]).sum() * (high - low) / (BINS - 1))
        return {**result, "total": sum(result.values())}


def kept_activity(picture: Tensor, translated: Tensor) -> float:
    """Correlation of the active share per block between two (1, H, W) pictures; 0 where one is uniform."""
    shares = torch.stack([_active_share(p, KEPT_BLOCK).flatten() for p in (picture, translated)])
    spread = shares.std(dim=1, correction=0)
    if shares.shape[1] < 2 or bool((spread == 0).any()):
        return 0.0
    return float(torch.corrcoef(shares)[0, 1])


@torch.no_grad()
def translate(generator: nn.Module, picture: Tensor) -> Tensor:
    """(1, H, W) in [-1, 1] through the generator and back to the CPU; H and W multiples of 4."""
    device = next(generator.parameters()).device
    return generator(picture[None].to(device))[0].cpu()


def evaluate_style(
    generator: nn.Module, change: Iterable[Tensor], events: Iterable[Tensor], other_events: Iterable[Tensor]
) -> dict[str, dict[str, float]]:
    """Distances to real night event frames before and after translation.

    Args:
        generator: image change to events.
        change, events: held-out pictures (1, H, W) of both domains.
        other_events: real event frames from training, to measure the distance between real frames.

    Returns:
        ``image_change``, ``translated`` and ``other_events``, each with the distances; ``translated`` with ``kept``.
    """
    real, before, after, kept = StyleStatistics.of(events), StyleStatistics(), StyleStatistics(), []
    for picture in change:
        translated = translate(generator, picture)
        before.add(picture)
        after.add(translated)
        kept.append(kept_activity(picture, translated))
    return {
        "image_change": before.distances(real),
        "translated": {**after.distances(real), "kept": float(np.mean(kept))},
        "other_events": StyleStatistics.of(other_events).distances(real),
    }


def style_table(result: Mapping[str, Mapping[str, float]]) -> Table:
    """Table of a result of :func:`evaluate_style`."""
    table = TextTable("", *(*RANGES, "total", "kept"), title="Distance to held-out night event frames")
    titles = {"image_change": "before", "translated": "after", "other_events": "real frames"}
    for name, title in titles.items():
        row = result[name]
        table.add_row(title, *(f"{row[key]:.4f}" if key in row else "" for key in (*RANGES, "total", "kept")))
    return table
