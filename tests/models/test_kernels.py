"""The GPU kernels in Triton's interpreter, and what takes their place without a GPU."""

import importlib.util
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmseg.models import kernels
from mmseg.models.decode_heads.daformer_head import ConvBNReLU
from mmseg.models.kernels.upsampling import enlarge, is_exact
from mmseg.models.low_precision import WeightCopies

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="there is no Triton")
def test_kernels_compute_what_torch_does():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "kernel_cases.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_gpu_the_layers_are_torchs():
    x = torch.randn(2, 4, 9, 7)
    conv = kernels.DilatedConv2d(4, 4, 3, padding=6, dilation=6, groups=4, bias=False)
    assert torch.equal(conv(x), F.conv2d(x, conv.weight, padding=6, dilation=6, groups=4))
    norm = kernels.BatchNormReLU(4)
    assert torch.equal(norm(x), F.relu(nn.BatchNorm2d(4)(x)))
    tokens, branch, factor = torch.randn(2, 5, 4), torch.randn(2, 5, 4), torch.tensor([0.0, 2.0]).view(2, 1, 1)
    layer = kernels.TokenNorm(4)
    total, normal = layer(tokens, (branch, factor))
    assert torch.equal(total, tokens + branch * factor)
    assert torch.equal(normal, F.layer_norm(total, (4,)))
    assert torch.equal(layer(tokens), F.layer_norm(tokens, (4,)))


def test_batch_norm_over_processes_keeps_the_relu():
    layer = nn.SyncBatchNorm.convert_sync_batchnorm(ConvBNReLU(3, 4, 1)).eval()
    assert isinstance(layer.bn, nn.SyncBatchNorm)
    nn.init.constant_(layer.bn.bias, -1.0)
    assert layer(torch.randn(2, 3, 8, 8)).min() == 0


@pytest.mark.parametrize(("small", "large"), [((4, 6), (8, 12)), ((8, 8), (64, 64)), ((2, 3), (128, 192))])
def test_enlarging_in_16_bits_rounds_as_32_bits_do(small, large):
    """Twice: after the columns and after the rows."""
    x = torch.randn(2, 3, *small).bfloat16()
    assert is_exact(x, large)
    expected = F.interpolate(x.float(), size=large, mode="bilinear")
    torch.testing.assert_close(enlarge(x, large).float(), expected, rtol=2**-7, atol=2**-6)


def test_other_factors_are_left_to_torch():
    assert not is_exact(torch.empty(1, 1, 4, 4), (12, 12))
    assert not is_exact(torch.empty(1, 1, 110, 160), (440, 641))


def two_passes(network: nn.Module, dtype: torch.dtype, copies: WeightCopies | None) -> list[torch.Tensor]:
    """Loss of the second pass, and the gradients of both."""
    network.zero_grad(set_to_none=True)
    with copies.swapped_in() if copies else nullcontext():
        for factor in (1, 2):
            x = factor * torch.linspace(-1, 1, 40).view(5, 8)
            with torch.autocast("cpu", dtype):
                loss = network(x).float().square().sum()
            loss.backward()
            if copies:
                copies.collect_gradients()
    return [loss.detach(), *(p.grad for p in network.parameters())]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weight_copies_give_the_numbers_of_autocast(dtype, monkeypatch):
    monkeypatch.setattr("mmseg.models.low_precision.AT_A_TIME", 60)
    torch.manual_seed(0)
    layers = (
        nn.Linear(8, 8),
        nn.LayerNorm(8),
        nn.Unflatten(1, (8, 1, 1)),
        nn.Conv2d(8, 6, 1, bias=False),
        nn.Flatten(),
    )
    network = nn.Sequential(*layers)
    copies, names = WeightCopies(network, dtype), list(network.state_dict())
    with torch.no_grad():
        network[0].weight.mul_(3)
    copies.refresh()
    plain = two_passes(network, dtype, None)
    for expected, found in zip(plain, two_passes(network, dtype, copies), strict=True):
        assert torch.equal(expected, found)
    with copies.swapped_in():
        assert (network[0].weight.dtype, network[1].weight.dtype) == (dtype, torch.float32)
    assert network[0].weight.dtype == torch.float32
    assert list(network.state_dict()) == names


def test_frozen_weights_have_frozen_copies():
    network = nn.Linear(4, 4).requires_grad_(False)
    copies = WeightCopies(network, torch.bfloat16)
    with copies.swapped_in():
        assert not network.weight.requires_grad
        with torch.autocast("cpu", torch.bfloat16):
            assert not network(torch.randn(2, 4)).requires_grad
    copies.collect_gradients()
    assert network.weight.grad is None
