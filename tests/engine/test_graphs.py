"""Recording and replaying the parts of a step; through a stand-in, as no GPU is at hand."""

import pytest
import torch
from helpers.step_tools import VARIANTS, replaying, state_of, tiny_batch, tiny_method, train

from mmseg.config.run import Numerics
from mmseg.engine.graphs import ReplayingRunner, use_graphs
from mmseg.engine.numerics import set_numerics
from mmseg.errors import ConfigError
from mmseg.uda.parts import PlainRunner

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def assert_same(plain, replayed):
    for first, second in zip(plain, replayed, strict=True):
        assert torch.equal(first, second)


def run(settings: dict, numerics: dict, replays: bool, iterations: int = 4):
    """Logs, final state, what was recorded, and warnings."""
    method = tiny_method(**settings)
    set_numerics(method, Numerics(**numerics), CPU)
    warnings: list[str] = []
    recorder = replaying(method, warnings) if replays else None
    logs, _ = train(method, iterations)
    return logs, state_of(method), recorder, warnings


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_replayed_step_is_the_plain_one(variant):
    """With dropout and drop path on, and both draws of events or content map among the iterations: bit for bit."""
    plain_logs, plain, *_ = run(VARIANTS[variant], {}, replays=False)
    logs, replayed, recorder, warnings = run(VARIANTS[variant], {}, replays=True)
    assert warnings == []
    assert recorder.recorded
    assert recorder.replays > len(recorder.recorded)
    assert logs == plain_logs
    assert_same(plain, replayed)


@pytest.mark.parametrize(
    ("variant", "numerics"),
    [
        ("feature distance", dict(precision="bf16")),
        ("feature distance", dict(micro_batch=1)),
        ("feature distance", dict(precision="bf16", micro_batch=1, gradient_checkpointing=True)),
        ("masked images", dict(precision="bf16", micro_batch=1, gradient_checkpointing=True)),
    ],
    ids=["bf16", "micro-batches", "small card", "masked, small card"],
)
def test_numerics_are_replayed(variant, numerics):
    settings = VARIANTS[variant]
    plain_logs, plain, *_ = run(settings, numerics, replays=False, iterations=3)
    logs, replayed, _, warnings = run(settings, numerics, replays=True, iterations=3)
    assert (logs, warnings) == (plain_logs, [])
    assert_same(plain, replayed)


def test_noise_differs_from_iteration_to_iteration_and_repeats_on_resume():
    batch = tiny_batch()
    method = tiny_method()
    replaying(method)
    logs, _ = train(method, 3, batch=batch)
    uninterrupted = state_of(method)
    ce = [values["decode.ce_image"] for values in logs]
    assert len(set(ce)) == 3
    method = tiny_method()
    replaying(method)
    _, optimizer = train(method, 1, batch=batch)
    # a new process: the same weights, nothing recorded
    replaying(method)
    train(method, 2, first=1, optimizer=optimizer, batch=batch)
    assert_same(uninterrupted, state_of(method))


def test_weights_that_an_iteration_does_not_reach_have_no_gradient():
    """An optimiser would move them by their momentum and weight decay."""
    settings = VARIANTS["two fusion modules"]
    method = tiny_method(**settings)
    replaying(method)
    seen = set()
    optimizer = None
    for iteration in range(6):
        _, optimizer = train(method, 1, first=iteration, optimizer=optimizer)
        model = method.model
        reached = tuple(
            any(p.grad is not None for p in module.parameters())
            for module in (model.fusion_module, model.fusion_isr_module)
        )
        seen.add(reached)
    assert seen == {(True, False), (False, True)}


def test_logs_and_pictures_of_an_iteration_outlive_the_next():
    method = tiny_method()
    replaying(method)
    train(method, 2)
    from mmseg.uda.draws import StepDraws

    def step(iteration):
        draws = StepDraws.make(method.settings, 2, iteration, 100, seed=3)
        return method.train_step(tiny_batch(name=f"{iteration}"), draws)

    result = step(2)
    before = {name: value.clone() for name, value in {**result.logs, **result.pictures}.items()}
    step(3)
    for name, value in {**result.logs, **result.pictures}.items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda value: value * 1.01 if value.is_floating_point() else value, "differs when it is replayed"),
        (lambda value: value if value.is_floating_point() else value + 1, "differs when it is replayed"),
        (lambda value: value * float("nan") if value.is_floating_point() else value, "differs when it is replayed"),
    ],
    ids=["losses", "labels", "not a number"],
)
def test_a_replay_that_differs_is_not_used(spoil, said):
    plain_logs, plain, *_ = run({}, {}, replays=False, iterations=2)
    method, warnings = tiny_method(), []
    replaying(method, warnings, spoil)
    logs, _ = train(method, 2)
    assert len(warnings) == 1
    assert said in warnings[0]
    assert "continues without graphs" in warnings[0]
    assert logs == plain_logs
    assert_same(plain, state_of(method))


def test_a_replay_with_other_gradients_is_not_used():
    plain_logs, plain, *_ = run({}, {}, replays=False, iterations=2)
    method, warnings = tiny_method(), []
    recorder = replaying(method, warnings)
    record = recorder.record

    def forgetful(part, inputs):
        recorded = record(part, inputs)
        recorded.part = lambda given: [part(given), [p.grad.mul_(0.5) for p in method.model.parameters()]][0]
        return recorded

    recorder.record = forgetful
    logs, _ = train(method, 2)
    assert "source pass has gradients that differ by" in warnings[0]
    assert logs == plain_logs
    assert_same(plain, state_of(method))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
            "needs more memory to be recorded",
        ),
        (
            RuntimeError("operation not permitted when stream is capturing"),
            "cannot be recorded (operation not",
        ),
    ],
)
def test_what_cannot_be_recorded_runs_plainly(error, said):
    plain_logs, plain, *_ = run({}, {}, replays=False, iterations=2)
    method, warnings = tiny_method(), []
    recorder = replaying(method, warnings)

    def record(part, inputs):
        raise error

    recorder.record = record
    logs, _ = train(method, 2)
    assert len(warnings) == 1
    assert said in warnings[0]
    assert logs == plain_logs
    assert_same(plain, state_of(method))


def test_an_input_of_another_size_runs_plainly():
    method, warnings = tiny_method(), []
    recorder = replaying(method, warnings)
    optimizer = train(method, 2)[1]
    recorded = len(recorder.recorded)
    train(method, 2, first=2, optimizer=optimizer, batch=tiny_batch(side=64))
    assert len(recorder.recorded) == recorded
    assert sorted(text.split(": ")[1] for text in warnings) == [
        f"an input of the {name} changed its size; it runs without a graph"
        for name in ("mixed pass", "source pass", "teacher")
    ]


def test_the_key():
    method, said = tiny_method(), []
    use_graphs(method, Numerics(), CPU, said.append)
    use_graphs(method, Numerics(cuda_graphs=False), CUDA, said.append)
    assert isinstance(method.parts, PlainRunner)
    assert said == []
    with pytest.raises(ConfigError, match=r"cuda_graphs=True: CUDA graphs need a CUDA GPU; set it to 'auto' or False"):
        use_graphs(method, Numerics(cuda_graphs=True), CPU, said.append)


def test_statistics_over_processes_cannot_be_recorded(monkeypatch):
    monkeypatch.setattr("mmseg.engine.graphs.is_distributed", lambda: True)
    method, said = tiny_method(), []
    with pytest.raises(ConfigError, match="sync_bn=True"):
        use_graphs(method, Numerics(cuda_graphs=True, sync_bn=True), CUDA, said.append)
    use_graphs(method, Numerics(sync_bn=True), CUDA, said.append)
    assert "sync_bn=True" in said[0]
    assert not isinstance(method.parts, ReplayingRunner)
