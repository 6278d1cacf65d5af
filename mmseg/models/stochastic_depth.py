"""Stochastic depth, and the truncated normal distribution that transformers start from.

timm has both, with the same numbers; importing it takes longer than importing torch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Leaves a residual branch out for some samples of a batch (Huang et al., ECCV 2016), in training only.

    Args:
        drop_prob: share of samples, from 0 to below 1; the others are scaled up so that the mean stays.
    """

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.drop_prob == 0.0:
            return branch
        kept = 1 - self.drop_prob
        factors = branch.new_empty((len(branch), *[1] * (branch.dim() - 1))).bernoulli_(kept)
        return branch * factors.div_(kept)


@torch.no_grad()
def truncated_normal_(weight: Tensor, std: float, limit: float = 2.0) -> Tensor:
    """Fill a tensor in place from a normal distribution of mean 0 without its tails beyond ``-limit`` and ``limit``.

    The inverse of the distribution function is applied to uniform numbers: one draw per value.
    ``nn.init.trunc_normal_`` draws again until all values are inside, so a seed gives other numbers there.
    """
    inside = math.erf(limit / std / math.sqrt(2))
    return weight.uniform_(-inside, inside).erfinv_().mul_(std * math.sqrt(2)).clamp_(-limit, limit)
