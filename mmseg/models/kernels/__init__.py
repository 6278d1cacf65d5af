"""Faster GPU kernels for layers in which PyTorch's kernels take several times as long as their memory traffic.

The layers are PyTorch's, with the same weights and names. On a GPU that can run Triton they use the kernels of this
package: the dilated depth-wise convolution always, the others where autocast lets them compute in 16 bits.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether kernels can be compiled: Triton is installed and supports the GPU."""
    has_triton = importlib.util.find_spec("triton") is not None
    return has_triton and torch.cuda.is_available() and torch.cuda.get_device_capability() >= (7, 0)


def _usable(x: Tensor) -> bool:
    return x.is_cuda and not torch.compiler.is_compiling() and available()


def _in_16_bits(x: Tensor) -> torch.dtype | None:
    """Format in which autocast computes products on a GPU; None without autocast or kernels."""
    return torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") and _usable(x) else None


class DilatedConv2d(nn.Conv2d):
    """Depth-wise convolution, with a custom kernel for 3x3 with dilation and without bias."""

    def forward(self, x: Tensor) -> Tensor:
        plain = (self.kernel_size, self.stride, self.bias) == ((3, 3), (1, 1), None) and self.padding == self.dilation
        if not (plain and self.dilation[0] == self.dilation[1] and _usable(x)):
            return super().forward(x)
        from mmseg.models.kernels.depthwise import dilated_depthwise

        dtype = _in_16_bits(x) or x.dtype
        return dilated_depthwise(x.to(dtype), self.weight.to(dtype), self.dilation[0])


class BatchNormReLU(nn.BatchNorm2d):
    """Batch norm followed by ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        batches, momentum = self.num_batches_tracked, self.momentum
        usable = self.training and self.affine and self.track_running_stats and x.numel() > x.shape[1] and _usable(x)
        if not usable or mean is None or variance is None or batches is None or momentum is None:
            return F.relu(super().forward(x))
        from mmseg.models.kernels.batch_norm import batch_norm_relu

        batches.add_(1)
        return batch_norm_relu(x, self.weight, self.bias, mean, variance, self.eps, momentum)


def enlarge(x: Tensor, size: tuple[int, int] | torch.Size, align_corners: bool = False) -> Tensor:
    """Bilinear interpolation of a map (B, C, h, w) to ``size`` (H, W); under autocast in 16 bits where possible."""
    dtype = None if align_corners else _in_16_bits(x)
    if dtype is not None:
        from mmseg.models.kernels import upsampling

        if upsampling.is_exact(x, size):
            return upsampling.enlarge(x.to(dtype), size)
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


class TokenConv2d(nn.Conv2d):
    """Depth-wise 3x3 convolution with bias over tokens, that is, over a map with the channels last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        dtype = _in_16_bits(x) if torch.is_grad_enabled() else None
        if dtype is None or self.bias is None:
            return super().forward(x)
        from mmseg.models.kernels.linear import depthwise_tokens

        return depthwise_tokens(x.to(dtype), self.weight.to(dtype), self.bias.to(dtype))


class TokenLinear(nn.Linear):
    """Linear layer with bias over tokens."""

    def forward(self, x: Tensor) -> Tensor:
        dtype = _in_16_bits(x) if torch.is_grad_enabled() else None
        if dtype is None:
            return super().forward(x)
        from mmseg.models.kernels.linear import linear

        return linear(x.to(dtype), self.weight.to(dtype), self.bias.to(dtype))


class TokenNorm(nn.LayerNorm):
    """Layer norm of tokens whose result only linear layers and convolutions read."""

    def forward(  # type: ignore[override]  # one more argument than PyTorch's
        self, x: Tensor, pending: tuple[Tensor | None, Tensor | None] | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Norm of tokens, or of a residual sum.

        Args:
            x: tokens (B, N, C).
            pending: a branch (B, N, C) to add to them, or None, and its factor (B, 1, 1), None for 1.

        Returns:
            The norm, in 16 bits under autocast where kernels are available; with ``pending``, the sum and its norm.
        """
        total, normal = self._sum_and_norm(x, *(pending or (None, None)))
        return normal if pending is None else (total, normal)

    def _sum_and_norm(self, x: Tensor, branch: Tensor | None, factor: Tensor | None) -> tuple[Tensor, Tensor]:
        dtype = _in_16_bits(x)
        if dtype is None:
            x = residual_sum(x, branch, factor)
            return x, super().forward(x)
        from mmseg.models.kernels.layer_norm import add_norm

        return add_norm(x, branch, factor, self.weight, self.bias, self.eps, dtype)


def residual_sum(x: Tensor, branch: Tensor | None, factor: Tensor | None) -> Tensor:
    """``x + branch * factor``; for the arguments see :meth:`TokenNorm.forward`."""
    if branch is None:
        return x
    return x + (branch if factor is None else branch * factor)
