"""Dilated depth-wise 3x3 convolution on a GPU.

PyTorch's kernel for it (channels first, any dilation) takes about ten times as long as reading and writing its tensors
does. One plane of one channel fits into the cache, so that each of the nine taps after the first is read from there.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
WEIGHT_BLOCK = 512


@triton.jit
def _correlate(
    x_ptr, weight_ptr, out_ptr, channels, height, width, dilation, flipped: tl.constexpr, BLOCK: tl.constexpr
):
    plane = tl.program_id(0).to(tl.int64)
    channel = plane % channels
    position = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = position < height * width
    row = position // width
    column = position % width
    start = plane * height * width
    total = tl.zeros((BLOCK,), tl.float32)
    for tap in tl.static_range(9):
        y = row + (tap // 3 - 1) * dilation
        x = column + (tap % 3 - 1) * dilation
        valid = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        value = tl.load(x_ptr + start + y * width + x, mask=valid, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + channel * 9 + (8 - tap if flipped else tap)).to(tl.float32)
        total += value * weight
    tl.store(out_ptr + start + position, total.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _tap(x_ptr, start, gradient, row, column, inside, height, width, dy, dx):
    y, x = row + dy, column + dx
    valid = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return gradient * tl.load(x_ptr + start + y * width + x, mask=valid, other=0.0).to(tl.float32)


@triton.jit
def _weight_gradient(x_ptr, gradient_ptr, out_ptr, batch, channels, height, width, dilation, BLOCK: tl.constexpr):
    channel = tl.program_id(0).to(tl.int64)
    zero = tl.zeros((BLOCK,), tl.float32)
    t0, t1, t2, t3, t4, t5, t6, t7, t8 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    d = dilation
    for sample in range(batch):
        start = (sample * channels + channel) * height * width
        for first in range(0, height * width, BLOCK):
            position = first + tl.arange(0, BLOCK)
            inside = position < height * width
            row, column = position // width, position % width
            g = tl.load(gradient_ptr + start + position, mask=inside, other=0.0).to(tl.float32)
            t0 += _tap(x_ptr, start, g, row, column, inside, height, width, -d, -d)
            t1 += _tap(x_ptr, start, g, row, column, inside, height, width, -d, 0)
            t2 += _tap(x_ptr, start, g, row, column, inside, height, width, -d, d)
            t3 += _tap(x_ptr, start, g, row, column, inside, height, width, 0, -d)
            t4 += _tap(x_ptr, start, g, row, column, inside, height, width, 0, 0)
            t5 += _tap(x_ptr, start, g, row, column, inside, height, width, 0, d)
            t6 += _tap(x_ptr, start, g, row, column, inside, height, width, d, -d)
            t7 += _tap(x_ptr, start, g, row, column, inside, height, width, d, 0)
            t8 += _tap(x_ptr, start, g, row, column, inside, height, width, d, d)
    out = out_ptr + channel * 9
    kind = out_ptr.dtype.element_ty
    tl.store(out, tl.sum(t0, 0).to(kind))
    tl.store(out + 1, tl.sum(t1, 0).to(kind))
    tl.store(out + 2, tl.sum(t2, 0).to(kind))
    tl.store(out + 3, tl.sum(t3, 0).to(kind))
    tl.store(out + 4, tl.sum(t4, 0).to(kind))
    tl.store(out + 5, tl.sum(t5, 0).to(kind))
    tl.store(out + 6, tl.sum(t6, 0).to(kind))
    tl.store(out + 7, tl.sum(t7, 0).to(kind))
    tl.store(out + 8, tl.sum(t8, 0).to(kind))


def _correlated(x: Tensor, weight: Tensor, dilation: int, flipped: bool) -> Tensor:
    out = torch.empty_like(x)
    batch, channels, height, width = x.shape
    grid = (batch * channels, triton.cdiv(height * width, BLOCK))
    _correlate[grid](x, weight, out, channels, height, width, dilation, flipped, BLOCK)
    return out


class _DilatedDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return _correlated(x, weight, dilation, flipped=False)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        for_input = for_weight = None
        if ctx.needs_input_grad[0]:
            for_input = _correlated(gradient, weight, ctx.dilation, flipped=True)
        if ctx.needs_input_grad[1]:
            batch, channels, height, width = x.shape
            for_weight = torch.empty_like(weight)
            _weight_gradient[(channels,)](
                x, gradient, for_weight, batch, channels, height, width, ctx.dilation, WEIGHT_BLOCK
            )
        return for_input, for_weight, None


def dilated_depthwise(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Depth-wise 3x3 convolution with dilation and padding ``dilation``, summed in 32 bits.

    Args:
        x: (B, C, H, W), floating point, on a GPU.
        weight: (C, 1, 3, 3) of the same dtype.
        dilation: distance of the taps, at least 1.

    Returns:
        (B, C, H, W) of the same dtype, contiguous.
    """
    return _DilatedDepthwise.apply(x.contiguous(), weight.contiguous(), dilation)
