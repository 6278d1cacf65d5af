"""GPU kernels of our own, in Triton, where PyTorch's take several times the time that their bytes need.

The layers here are PyTorch's, with the same weights and names; they take the kernel on a GPU that has it.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache

import torch
from torch import Tensor, nn


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether kernels can be compiled: Triton is installed and the GPU is new enough for it."""
    has_triton = importlib.util.find_spec("triton") is not None
    return has_triton and torch.cuda.is_available() and torch.cuda.get_device_capability() >= (7, 0)


def _usable(x: Tensor) -> bool:
    return x.is_cuda and not torch.compiler.is_compiling() and available()


class DepthwiseConv2d(nn.Conv2d):
    """Depth-wise convolution; 3x3 with dilation and without bias has a kernel of its own on a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        plain = (self.kernel_size, self.stride, self.bias) == ((3, 3), (1, 1), None) and self.padding == self.dilation
        if not (plain and self.dilation[0] == self.dilation[1] and _usable(x)):
            return super().forward(x)
        from mmseg.models.kernels.depthwise import dilated_depthwise

        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
        return dilated_depthwise(x.to(dtype), self.weight.to(dtype), self.dilation[0])


class InputNorm(nn.LayerNorm):
    """Layer norm whose result only linear layers and convolutions read: under autocast it is rounded at once."""

    def forward(self, x: Tensor) -> Tensor:
        if not (torch.is_autocast_enabled("cuda") and _usable(x)):
            return super().forward(x)
        from mmseg.models.kernels.layer_norm import layer_norm

        return layer_norm(x, self.weight, self.bias, self.eps, torch.get_autocast_dtype("cuda"))
