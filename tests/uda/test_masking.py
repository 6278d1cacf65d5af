"""Masked image consistency: the masks, their draws, the masked pass, and its settings."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.method_tools import without_dropout
from helpers.step_tools import OPTIMIZER, SIDE, TOGETHER, VARIANTS, tiny_batch, tiny_method, train
from torch import nn

from mmseg.config.run import Numerics
from mmseg.config.uda import Masking, UDASettings
from mmseg.engine.checkpoint import load_training, save_checkpoint
from mmseg.engine.optim import build_optimizer
from mmseg.errors import ConfigError
from mmseg.uda.augment import color_jitter, denormalize, gaussian_blur, renormalize
from mmseg.uda.draws import MaskDraws, StepDraws
from mmseg.uda.masking import first_of_two, hide_cells, shown_cells
from mmseg.uda.streams import PLANS, Passes, StreamPlan, Variant, stream_plan
from mmseg.visualization.panels import GAP, TITLE_HEIGHT, step_panel

STREAMS = ("image", "events", "img_self_res")


def settings(masking: dict | None = None, train_type: str = TOGETHER, **changes) -> UDASettings:
    return UDASettings(train_type=train_type, masking=masking, **changes)


def draws(iteration: int = 5, seed: int = 3, batch: int = 4, **masking) -> MaskDraws:
    return StepDraws.make(settings(masking), batch, iteration, 100, seed).masked


# ---------------------------------------------------------------- masks


def test_a_mask_by_hand():
    """5 x 7 pixels in blocks of 2: round(2.5) x round(3.5) = 2 x 4 cells; pixel i takes cell i * cells // pixels."""

    class Fixed(MaskDraws):
        def cells(self, rows, columns):
            assert (rows, columns) == (2, 4)
            return np.array([[[0.1, 0.71, 0.7, 0.9], [0.95, 0.2, 0.8, 0.0]]])

    fixed = Fixed(0.0, 0.0, 1.0, (), ())
    image = torch.arange(1.0, 36).view(1, 1, 5, 7)
    hidden = hide_cells({"image": image}, Masking(block=2), fixed, {"image"})["image"]
    upper, lower = [0, 0, 1, 1, 0, 0, 1], [1, 1, 0, 0, 1, 1, 0]
    assert torch.equal(hidden, image * torch.tensor([upper, upper, upper, lower, lower]))


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("streams", [1, 2, 3])
def test_cells_of_several_streams(ratio, streams):
    values = np.random.default_rng(0).random((4, 32, 32))
    shared, own = (shown_cells(values, ratio, streams, shared) for shared in (True, False))
    assert shared.shape == own.shape == (4, streams, 32, 32)
    assert (shared == (values > ratio)[:, None]).all()
    # each by itself is masked as MIC does; together they show as many cells as they can
    assert own.mean(axis=(0, 2, 3)) == pytest.approx(1 - ratio, abs=0.03)
    counts, exact = own.sum(axis=1), round(streams * (1 - ratio), 9)
    assert set(counts.flat) <= {int(np.floor(exact)), int(np.ceil(exact))}
    assert (own[:, 0] == shared[:, 0]).all()


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_hidden(shared):
    """Whole cells, at the masked streams only; hidden values are 0, shown ones are kept bit for bit."""
    inputs = {name: torch.randn(4, 3, 64, 96) for name in STREAMS}
    masking = Masking(block=16, shared=shared, streams=["image", "events"])
    hidden = hide_cells(inputs, masking, draws(), masking.streams)
    assert hidden["img_self_res"] is inputs["img_self_res"]
    masks = []
    for name in masking.streams:
        kept = hidden[name] != 0
        assert torch.equal(hidden[name], inputs[name] * kept)
        cells = kept.unflatten(2, (4, 16)).unflatten(4, (6, 16)).transpose(3, 4)
        assert torch.equal(cells.flatten(4).all(-1), cells.flatten(4).any(-1))
        masks.append(kept[:, 0])
    assert torch.equal(*masks) == shared
    if not shared:
        # at a ratio of 0.7, no cell is shown by two streams
        assert not (masks[0] & masks[1]).any()


# ---------------------------------------------------------------- draws


def test_equal_draws_give_equal_masks_in_any_number_of_processes():
    whole, cells = draws(), draws().cells(4, 6)
    for processes in (1, 2, 4):
        # the global generators of a process do not matter
        np.random.seed(processes)
        torch.manual_seed(processes)
        size = 4 // processes
        parts = [draws().part(i * size, (i + 1) * size) for i in range(processes)]
        assert (np.concatenate([part.cells(4, 6) for part in parts]) == cells).all()
        assert sum((part.jitter_factors for part in parts), ()) == whole.jitter_factors
    assert whole == draws()


def test_masks_differ_by_sample_iteration_and_seed():
    grids = [*draws().cells(4, 6), *(draws(**key).cells(4, 6)[0] for key in (dict(iteration=6), dict(seed=4)))]
    assert len({grid.tobytes() for grid in grids}) == 6


def test_masking_changes_no_other_draw():
    plain, masked = (StepDraws.make(settings(masking), 2, 7, 100, 3) for masking in (None, {}))
    for name in ("jitter", "blur", "sigma", "events", "jitter_factors"):
        assert getattr(plain, name) == getattr(masked, name)
    assert (plain.class_priority == masked.class_priority).all()
    assert plain.masked is None
    # its own jitter and blur
    assert (masked.masked.jitter, masked.masked.sigma) != (masked.jitter, masked.sigma)


def test_cells_are_uniform():
    values = draws(batch=8).cells(64, 64)
    assert np.histogram(values, 10, (0, 1))[0] / values.size == pytest.approx(np.full(10, 0.1), abs=0.01)


# ---------------------------------------------------------------- the masked pass


def as_double(streams):
    return {name: x.double() if x.is_floating_point() else x for name, x in streams.items()}


def step(method, batch, iteration=1):
    """A step, and the gradient that it leaves."""
    method.zero_grad(set_to_none=True)
    made = StepDraws.make(method.settings, len(batch["source"]["image"]), iteration, 100, 0)
    result = method.train_step(batch, made)
    return result, made, {name: p.grad.clone() for name, p in method.model.named_parameters() if p.grad is not None}


def test_the_masked_pass_of_images_is_that_of_mic():
    """Its input, label, pixel weight, loss and gradient, against a plain form; in double precision."""
    masking = dict(block=8, weight=0.5)
    options = dict(train_type="cs2dsec_image", blur=True, color_jitter_probability=0.0, pseudo_threshold=0.15)
    batch = {domain: as_double(streams) for domain, streams in tiny_batch().items()}
    method = without_dropout(tiny_method(**options, masking=masking)).double()
    plain = without_dropout(tiny_method(**options)).double()
    iteration = next(i for i in range(1, 9) if StepDraws.make(method.settings, 2, i, 100, 0).masked.blur > 0.5)
    result, made, gradient = step(method, batch, iteration)
    _, _, without = step(plain, batch, iteration)

    own = made.masked
    image = batch["target"]["warp_image"]
    image = torch.stack([color_jitter(x, f) for x, f in zip(denormalize(image), own.jitter_factors, strict=True)])
    image = gaussian_blur(renormalize(image), own.sigma)
    kept = torch.from_numpy(own.cells(SIDE // 8, SIDE // 8) > 0.7)[:, None]
    image = image * kept.repeat_interleave(8, 2).repeat_interleave(8, 3)
    label, weight = (result.pictures[f"target.pseudo_{name}"] for name in ("label", "weight"))
    assert torch.equal(result.pictures["masked.image"], image)
    assert torch.equal(result.pictures["masked.label"], label)
    assert torch.equal(result.pictures["masked.weight"], weight)
    # rows that the host method ignores, and its share of certain pixels elsewhere
    assert (weight[:, :2] == 0).all()
    assert (weight[:, 2:-4] == weight[0, 2, 0]).all()
    assert 0 < weight[0, 2, 0] < 1

    plain.zero_grad(set_to_none=True)
    logits = F.interpolate(plain.model({"image": image}, "none").logits["image"], (SIDE, SIDE), mode="bilinear")
    ce = (weight * F.cross_entropy(logits, label, reduction="none")).mean()
    (0.5 * ce).backward()
    assert result.logs["masked.decode.ce_image"].item() == pytest.approx(ce.item(), rel=1e-9)
    assert result.logs["masked.decode.loss_seg"].item() == pytest.approx(0.5 * ce.item(), rel=1e-9)
    for name, parameter in plain.model.named_parameters():
        torch.testing.assert_close(gradient[name] - without[name], parameter.grad, rtol=1e-6, atol=1e-12)


def test_separate_masks_the_first_source_and_target_of_every_two():
    method = tiny_method("cs2dz_image+raw-isr", masking=dict(block=8, mode="separate", ratio=0.0), blur=True)
    batch = tiny_batch(samples=4)
    result, _, _ = step(method, batch)
    seen, label = result.pictures, batch["source"]["label"][:, 0]
    for stream, (day, night) in {"image": ("image", "image"), "img_self_res": ("img_self_res", "night_isr")}.items():
        source, target = batch["source"][day], batch["target"][night]
        # not augmented, although the mixed images are
        assert torch.equal(seen[f"masked.{stream}"], torch.stack([source[0], target[0], source[2], target[2]]))
    pseudo, weight = seen["target.pseudo_label"], seen["target.pseudo_weight"]
    assert torch.equal(seen["masked.label"], torch.stack([label[0], pseudo[0], label[2], pseudo[2]]))
    ones = torch.ones_like(weight[0])
    assert torch.equal(seen["masked.weight"], torch.stack([ones, weight[0], ones, weight[2]]))


def test_separate_is_the_same_in_any_number_of_processes():
    source, target = torch.arange(8), torch.arange(8) + 100
    whole = first_of_two(source, target)
    assert whole.tolist() == [0, 100, 2, 102, 4, 104, 6, 106]
    assert torch.equal(torch.cat([first_of_two(source[i : i + 2], target[i : i + 2]) for i in (0, 2, 4, 6)]), whole)


@pytest.mark.parametrize("shared", [True, False])
def test_all_streams_of_the_student_are_masked(shared):
    method = tiny_method(masking=dict(block=8, shared=shared))
    result, _, _ = step(method, tiny_batch())
    shown = {name: result.pictures[f"masked.{name}"].abs().amax(1)[:, ::8, ::8] > 0 for name in ("image", "events")}
    assert torch.equal(shown["image"], shown["events"]) == shared
    assert {name for name in result.logs if name.startswith("masked.decode.ce_")} == {
        f"masked.decode.ce_{name}" for name in (*STREAMS, "fusion")
    }
    # a row of the panel
    height = step_panel(result.pictures).shape[0]
    assert height == 4 * (SIDE + TITLE_HEIGHT + GAP) + GAP


@pytest.mark.parametrize(("one_second_input", "events"), [({}, True), ({}, False), (dict(isr_no_fusion=True), False)])
def test_the_second_input_that_was_drawn_is_masked(one_second_input, events):
    masking = dict(block=8, shared=False, streams=["events"])
    method = tiny_method("cs2dsec_image+events", masking=masking, **one_second_input)
    iteration = next(i for i in range(20) if StepDraws.make(method.settings, 2, i, 100, 0).events == events)
    result, made, _ = step(method, tiny_batch(), iteration)
    seen = result.pictures
    assert torch.equal(seen["masked.image"], seen["target.image"])
    assert ("masked.events" in seen) == events
    if events:
        kept = torch.from_numpy(made.masked.cells(4, 4) > 0.7)[:, None]
        kept = kept.repeat_interleave(8, 2).repeat_interleave(8, 3)
        assert torch.equal(seen["masked.events"], seen["target.events"] * kept)
    assert "masked.decode.loss_feat_consis" not in result.logs


def test_micro_batches_add_up():
    """Where batch norm takes no means over the samples, they give the gradient of the whole batch."""
    found = []
    for size in (None, 1):
        method = without_dropout(tiny_method("cs2dsec_image", masking=dict(block=8))).double()
        method.configure(Numerics(micro_batch=size))
        for module in method.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        batch = {domain: as_double(streams) for domain, streams in tiny_batch().items()}
        result, _, gradient = step(method, batch)
        found.append((result.logs["masked.decode.loss_seg"].item(), *gradient.values()))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_a_resumed_training_repeats_the_masks(tmp_path):
    def begin():
        return tiny_method("cs2dsec_image", masking=dict(block=8))

    uninterrupted = begin()
    expected, _ = train(uninterrupted, 3)
    first = begin()
    _, optimizer = train(first, 1)
    save_checkpoint(tmp_path / "iter_1.pth", first, optimizer, 1, {})
    resumed = begin()
    optimizer = build_optimizer(resumed.model, OPTIMIZER)
    load_training(tmp_path / "iter_1.pth", resumed, optimizer)
    logs, _ = train(resumed, 2, first=1, optimizer=optimizer)
    assert logs == expected[1:]
    for name, value in uninterrupted.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    ("variant", "outputs"),
    [
        ("all fused", {"fusion", "image", "events", "img_self_res"}),
        ("Dark Zurich, split", {"image", "events"}),
        ("Dark Zurich, edges", {"image", "events"}),
    ],
)
def test_other_variants(variant, outputs):
    """Their outputs with their losses; none of their distances."""
    method = tiny_method(**VARIANTS[variant], masking=dict(block=8, shared=False))
    result, _, _ = step(method, tiny_batch())
    logs = {name.removeprefix("masked.decode."): x for name, x in result.logs.items() if name.startswith("masked.")}
    assert set(logs) == {"loss_seg", "acc_seg"} | {f"ce_{output}" for output in outputs}
    assert all(torch.isfinite(value) for value in logs.values())


def test_a_stream_of_a_custom_variant(monkeypatch):
    slots = {"image": "image", "events": "depth"}
    plan = StreamPlan(
        source_keys={"image": "image", "depth": "img_self_res"},
        target_keys={"image": "warp_image", "depth": "warp_img_self_res"},
        passes=lambda _: Passes(slots, "events", slots, "events", {"fusion": 0.5, "image": 0.5}),
    )
    monkeypatch.setitem(PLANS, "mine", Variant(lambda _: plan))
    result, made, _ = step(tiny_method("mine", masking=dict(block=8, streams=["depth"])), tiny_batch())
    kept = torch.from_numpy(made.masked.cells(4, 4) > 0.7)[:, None].repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert torch.equal(result.pictures["masked.depth"], result.pictures["target.depth"] * kept)
    assert torch.equal(result.pictures["masked.image"], result.pictures["target.image"])
    assert "masked.decode.ce_fusion" in result.logs


def test_draws_without_masks_are_refused():
    method = tiny_method("cs2dsec_image", masking={})
    with pytest.raises(ValueError, match="the draws have no masks"):
        method.train_step(tiny_batch(), StepDraws.make(settings(), 2, 1, 100, 0))


# ---------------------------------------------------------------- settings


def test_defaults_are_those_of_mic():
    assert Masking() == Masking(ratio=0.7, block=32, mode="target_aug", streams=None, shared=True, weight=1.0)
    assert settings().masked_pass is None
    assert settings({}).masked_pass == Masking()


@pytest.mark.parametrize(
    "accepted",
    [dict(ratio=0), dict(ratio=0.999), dict(block=1), dict(block=8192), dict(weight=1e-9), dict(weight=1000)],
)
def test_ends_of_the_ranges(accepted):
    assert settings(accepted).masked_pass is not None


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (dict(ratio=1), r"uda\.masking\.ratio is 1; give a number of at least 0 and below 1"),
        (dict(ratio=-0.1), r"uda\.masking\.ratio is -0\.1"),
        (dict(block=0), r"uda\.masking\.block is 0; give a whole number of at least 1"),
        (dict(block=8193), r"uda\.masking\.block is 8193"),
        (dict(block=16.0), r"uda\.masking\.block is 16\.0"),
        (dict(weight=0), r"uda\.masking\.weight is 0"),
        (dict(weight=1001), r"uda\.masking\.weight is 1001"),
        (dict(mode="separated"), r"uda\.masking\.mode='separated' is not available, did you mean 'separate'"),
        (dict(streams=[]), r"uda\.masking\.streams is \[\]"),
        (dict(streams=["image", "image"]), r"uda\.masking\.streams is .*none twice"),
        (dict(shared=1), r"uda\.masking\.shared is 1; give True or False"),
        (dict(rato=0.5), r"unknown config key 'uda\.masking\.rato'.*ratio"),
    ],
)
def test_values_out_of_range(refused, message):
    with pytest.raises(ConfigError, match=message):
        settings(refused)


@pytest.mark.parametrize(
    ("train_type", "streams"),
    [
        (TOGETHER, STREAMS),
        ("cs2dsec_image+events", STREAMS),
        ("cs2dsec_image", ("image",)),
        ("cs2dz_image+raw-isr", ("image", "img_self_res")),
    ],
)
def test_streams_of_a_plan(train_type, streams):
    assert stream_plan(settings({"streams": list(streams)}, train_type)).student_streams == streams
    with pytest.raises(
        ConfigError, match=rf"lists 'depth', which is not a stream of .* its streams are .*{streams[-1]}$"
    ):
        stream_plan(settings({"streams": ["image", "depth"]}, train_type))


def test_masking_needs_the_teacher():
    with pytest.raises(ConfigError, match=r"uda\.masking and uda\.source_only exclude each other"):
        stream_plan(settings({}, source_only=True))
