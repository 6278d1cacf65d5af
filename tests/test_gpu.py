"""What needs a CUDA GPU; skipped without one."""

import pytest
import torch
from test_numerics import SIDE, small_batch, small_method

from mmseg.engine.checkpoint import load_training, save_checkpoint
from mmseg.engine.data import to_device
from mmseg.engine.numerics import make_scaler, set_numerics
from mmseg.engine.optim import build_optimizer
from mmseg.extractors.content import NIGHT_PARAMS, SHIFTS, content_map
from mmseg.uda.augment import input_grey_level
from mmseg.uda.draws import StepDraws

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
DEVICE = torch.device("cuda")
OPTIMIZER = {"type": "AdamW", "lr": 6e-5, "weight_decay": 0.01}


def losses(precision: str, device: torch.device, **settings) -> dict[str, float]:
    """Losses of a first step, and whether the second one's are finite."""
    method = small_method(**settings).to(device)
    set_numerics(method, {"precision": precision}, device)
    optimizer, scaler = build_optimizer(method.model, OPTIMIZER), make_scaler(precision)
    batch, logs = to_device(small_batch(), device), []
    for iteration in range(2):
        optimizer.zero_grad(set_to_none=True)
        draws = StepDraws.make(method.settings, 2, iteration, 100, seed=0)
        backward = torch.Tensor.backward if scaler is None else lambda loss: scaler.scale(loss).backward()
        logs.append(method.train_step(batch, draws, backward).logs)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
    assert all(torch.isfinite(value) for value in logs[1].values())
    return {name: value.item() for name, value in logs[0].items() if "loss" in name}


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("tf32", 5e-3), ("bf16", 3e-2), ("fp16", 1e-2)])
def test_steps_agree_with_the_cpu(precision, tolerance):
    expected = losses("fp32", torch.device("cpu"))
    found = losses(precision, DEVICE)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=tolerance), name


def test_a_step_waits_for_nothing():
    """No number is fetched from the GPU, and no copy to it makes the step wait."""
    method = small_method(blur=True, color_jitter_probability=0.0).to(DEVICE)
    set_numerics(method, {}, DEVICE)
    batch = to_device(small_batch(), DEVICE)
    draws = [StepDraws.make(method.settings, 2, iteration, 100, seed=0) for iteration in range(4)]
    for draw in draws[:2]:
        method.train_step(batch, draw)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for draw in draws[2:]:
            method.train_step(batch, draw)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_training_begun_on_the_cpu_goes_on(tmp_path):
    method = small_method()
    optimizer = build_optimizer(method.model, OPTIMIZER)
    method.train_step(small_batch(), StepDraws.make(method.settings, 2, 0, 100, seed=0))
    optimizer.step()
    save_checkpoint(tmp_path / "iter_1.pth", method, optimizer, 1, {})
    method.to(DEVICE)
    optimizer = build_optimizer(method.model, OPTIMIZER)
    load_training(tmp_path / "iter_1.pth", method, optimizer)
    method.train_step(to_device(small_batch(), DEVICE), StepDraws.make(method.settings, 2, 1, 100, seed=0))
    optimizer.step()
    assert all(torch.isfinite(p).all() for p in method.model.parameters())
    assert {(state["step"].device.type, state["step"].item()) for state in optimizer.state.values()} == {("cuda", 2)}


@pytest.mark.parametrize("direction", SHIFTS)
def test_content_maps_are_those_of_the_cpu(direction):
    images = small_batch()["source"]["image"]
    grey = input_grey_level(images)
    assert torch.equal(input_grey_level(images.to(DEVICE)).cpu(), grey)
    assert grey.shape == (2, SIDE, SIDE)
    expected = content_map(grey, NIGHT_PARAMS, direction)
    torch.testing.assert_close(content_map(grey.to(DEVICE), NIGHT_PARAMS, direction).cpu(), expected)
