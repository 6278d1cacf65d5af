"""Batch norm in training mode and the ReLU behind it, on a GPU.

One program does one channel: its values are read from memory once, and from the cache for the variance and the result.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096
WARPS = 8


@triton.jit
def _place(sample, first, channel, channels, pixels, BLOCK: tl.constexpr):
    position = first + tl.arange(0, BLOCK)
    return (sample * channels + channel) * pixels + position, position < pixels


@triton.jit
def _forward(
    x_ptr, weight_ptr, bias_ptr, y_ptr, mean_ptr, scale_ptr, running_mean_ptr, running_var_ptr,
    batch, channels, pixels, epsilon, momentum, BLOCK: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0).to(tl.int64)
    count = batch * pixels
    total = tl.zeros((BLOCK,), tl.float32)
    for sample in range(batch):
        for first in range(0, pixels, BLOCK):
            offset, inside = _place(sample, first, channel, channels, pixels, BLOCK)
            total += tl.load(x_ptr + offset, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(total, 0) / count
    total = tl.zeros((BLOCK,), tl.float32)
    for sample in range(batch):
        for first in range(0, pixels, BLOCK):
            offset, inside = _place(sample, first, channel, channels, pixels, BLOCK)
            centred = tl.where(inside, tl.load(x_ptr + offset, mask=inside, other=0.0).to(tl.float32) - mean, 0.0)
            total += centred * centred
    squares = tl.sum(total, 0)
    scale = 1.0 / tl.sqrt(squares / count + epsilon)
    weight = tl.load(weight_ptr + channel) * scale
    bias = tl.load(bias_ptr + channel)
    for sample in range(batch):
        for first in range(0, pixels, BLOCK):
            offset, inside = _place(sample, first, channel, channels, pixels, BLOCK)
            x = tl.load(x_ptr + offset, mask=inside, other=0.0).to(tl.float32)
            y = tl.maximum((x - mean) * weight + bias, 0.0)
            tl.store(y_ptr + offset, y.to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(mean_ptr + channel, mean)
    tl.store(scale_ptr + channel, scale)
    kept = 1.0 - momentum
    tl.store(running_mean_ptr + channel, kept * tl.load(running_mean_ptr + channel) + momentum * mean)
    variance = squares / (count - 1)
    tl.store(running_var_ptr + channel, kept * tl.load(running_var_ptr + channel) + momentum * variance)


@triton.jit
def _backward(
    x_ptr, y_ptr, weight_ptr, gradient_ptr, mean_ptr, scale_ptr, for_x_ptr, for_weight_ptr, for_bias_ptr,
    batch, channels, pixels, BLOCK: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0).to(tl.int64)
    mean = tl.load(mean_ptr + channel)
    scale = tl.load(scale_ptr + channel)
    sums = tl.zeros((BLOCK,), tl.float32)
    products = tl.zeros((BLOCK,), tl.float32)
    for sample in range(batch):
        for first in range(0, pixels, BLOCK):
            offset, inside = _place(sample, first, channel, channels, pixels, BLOCK)
            gradient = tl.load(gradient_ptr + offset, mask=inside, other=0.0).to(tl.float32)
            positive = tl.load(y_ptr + offset, mask=inside, other=0.0).to(tl.float32) > 0
            gradient = tl.where(positive, gradient, 0.0)
            x = tl.load(x_ptr + offset, mask=inside, other=0.0).to(tl.float32)
            sums += gradient
            products += gradient * (x - mean) * scale
    for_bias = tl.sum(sums, 0)
    for_weight = tl.sum(products, 0)
    count = batch * pixels
    level = for_bias / count
    along = for_weight / count
    factor = tl.load(weight_ptr + channel) * scale
    for sample in range(batch):
        for first in range(0, pixels, BLOCK):
            offset, inside = _place(sample, first, channel, channels, pixels, BLOCK)
            gradient = tl.load(gradient_ptr + offset, mask=inside, other=0.0).to(tl.float32)
            positive = tl.load(y_ptr + offset, mask=inside, other=0.0).to(tl.float32) > 0
            gradient = tl.where(positive, gradient, 0.0)
            x = tl.load(x_ptr + offset, mask=inside, other=0.0).to(tl.float32)
            for_x = (gradient - level - (x - mean) * scale * along) * factor
            tl.store(for_x_ptr + offset, for_x.to(for_x_ptr.dtype.element_ty), mask=inside)
    tl.store(for_weight_ptr + channel, for_weight)
    tl.store(for_bias_ptr + channel, for_bias)


class _BatchNormReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, epsilon, momentum):
        batch, channels, height, width = x.shape
        y = torch.empty_like(x)
        mean, scale = torch.empty((2, channels), dtype=torch.float32, device=x.device)
        _forward[(channels,)](
            x, weight, bias, y, mean, scale, running_mean, running_var, batch, channels, height * width, epsilon,
            momentum, BLOCK, num_warps=WARPS,
        )  # fmt: skip
        ctx.save_for_backward(x, y, weight, mean, scale)
        return y

    @staticmethod
    def backward(ctx, gradient):
        x, y, weight, mean, scale = ctx.saved_tensors
        batch, channels, height, width = x.shape
        for_x = torch.empty_like(x)
        for_weight, for_bias = torch.empty((2, channels), dtype=torch.float32, device=x.device)
        _backward[(channels,)](
            x, y, weight, gradient.contiguous(), mean, scale, for_x, for_weight, for_bias, batch, channels,
            height * width, BLOCK, num_warps=WARPS,
        )  # fmt: skip
        return for_x, for_weight, for_bias, None, None, None, None


def batch_norm_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    epsilon: float,
    momentum: float,
) -> Tensor:
    """Batch norm by the statistics of the batch, then ReLU; the running statistics are updated in place.

    Args:
        x: (B, C, H, W), floating point, on a GPU, with more than one value in a channel.
        weight, bias, running_mean, running_var: (C,) of 32 bits.
        epsilon: added to the variance.
        momentum: share of the batch in the new running statistics.

    Returns:
        (B, C, H, W) in the format of ``x``, contiguous.
    """
    return _BatchNormReLU.apply(x.contiguous(), weight, bias, running_mean, running_var, epsilon, momentum)
