"""Run by ``test_kernels.py`` in a process of its own: Triton chooses its interpreter when it is imported.

Holds every kernel of ``mmseg.models.kernels`` against PyTorch's operations, forward and backward, in 32 bits. Prints
the largest difference of each case, in units of the largest value; exits with 1 when one is above the rounding.
"""

from __future__ import annotations

import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.models.kernels import residual_sum
from mmseg.models.kernels.batch_norm import batch_norm_relu
from mmseg.models.kernels.depthwise import dilated_depthwise
from mmseg.models.kernels.layer_norm import add_norm
from mmseg.models.kernels.linear import depthwise_tokens, linear
from mmseg.models.kernels.upsampling import enlarge

# sums of thousands of numbers in another order
TOLERANCE = 1e-5


def leaf(*shape: int) -> Tensor:
    return torch.randn(shape, requires_grad=True)


def results(function, leaves: list[Tensor]) -> list[Tensor]:
    """Outputs of a function, and the gradients of its inputs for fixed gradients of the outputs."""
    outputs = function()
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(output.shape, generator=generator) for output in outputs]
    return [*outputs, *torch.autograd.grad(outputs, leaves, gradients)]


def check(name: str, ours, plain, leaves: list[Tensor]) -> bool:
    pairs = zip(results(ours, leaves), results(plain, leaves), strict=True)
    worst = max(((a - b).abs().max() / b.abs().max().clamp(min=1)).item() for a, b in pairs)
    print(f"{name}: {worst:.1e}")
    return worst <= TOLERANCE


def cases():
    for dilation, (height, width) in ((1, (7, 9)), (6, (20, 33)), (18, (40, 24))):
        x, weight = leaf(2, 3, height, width), leaf(3, 1, 3, 3)
        yield check(
            f"dilated convolution {dilation}",
            lambda x=x, w=weight, d=dilation: [dilated_depthwise(x, w, d)],
            lambda x=x, w=weight, d=dilation: [F.conv2d(x, w, padding=d, dilation=d, groups=3)],
            [x, weight],
        )
    factor = torch.tensor([0.0, 1.25]).view(2, 1, 1)
    for width in (32, 160, 512):
        x, branch, weight, bias = leaf(2, 37, width), leaf(2, 37, width), leaf(width), leaf(width)
        norm = (weight, bias, 1e-6)
        yield check(
            f"layer norm {width}",
            lambda x=x, n=norm: [add_norm(x, None, None, *n, torch.float32)[1]],
            lambda x=x, n=norm: [F.layer_norm(x, (len(n[0]),), *n)],
            [x, weight, bias],
        )
        for given in (None, factor):

            def plain(x=x, branch=branch, given=given, norm=norm):
                total = residual_sum(x, branch, given)
                return [total, F.layer_norm(total, (len(norm[0]),), *norm)]

            yield check(
                f"sum and layer norm {width}, {'no ' if given is None else ''}factor",
                lambda x=x, b=branch, g=given, n=norm: list(add_norm(x, b, g, *n, torch.float32)),
                plain,
                [x, branch, weight, bias],
            )
    x, weight, bias = leaf(2, 5, 8), leaf(6, 8), leaf(6)
    yield check("linear", lambda: [linear(x, weight, bias)], lambda: [F.linear(x, weight, bias)], [x, weight, bias])
    tokens, taps, shift = leaf(2, 6, 5, 7), leaf(6, 1, 3, 3), leaf(6)
    yield check(
        "depth-wise convolution",
        lambda: [depthwise_tokens(tokens, taps, shift)],
        lambda: [F.conv2d(tokens, taps, shift, padding=1, groups=6)],
        [tokens, taps, shift],
    )
    for shape in ((2, 3, 9, 7), (1, 2, 70, 80)):
        yield batch_norm(shape)
    for small, large in (((4, 5), (8, 10)), ((4, 6), (32, 48)), ((3, 3), (3, 12))):
        x = leaf(2, 3, *small)
        yield check(
            f"enlargement {small} to {large}",
            lambda x=x, s=large: [enlarge(x, s)],
            lambda x=x, s=large: [F.interpolate(x, size=s, mode="bilinear")],
            [x],
        )


def batch_norm(shape: tuple[int, ...]) -> bool:
    """With its running statistics."""
    x, weight, bias = leaf(*shape), leaf(shape[1]), leaf(shape[1])
    ours, plain = ([torch.full((shape[1],), 0.5), torch.full((shape[1],), 2.0)] for _ in range(2))
    good = check(
        f"batch norm {shape}",
        lambda: [batch_norm_relu(x, weight, bias, *[s.clone() for s in ours], 1e-5, 0.1)],
        lambda: [F.relu(F.batch_norm(x, *[s.clone() for s in plain], weight, bias, True, 0.1, 1e-5))],
        [x, weight, bias],
    )
    batch_norm_relu(x, weight, bias, *ours, 1e-5, 0.1)
    F.batch_norm(x, *plain, weight, bias, True, 0.1, 1e-5)
    return good and all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(ours, plain, strict=True))


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(0 if all(list(cases())) else 1)
