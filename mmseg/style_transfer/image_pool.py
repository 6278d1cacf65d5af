"""Pool of earlier translations (Shrivastava et al., CVPR 2017; CycleGAN, section 4).

The discriminators also see earlier translations, which prevents oscillations between the two sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# separates the random stream of the pools from that of the pictures
POOL_KEY = 4


@dataclass(frozen=True)
class PoolDraw:
    """For every sample of a batch: whether it is swapped with a stored picture, and with which one."""

    swap: tuple[bool, ...]
    slot: tuple[int, ...]

    @classmethod
    def make(cls, batch: int, size: int, seed: int, iteration: int, pool: int) -> PoolDraw:
        """Make the draw of pool number ``pool`` in an iteration."""
        rng = np.random.default_rng([POOL_KEY, seed, iteration, pool])
        swap, slot = rng.random(batch) < 0.5, rng.integers(0, max(size, 1), batch)
        return cls(tuple(bool(s) for s in swap), tuple(int(s) for s in slot))


class ImagePool:
    """Keeps up to ``size`` pictures on their device; with 0 every batch passes through."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.stored: list[Tensor] = []

    def exchange(self, pictures: Tensor, draw: PoolDraw) -> Tensor:
        """Store or swap pictures (B, 1, H, W) and return as many. Until the pool is full, all are returned."""
        given = []
        for picture, swap, slot in zip(pictures, draw.swap, draw.slot, strict=True):
            if len(self.stored) < self.size:
                self.stored.append(picture.clone())
            elif self.size and swap:
                picture, self.stored[slot] = self.stored[slot], picture.clone()
            given.append(picture)
        return torch.stack(given)

    def state(self) -> Tensor | None:
        """All stored pictures (N, 1, H, W), for a checkpoint; None if there are none."""
        return torch.stack(self.stored).cpu() if self.stored else None

    def restore(self, state: Tensor | None, device: torch.device) -> None:
        """Restore the result of :meth:`state`."""
        self.stored = [] if state is None else list(state.to(device).unbind())
