"""Layer norm that writes 16 bits, on a GPU.

Under autocast a layer norm computes and writes 32 bits, and the linear layer behind it reads them again to round them.
This one rounds as it writes. Its backward pass takes the gradients of input, weight and bias in one reading of its
tensors.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Elements that a program holds at a time, and programs of the backward pass: each sums the gradient of the weight over
# its rows, the sums of all are added up afterwards.
ELEMENTS = 4096
PROGRAMS = 264


@triton.jit
def _normalize(
    x_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    mean_ptr,
    scale_ptr,
    rows,
    width,
    epsilon,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = (row < rows)[:, None] & (column < width)[None, :]
    offset = row[:, None] * width + column[None, :]
    x = tl.load(x_ptr + offset, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(x, 1) / width
    centred = tl.where(inside, x - mean[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / width + epsilon)
    weight = tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + column, mask=column < width, other=0.0).to(tl.float32)
    y = centred * scale[:, None] * weight[None, :] + bias[None, :]
    tl.store(y_ptr + offset, y.to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(mean_ptr + row, mean, mask=row < rows)
    tl.store(scale_ptr + row, scale, mask=row < rows)


@triton.jit
def _gradients(
    x_ptr, weight_ptr, gradient_ptr, mean_ptr, scale_ptr, for_x_ptr, for_weight_ptr, for_bias_ptr, rows, width,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, WIDTH)
    weight = tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)
    for_weight = tl.zeros((WIDTH,), tl.float32)
    for_bias = tl.zeros((WIDTH,), tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        row = (block * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        inside = (row < rows)[:, None] & (column < width)[None, :]
        offset = row[:, None] * width + column[None, :]
        x = tl.load(x_ptr + offset, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.load(gradient_ptr + offset, mask=inside, other=0.0).to(tl.float32)
        mean = tl.load(mean_ptr + row, mask=row < rows, other=0.0)
        scale = tl.load(scale_ptr + row, mask=row < rows, other=0.0)
        normal = tl.where(inside, (x - mean[:, None]) * scale[:, None], 0.0)
        for_weight += tl.sum(gradient * normal, 0)
        for_bias += tl.sum(gradient, 0)
        weighted = gradient * weight[None, :]
        along = tl.sum(weighted * normal, 1) / width
        level = tl.sum(weighted, 1) / width
        for_x = (weighted - level[:, None] - normal * along[:, None]) * scale[:, None]
        tl.store(for_x_ptr + offset, for_x.to(for_x_ptr.dtype.element_ty), mask=inside)
    start = tl.program_id(0) * width
    tl.store(for_weight_ptr + start + column, for_weight, mask=column < width)
    tl.store(for_bias_ptr + start + column, for_bias, mask=column < width)


def _blocks(width: int) -> tuple[int, int]:
    """Rows and columns that a program holds at a time."""
    padded = triton.next_power_of_2(width)
    return max(1, ELEMENTS // padded), padded


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        width = x.shape[-1]
        rows = x.numel() // width
        y = torch.empty_like(x, dtype=dtype)
        mean, scale = torch.empty((2, rows), dtype=torch.float32, device=x.device)
        at_a_time, padded = _blocks(width)
        _normalize[(triton.cdiv(rows, at_a_time),)](
            x, weight, bias, y, mean, scale, rows, width, epsilon, at_a_time, padded
        )
        ctx.save_for_backward(x, weight, mean, scale)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight, mean, scale = ctx.saved_tensors
        width, rows = x.shape[-1], mean.numel()
        at_a_time, padded = _blocks(width)
        programs = min(PROGRAMS, triton.cdiv(rows, at_a_time))
        for_x = torch.empty_like(x)
        sums = torch.empty((2, programs, width), dtype=torch.float32, device=x.device)
        _gradients[(programs,)](
            x, weight, gradient.contiguous(), mean, scale, for_x, sums[0], sums[1], rows, width, at_a_time, padded
        )
        for_weight, for_bias = sums.sum(dim=1).to(weight.dtype)
        return for_x, for_weight, for_bias, None, None


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
    """Layer norm over the last dimension, computed in 32 bits and rounded once.

    Args:
        x: (..., width), floating point, on a GPU.
        weight, bias: (width,).
        epsilon: added to the variance.
        dtype: of the result.
    """
    return _LayerNorm.apply(x.contiguous(), weight, bias, epsilon, dtype)
