"""The training step on a pretended GPU, which needs none: tensors know their device and shape, and hold nothing.

An operation that meets tensors of the GPU and of the host raises, and so does one that asks for a value: on a GPU
either would fail, or make the step wait. Not shown: what the GPU computes, and the way back; ``test_gpu.py`` does.
"""

import pytest
import torch
from helpers.method_tools import dark_zurich_method, golden_batch, small_batch, small_method
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg.config.run import Numerics
from mmseg.engine.numerics import set_numerics
from mmseg.extractors import content
from mmseg.extractors.content import NIGHT_PARAMS, content_map
from mmseg.models.backbones import mit
from mmseg.uda import augment, feature_distance
from mmseg.uda.augment import input_grey_level, to_uint8
from mmseg.uda.draws import StepDraws

DEVICE = torch.device("cuda")


@pytest.fixture
def pretence(monkeypatch):
    """Mode in which tensors on the GPU can be made. Its engine of the way back asks for a driver, so it is left out."""
    monkeypatch.setattr(torch.autograd, "backward", lambda *args, **kwargs: None)
    kept = (augment._mean_std_largest, content._log_table, feature_distance._chosen, mit._keep_shares)
    for constants in kept:
        constants.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode
    for constants in kept:
        constants.cache_clear()


def on_gpu(value):
    """Tensors of the shapes of a tensor, a batch or a module (in place)."""
    if isinstance(value, nn.Module):
        for module in value.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    module._parameters[name] = nn.Parameter(on_gpu(weight), weight.requires_grad)
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else on_gpu(buffer)
        return value
    if isinstance(value, dict):
        return {key: on_gpu(part) for key, part in value.items()}
    return torch.empty(value.shape, dtype=value.dtype, device=DEVICE) if isinstance(value, Tensor) else value


VARIANTS = {
    "published": (dict(), dict()),
    "jittered and blurred": (dict(blur=True, color_jitter_probability=0.0), dict()),
    "masked": (dict(masking=dict(block=16, shared=False), blur=True, color_jitter_probability=0.0), dict()),
    "feature distance": (dict(imnet_feature_dist_lambda=0.005, imnet_feature_dist_classes=[6, 7, 11]), dict()),
    "small card": (dict(), dict(micro_batch=1, gradient_checkpointing=True)),
    "Dark Zurich": ("cs2dz_image+raw-isr", dict()),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_stays_on_the_gpu(variant, request):
    settings, numerics = VARIANTS[variant]
    if isinstance(settings, str):
        method, batch = dark_zurich_method(settings).train(), golden_batch("cs2dz", 0, 2, 64, 64, 16)
    else:
        method, batch = small_method(**settings), small_batch()
    request.getfixturevalue("pretence")
    set_numerics(on_gpu(method), Numerics(**numerics), DEVICE)
    batch = on_gpu(batch)
    # from the second step on the teacher is an average
    for iteration in range(2):
        draws = StepDraws.make(method.settings, 2, iteration, 100, seed=0)
        result = method.train_step(batch, draws, lambda loss: None)
    assert {value.device.type for value in result.logs.values() if isinstance(value, Tensor)} == {"cuda"}


def test_content_maps_stay_on_the_gpu(pretence):
    grey = input_grey_level(torch.empty((2, 3, 64, 64), device=DEVICE))
    assert (grey.dtype, grey.device.type) == (torch.uint8, "cuda")
    assert content_map(grey, NIGHT_PARAMS, "all").device.type == "cuda"


class Divisors(TorchDispatchMode):
    """Keeps what is divided by."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name == "aten::div":
            self.seen.append(args[1])
        return func(*args, **(kwargs or {}))


def test_8_bit_images_are_divided_as_on_the_cpu(pretence):
    """By a number on the GPU: it multiplies by the reciprocal of one on the host, which gives other 8-bit values."""
    with Divisors() as divisors:
        to_uint8(torch.empty((3, 8, 8), device=DEVICE))
    assert [getattr(divisor, "device", torch.device("cpu")).type for divisor in divisors.seen] == ["cuda"]


def test_the_pretence_sees_mixed_devices_and_fetched_values(pretence):
    tensor = torch.empty(3, device=DEVICE)
    with pytest.raises(RuntimeError, match="device"):
        tensor + torch.ones(3)
    with pytest.raises(DataDependentOutputException):
        tensor.sum().item()
