"""Linear layer and depth-wise convolution whose gradients of the bias are matrix products, on a GPU.

PyTorch sums the gradient of a bias over the tokens with a general reduction, which takes several times the time that
reading it does. A product with a row of ones is the same sum, in 32 bits, on the matrix units.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


# Never forgotten: a recorded graph reads them at their address.
@cache
def _ones(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.ones((1, count), dtype=dtype, device=device)


def _column_sums(rows: Tensor) -> Tensor:
    """(M, N) -> (N,)."""
    return (_ones(len(rows), rows.dtype, rows.device) @ rows)[0]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        for_x = (rows @ weight).view_as(x) if ctx.needs_input_grad[0] else None
        for_weight = rows.t() @ x.reshape(-1, x.shape[-1]) if ctx.needs_input_grad[1] else None
        return for_x, for_weight, _column_sums(rows) if ctx.needs_input_grad[2] else None


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x @ weight.T + bias``; x (..., in), weight (out, in) and bias (out,) of one format."""
    return _Linear.apply(x, weight, bias)


class _DepthwiseTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=1, groups=len(weight))

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False]
        for_x, for_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], len(weight), wanted
        )
        if not ctx.needs_input_grad[2]:
            return for_x, for_weight, None
        return for_x, for_weight, _column_sums(gradient.permute(0, 2, 3, 1).reshape(-1, len(weight)))


def depthwise_tokens(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3x3 depth-wise convolution of a map (B, C, H, W) with the channels last in memory."""
    return _DepthwiseTokens.apply(x, weight, bias)
