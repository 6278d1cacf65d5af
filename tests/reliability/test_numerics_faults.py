"""Losses and gradients that are not finite, and memory that does not suffice."""

import pytest
import torch
from torch import nn

from mmseg.config.run import Numerics
from mmseg.engine.finite import FiniteWatch
from mmseg.engine.numerics import set_determinism
from mmseg.engine.trainer import Trainer
from mmseg.errors import CMDAError


def small_step(value: float) -> tuple[nn.Linear, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    loss = (model(torch.ones(1, 3)) * value).sum()
    loss.backward()
    return model, {"decode.loss_seg": loss}


def test_the_norm_of_the_gradient_is_logged():
    model, logs = small_step(2.0)
    watch = FiniteWatch(torch.optim.AdamW(model.parameters()), torch.device("cpu"))
    assert watch.see(0, logs, model.parameters()) is None
    expected = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    torch.testing.assert_close(logs["grad_norm"], expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_cpu_knows_at_once(value):
    model, logs = small_step(value)
    watch = FiniteWatch(torch.optim.AdamW(model.parameters()), torch.device("cpu"))
    broken = watch.see(7, logs, model.parameters())
    assert broken.iteration == 7
    assert broken.describe().startswith(("decode.loss_seg nan", "decode.loss_seg inf", "decode.loss_seg -inf"))


def test_a_gradient_alone_counts():
    model, logs = small_step(1.0)
    model.bias.grad[0] = float("inf")
    watch = FiniteWatch(torch.optim.AdamW(model.parameters()), torch.device("cpu"))
    assert watch.see(7, logs, model.parameters()).describe().startswith("grad_norm inf, decode.loss_seg ")


def test_a_fused_optimiser_leaves_the_update_out_until_it_is_asked_about():
    """As on CUDA, where nothing is fetched between two log lines; so does the fused AdamW of the CPU."""
    model, logs = small_step(1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    watch = FiniteWatch(optimizer, torch.device("cpu"))
    watch.can_wait = True
    assert watch.see(3, logs, model.parameters()) is None
    before = model.weight.clone()
    optimizer.step()
    assert not torch.equal(model.weight, before)
    before = model.weight.clone()
    model.weight.grad[0, 0] = float("nan")
    assert watch.see(4, dict(logs), model.parameters()) is None
    optimizer.step()
    assert torch.equal(model.weight, before)
    assert watch.found().iteration == 4
    assert watch.found() is None


class FakeScaler:
    def __init__(self, scale):
        self.scale = scale

    def get_scale(self):
        return self.scale


def test_a_scaler_that_finds_no_scale_ends_the_training():
    trainer = object.__new__(Trainer)
    trainer.watch, trainer.scaler = None, FakeScaler(65536.0)
    trainer.check_finite()
    trainer.scaler.scale = 2.0**-11
    with pytest.raises(CMDAError, match="not finite at any scale of the losses; set precision='bf16'"):
        trainer.check_finite()


def test_deterministic_is_set_and_taken_back():
    set_determinism(Numerics(deterministic=True, cudnn_benchmark=True))
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    set_determinism(Numerics())
    assert not torch.are_deterministic_algorithms_enabled()
