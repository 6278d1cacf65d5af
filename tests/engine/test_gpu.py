"""What needs a CUDA GPU; skipped without one."""

import pytest
import torch
import torch.nn.functional as F
from helpers.method_tools import SIDE, small_batch, small_method
from helpers.step_tools import VARIANTS, state_of, tiny_batch, tiny_method, train

from mmseg.config.augmentation import TestTimeAugmentation
from mmseg.config.run import Numerics, Optimizer
from mmseg.engine.checkpoint import load_training, save_checkpoint
from mmseg.engine.data import to_device
from mmseg.engine.graphs import use_graphs
from mmseg.engine.numerics import make_scaler, set_numerics, set_precision
from mmseg.engine.optim import build_optimizer
from mmseg.engine.prediction import Predictor, recorder_for
from mmseg.extractors.content import NIGHT_PARAMS, SHIFTS, content_map
from mmseg.uda.augment import input_grey_level
from mmseg.uda.draws import StepDraws

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU"),
]
DEVICE = torch.device("cuda")
OPTIMIZER = Optimizer(type="AdamW", lr=6e-5, weight_decay=0.01)


def losses(precision: str, device: torch.device, **settings) -> dict[str, float]:
    """Losses of a first step, and whether the second one's are finite."""
    method = small_method(**settings).to(device)
    set_numerics(method, Numerics(precision=precision), device)
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
    set_numerics(method, Numerics(), DEVICE)
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


def test_gradients_agree_with_the_cpu():
    found = {}
    for device in (torch.device("cpu"), DEVICE):
        method = small_method().to(device)
        set_numerics(method, Numerics(), device)
        draws = StepDraws.make(method.settings, 2, 0, 100, seed=0)
        method.train_step(to_device(small_batch(), device), draws)
        found[device.type] = {n: p.grad.cpu() for n, p in method.model.named_parameters() if p.grad is not None}
    assert found["cpu"].keys() == found["cuda"].keys()
    apart = sum((found["cpu"][name] - found["cuda"][name]).square().sum() for name in found["cpu"]).sqrt()
    assert apart < 2e-3 * sum(gradient.square().sum() for gradient in found["cpu"].values()).sqrt()


def graphs_in_use(method) -> bool:
    return method.parts.replays and len(method.parts._records) > 0


def run(settings: dict, numerics: dict, graphs: bool, iterations: int = 5):
    """Logs of some iterations with all noise on, and the method."""
    method, said = tiny_method(**settings).to(DEVICE), []
    set_numerics(method, Numerics(**numerics), DEVICE)
    use_graphs(method, Numerics(**numerics, cuda_graphs=graphs), DEVICE, said.append)
    optimizer = build_optimizer(method.model, OPTIMIZER)
    logs, _ = train(method, iterations, optimizer=optimizer, batch=to_device(tiny_batch(64), DEVICE))
    assert said == []
    return logs, method


@pytest.mark.parametrize("variant", VARIANTS)
def test_replayed_steps_are_the_plain_ones(variant):
    """Equal seeds, equal draws of dropout: what differs is the order of sums that have none, and what grows from it."""
    plain, _ = run(VARIANTS[variant], {"precision": "fp32"}, graphs=False)
    replayed, method = run(VARIANTS[variant], {"precision": "fp32"}, graphs=True)
    assert graphs_in_use(method)
    for iteration, (expected, found) in enumerate(zip(plain, replayed, strict=True)):
        for name, value in expected.items():
            if ".ce_" in name:
                assert found[name] == pytest.approx(value, rel=1e-5 if iteration == 0 else 5e-3), (iteration, name)


@pytest.mark.parametrize(
    "numerics",
    [dict(precision="bf16"), dict(precision="bf16", micro_batch=1, gradient_checkpointing=True)],
    ids=["bf16", "small card"],
)
def test_precisions_are_replayed(numerics):
    plain, _ = run({}, numerics, graphs=False, iterations=2)
    replayed, method = run({}, numerics, graphs=True, iterations=2)
    assert graphs_in_use(method)
    for name in ("decode.ce_image", "decode.ce_fusion", "mix.decode.ce_events"):
        assert replayed[1][name] == pytest.approx(plain[1][name], rel=3e-2), name


def test_a_resumed_training_replays_what_an_uninterrupted_one_does(tmp_path):
    batch = to_device(tiny_batch(64), DEVICE)

    def begin():
        method = tiny_method().to(DEVICE)
        set_numerics(method, Numerics(), DEVICE)
        use_graphs(method, Numerics(cuda_graphs=True), DEVICE, pytest.fail)
        return method

    method = begin()
    expected, _ = train(method, 4, optimizer=build_optimizer(method.model, OPTIMIZER), batch=batch)
    method = begin()
    _, optimizer = train(method, 2, optimizer=build_optimizer(method.model, OPTIMIZER), batch=batch)
    save_checkpoint(tmp_path / "iter_2.pth", method, optimizer, 2, {})
    method = begin()
    optimizer = build_optimizer(method.model, OPTIMIZER)
    load_training(tmp_path / "iter_2.pth", method, optimizer)
    found, _ = train(method, 2, first=2, optimizer=optimizer, batch=batch)
    for name, value in expected[3].items():
        if ".ce_" in name:
            assert found[1][name] == pytest.approx(value, rel=2e-3), name


def test_a_recording_that_fails_leaves_a_plain_training():
    """A number fetched from the GPU breaks the recording; random numbers must go on afterwards."""
    plain, _ = run({}, {}, graphs=False, iterations=2)
    method, said = tiny_method().to(DEVICE), []
    set_numerics(method, Numerics(), DEVICE)
    use_graphs(method, Numerics(cuda_graphs=True), DEVICE, said.append)
    confidence = method._confidence

    def fetching(logits, size):
        if torch.cuda.is_current_stream_capturing():
            logits.sum().item()
        return confidence(logits, size)

    method._confidence = fetching
    optimizer = build_optimizer(method.model, OPTIMIZER)
    logs, _ = train(method, 2, optimizer=optimizer, batch=to_device(tiny_batch(64), DEVICE))
    assert len(said) == 1
    assert "the teacher cannot be recorded" in said[0]
    assert logs[1]["decode.ce_image"] == pytest.approx(plain[1]["decode.ce_image"], rel=2e-3)
    assert all(torch.isfinite(value).all() for value in state_of(method) if value.is_floating_point())


def test_kernels_compute_what_torch_does():
    from mmseg.models.kernels.batch_norm import batch_norm_relu
    from mmseg.models.kernels.depthwise import dilated_depthwise
    from mmseg.models.kernels.layer_norm import add_norm

    def leaf(*shape, dtype=torch.float32):
        return torch.randn(shape, device=DEVICE, dtype=dtype, requires_grad=True)

    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    x, taps = leaf(2, 24, 65, 40), leaf(24, 1, 3, 3)
    tokens, branch, weight, bias = leaf(2, 777, 160), leaf(2, 777, 160), leaf(160), leaf(160)
    factor = torch.tensor([0.0, 1.25], device=DEVICE).view(2, 1, 1)
    scale, shift = leaf(24), leaf(24)
    running = [torch.zeros(24, device=DEVICE) for _ in range(4)]

    def normal():
        total = tokens + branch * factor
        return [total, F.layer_norm(total, (160,), weight, bias, 1e-6)]

    cases = [
        (
            lambda: [dilated_depthwise(x, taps, 12)],
            lambda: [F.conv2d(x, taps, padding=12, dilation=12, groups=24)],
            [x, taps],
        ),
        (
            lambda: list(add_norm(tokens, branch, factor, weight, bias, 1e-6, torch.float32)),
            normal,
            [tokens, branch, weight, bias],
        ),
        (
            lambda: [batch_norm_relu(x, scale, shift, *running[:2], 1e-5, 0.1)],
            lambda: [F.relu(F.batch_norm(x, *running[2:], scale, shift, True, 0.1, 1e-5))],
            [x, scale, shift],
        ),
    ]
    for ours, plain, leaves in cases:
        results = []
        for function in (ours, plain):
            outputs = function()
            torch.manual_seed(1)
            gradients = [torch.randn_like(output) for output in outputs]
            results.append([*outputs, *torch.autograd.grad(outputs, leaves, gradients)])
        for found, expected in zip(*results, strict=True):
            assert (found - expected).norm() < 1e-5 * expected.norm()
    torch.testing.assert_close(running[:2], running[2:])


@pytest.mark.parametrize("tta", [None, "flip,0.75,1"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recorded_predictions_are_the_plain_ones(precision, tta):
    """Of two sizes in turns; the classifier is made to tell classes apart, which random weights hardly do."""
    segmentor = small_method().model.to(DEVICE).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(segmentor.decode_head.conv_seg.weight, std=2)
    dtype, told = set_precision(precision, DEVICE), []
    plain, recorded = (
        Predictor(segmentor, DEVICE, dtype, recorder, told.append, TestTimeAugmentation.parse(tta))
        for recorder in (None, recorder_for(DEVICE))
    )
    for _ in range(4):
        for size in ((64, 96), (96, 64)):
            inputs = {name: torch.randn((1, 3, *size)) for name in ("image", "events")}
            expected, found = (each.begin(inputs, "fusion", (50, 60), True).arrays() for each in (plain, recorded))
            assert len(set(expected["label"].flat)) > 2
            assert (found["label"] == expected["label"]).all()
            assert abs(found["confidence"] - expected["confidence"]).max() < 1e-3
    assert told == []
    assert len(recorded._records) == 2
