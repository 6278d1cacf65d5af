"""Bilinear enlargement by a whole factor as two matrix products.

PyTorch's kernel computes it in 32 bits under autocast, and adds up gradients with atomic operations. The factors of the
sum are multiples of 1 / (2 * factor), exact in 16 bits; the matrix units sum their products in 32.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

# The largest whole factor whose weights are exact in bfloat16.
LARGEST_FACTOR = 64


# Never forgotten: a recorded graph reads them at their address.
@cache
def _matrix(small: int, large: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(large, small): row i holds the weights of the small pixels in the large pixel i; borders repeat their pixel."""
    centre = ((torch.arange(large, dtype=torch.float64) + 0.5) * small / large - 0.5).clamp(0, small - 1)
    low = centre.floor().long()
    high = (low + 1).clamp(max=small - 1)
    share = centre - low
    matrix = torch.zeros((large, small), dtype=torch.float64)
    matrix[torch.arange(large), low] += 1 - share
    matrix[torch.arange(large), high] += share
    return matrix.to(device=device, dtype=dtype)


def is_exact(x: Tensor, size: tuple[int, int] | torch.Size) -> bool:
    """Whether a map (B, C, h, w) is enlarged to ``size`` (H, W) by powers of two."""
    factors = [large / small for small, large in zip(x.shape[2:], size, strict=True)]
    return all(factor in (1, 2, 4, 8, 16, 32, LARGEST_FACTOR) for factor in factors)


def enlarge(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear interpolation of a map (B, C, h, w) to ``size`` (H, W), corners not aligned, in its own format."""
    (height, width), (large_height, large_width) = x.shape[2:], size
    wide = x @ _matrix(width, large_width, x.dtype, x.device).t()
    return _matrix(height, large_height, x.dtype, x.device) @ wide
