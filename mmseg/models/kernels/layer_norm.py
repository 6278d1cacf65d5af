"""Residual sum and layer norm in one kernel, on a GPU.

Under autocast a block adds a 16-bit branch to its 32-bit tokens, normalises the sum in 32 bits and rounds it for the
linear layer behind: four kernels, each of which reads and writes everything. Here they are one, and so are their
gradients. What is rounded, and when, is as in the separate operations.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Elements that a program holds at a time, and programs of the backward pass: each sums the gradient of the weight over
# its rows, the sums of all are added up afterwards.
ELEMENTS = 4096
PROGRAMS = 132


@triton.jit
def _rows(block, rows, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row = (block * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, WIDTH)
    inside = (row < rows)[:, None] & (column < width)[None, :]
    return row, column, inside, row[:, None] * width + column[None, :]


@triton.jit
def _forward(
    x_ptr, branch_ptr, factor_ptr, weight_ptr, bias_ptr, sum_ptr, y_ptr, mean_ptr, scale_ptr,
    rows, rows_per_sample, width, epsilon,
    HAS_BRANCH: tl.constexpr, HAS_FACTOR: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row, column, inside, offset = _rows(tl.program_id(0), rows, width, ROWS, WIDTH)
    x = tl.load(x_ptr + offset, mask=inside, other=0.0).to(tl.float32)
    if HAS_BRANCH:
        branch = tl.load(branch_ptr + offset, mask=inside, other=0.0)
        if HAS_FACTOR:
            factor = tl.load(factor_ptr + row // rows_per_sample, mask=row < rows, other=0.0)
            product = branch.to(tl.float32) * factor.to(tl.float32)[:, None]
            branch = product.to(branch_ptr.dtype.element_ty)
        x += branch.to(tl.float32)
        tl.store(sum_ptr + offset, x.to(sum_ptr.dtype.element_ty), mask=inside)
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
def _backward(
    sum_ptr, factor_ptr, weight_ptr, for_y_ptr, for_sum_ptr, mean_ptr, scale_ptr,
    for_x_ptr, for_branch_ptr, for_weight_ptr, for_bias_ptr, rows, rows_per_sample, width,
    HAS_BRANCH: tl.constexpr, HAS_FACTOR: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, WIDTH)
    weight = tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)
    for_weight = tl.zeros((WIDTH,), tl.float32)
    for_bias = tl.zeros((WIDTH,), tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        row, column, inside, offset = _rows(block, rows, width, ROWS, WIDTH)
        x = tl.load(sum_ptr + offset, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.load(for_y_ptr + offset, mask=inside, other=0.0).to(tl.float32)
        mean = tl.load(mean_ptr + row, mask=row < rows, other=0.0)
        scale = tl.load(scale_ptr + row, mask=row < rows, other=0.0)
        normal = tl.where(inside, (x - mean[:, None]) * scale[:, None], 0.0)
        for_weight += tl.sum(gradient * normal, 0)
        for_bias += tl.sum(gradient, 0)
        weighted = gradient * weight[None, :]
        along = tl.sum(weighted * normal, 1) / width
        level = tl.sum(weighted, 1) / width
        for_x = (weighted - level[:, None] - normal * along[:, None]) * scale[:, None]
        if HAS_BRANCH:
            for_x += tl.load(for_sum_ptr + offset, mask=inside, other=0.0).to(tl.float32)
            for_branch = for_x.to(for_branch_ptr.dtype.element_ty)
            if HAS_FACTOR:
                factor = tl.load(factor_ptr + row // rows_per_sample, mask=row < rows, other=0.0)
                product = for_branch.to(tl.float32) * factor.to(tl.float32)[:, None]
                for_branch = product.to(for_branch_ptr.dtype.element_ty)
            tl.store(for_branch_ptr + offset, for_branch, mask=inside)
        tl.store(for_x_ptr + offset, for_x.to(for_x_ptr.dtype.element_ty), mask=inside)
    start = tl.program_id(0) * width
    tl.store(for_weight_ptr + start + column, for_weight, mask=column < width)
    tl.store(for_bias_ptr + start + column, for_bias, mask=column < width)


@triton.jit
def _add_up(parts_ptr, out_ptr, parts, width, PARTS: tl.constexpr, WIDTH: tl.constexpr):
    column = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    which = tl.program_id(1)
    part = tl.arange(0, PARTS)
    inside = (part < parts)[:, None] & (column < width)[None, :]
    values = tl.load(parts_ptr + (which * parts + part[:, None]) * width + column[None, :], mask=inside, other=0.0)
    tl.store(out_ptr + which * width + column, tl.sum(values, 0), mask=column < width)


def _blocks(width: int) -> tuple[int, int]:
    """Rows and columns that a program holds at a time."""
    padded = triton.next_power_of_2(width)
    return max(1, ELEMENTS // padded), padded


class _AddNorm(torch.autograd.Function):
    """(x, branch, factor) -> (x + branch * factor, its layer norm); without a branch, x itself is normalised."""

    @staticmethod
    def forward(ctx, x, branch, factor, weight, bias, epsilon, dtype):
        width = x.shape[-1]
        rows = x.numel() // width
        y = torch.empty_like(x, dtype=dtype)
        total = x if branch is None else torch.empty_like(x)
        mean, scale = torch.empty((2, rows), dtype=torch.float32, device=x.device)
        at_a_time, padded = _blocks(width)
        per_sample = rows // len(x)
        # a pointer that is not read stands for what is left out
        _forward[(triton.cdiv(rows, at_a_time),)](
            x, x if branch is None else branch, weight if factor is None else factor, weight, bias, total, y, mean,
            scale, rows, per_sample, width, epsilon, branch is not None, factor is not None, at_a_time, padded,
        )  # fmt: skip
        ctx.save_for_backward(total, factor, weight, mean, scale)
        ctx.branch_dtype = None if branch is None else branch.dtype
        if branch is None:
            return None, y
        return total, y

    @staticmethod
    def backward(ctx, for_sum, for_y):
        total, factor, weight, mean, scale = ctx.saved_tensors
        width, rows = total.shape[-1], mean.numel()
        at_a_time, padded = _blocks(width)
        programs = min(PROGRAMS, triton.cdiv(rows, at_a_time))
        has_branch = ctx.branch_dtype is not None
        for_y = for_y.contiguous()
        for_x = torch.empty_like(total)
        for_branch = torch.empty_like(total, dtype=ctx.branch_dtype) if has_branch else None
        parts = torch.empty((2, programs, width), dtype=torch.float32, device=total.device)
        _backward[(programs,)](
            total, weight if factor is None else factor, weight, for_y, for_sum.contiguous() if has_branch else for_y,
            mean, scale, for_x, for_branch if has_branch else for_x, parts[0], parts[1], rows, rows // len(total),
            width, has_branch, factor is not None, at_a_time, padded,
        )  # fmt: skip
        sums = torch.empty((2, width), dtype=torch.float32, device=total.device)
        _add_up[(triton.cdiv(width, 16), 2)](parts, sums, programs, width, triton.next_power_of_2(programs), 16)
        for_weight, for_bias = sums.to(weight.dtype)
        return for_x, for_branch, None, for_weight, for_bias, None, None


def add_norm(
    x: Tensor,
    branch: Tensor | None,
    factor: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    epsilon: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """``x + branch * factor`` and its layer norm over the last dimension, computed in 32 bits.

    Args:
        x: tokens (B, N, width), floating point, on a GPU.
        branch: (B, N, width) in any format, or None for ``x`` itself.
        factor: (B, 1, 1) by which the branch of every sample is multiplied, or None for 1.
        weight, bias: (width,).
        epsilon: added to the variance.
        dtype: of the norm.

    Returns:
        The sum in the format of ``x``, and the norm.
    """
    x = x.contiguous()
    branch = None if branch is None else branch.contiguous()
    total, y = _AddNorm.apply(x, branch, factor, weight, bias, epsilon, dtype)
    return x if branch is None else total, y
