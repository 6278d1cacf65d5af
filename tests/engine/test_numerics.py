"""Number formats, micro-batches, gradient checkpointing and compilation of the training step."""

import copy

import pytest
import torch
from helpers.method_tools import small_batch, small_method
from torch import nn

from mmseg.config.run import Numerics
from mmseg.engine.numerics import make_scaler, set_numerics, set_precision
from mmseg.errors import ConfigError
from mmseg.models.compilation import compile_networks
from mmseg.uda.draws import StepDraws

CPU = torch.device("cpu")


def gradients(method: nn.Module) -> tuple[dict, dict]:
    """Logs and gradients of a step; the method stays as it is."""
    method = copy.deepcopy(method)
    draws = StepDraws.make(method.settings, 2, 3, 100, seed=0)
    logs = method.train_step(small_batch(), draws).logs
    return logs, {name: p.grad.clone() for name, p in method.model.named_parameters() if p.grad is not None}


def assert_alike(first: dict, second: dict, share: float) -> None:
    """The difference of the gradients is this share of them at most."""
    assert first.keys() == second.keys()
    apart = sum((first[name] - second[name]).square().sum() for name in first).sqrt()
    assert apart <= share * sum(g.square().sum() for g in first.values()).sqrt()


def test_gradient_checkpointing_gives_the_same_gradients():
    method = small_method()
    _, plain = gradients(method)
    set_numerics(method, Numerics(gradient_checkpointing=True), CPU)
    assert method.model.backbone_events.gradient_checkpointing
    _, again = gradients(method)
    assert_alike(plain, again, 1e-5)


def test_micro_batches_differ_by_batch_norm_alone():
    method = small_method()
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    logs, plain = gradients(method)
    set_numerics(method, Numerics(micro_batch=1), CPU)
    parts, again = gradients(method)
    assert_alike(plain, again, 1e-4)
    for name, value in logs.items():
        assert parts[name].item() == pytest.approx(value.item(), rel=1e-4), name


def test_micro_batches_with_the_feature_distance():
    method = small_method(imnet_feature_dist_lambda=0.005, imnet_feature_dist_classes=None)
    set_numerics(method, Numerics(micro_batch=1), CPU)
    logs, _ = gradients(method)
    assert torch.isfinite(logs["src.loss_imnet_feat_dist"])


def test_bf16_runs_the_networks_alone():
    method = small_method()
    logs, plain = gradients(method)
    method = small_method()
    set_numerics(method, Numerics(precision="bf16"), CPU)
    rounded, again = gradients(method)
    assert_alike(plain, again, 0.25)
    for name, value in logs.items():
        assert rounded[name].dtype == torch.float32
        if "loss" in name:
            assert rounded[name].item() == pytest.approx(value.item(), rel=0.02)
    assert all(p.dtype == torch.float32 for p in method.parameters())


@pytest.mark.parametrize(
    ("precision", "message"),
    [("fp16", "needs a CUDA GPU"), ("tf32", "needs a CUDA GPU"), ("fp8", "choose one of fp32")],
)
def test_precisions_that_are_not_there(precision, message):
    with pytest.raises(ConfigError, match=message):
        set_precision(precision, CPU)


def test_scaler_is_for_fp16_alone():
    assert make_scaler("bf16") is None
    assert make_scaler(None) is None


def test_compilation_keeps_names():
    """Nothing is compiled before the first step."""
    method = small_method()
    names = list(method.state_dict())
    compile_networks(method)
    assert list(method.state_dict()) == names
    blocks = [method.model.backbone_image.block1[0], method.ema_model.fusion_module.basic_block[0]]
    assert all(block._compiled_call_impl is not None for block in [*blocks, method.model.decode_head.fuse_layer_image])
    copy.deepcopy(method.model.state_dict())
