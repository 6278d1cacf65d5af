"""The training method: losses, mixing, augmentation, teacher (golden cases 6, 15, 17, 18)."""

import math
import re

import numpy as np
import pytest
import torch
from helpers.golden_tools import (
    FORWARD,
    GoldenArrays,
    WithoutDraws,
    assert_within,
    double,
    events_input,
    fill,
    image_input,
    label_input,
    load_json,
    u01,
)
from helpers.method_tools import (
    IGNORED_SLOT,
    dark_zurich_method,
    golden_batch,
    image_model,
    reference_draws,
    small_method,
    small_model,
    uda_settings,
    without_dropout,
)
from torch import nn

from mmseg.config.fields import build
from mmseg.config.run import Optimizer, Schedule
from mmseg.config.uda import UDASettings
from mmseg.engine.optim import build_optimizer, build_schedule
from mmseg.errors import ConfigError
from mmseg.extractors.content import grey_level
from mmseg.models.losses import edge_label, feature_consistency, masked_feature_distance
from mmseg.models.resnet_generator import ResnetGenerator
from mmseg.registry import UDA
from mmseg.uda.augment import blur_kernel_size, color_jitter, gaussian_blur, input_grey_level, to_uint8
from mmseg.uda.class_mix import class_mix_mask, paste
from mmseg.uda.draws import JitterFactors, StepDraws, events_threshold
from mmseg.uda.feature_distance import downscale_label
from mmseg.uda.segmentors import build_segmentor
from mmseg.uda.streams import stream_plan
from mmseg.uda.teacher import momentum, update_teacher

TOGETHER = "cs2dsec_image+events_together"

# ---------------------------------------------------------------- golden case 6: losses of one batch

ONE_SECOND_INPUT = "cs2dsec_image+events"
# case -> (published config, settings, whether events are drawn, how decoders are shared)
LOSS_CASES = {
    "together": ("cs2dsec", {}, True, {}),
    "together.seg_weight": ("cs2dsec", {}, True, {}),
    "together.fusion_all": ("cs2dsec", dict(fuse_both_ice_and_e=True), True, {}),
    "together.fusion_all.seg_weight": ("cs2dsec", dict(fuse_both_ice_and_e=True), False, {}),
    "together.fusion_isr": ("cs2dsec", dict(isr_another_fusion=True), False, {}),
    "together.all_ignored_labels": ("cs2dsec", {}, True, {}),
    "together.share_half": ("cs2dsec", {}, True, dict(share_decoder=False, half_share_decoder=True)),
    "together.share_none": ("cs2dsec", {}, True, dict(share_decoder=False, half_share_decoder=False)),
    "image+events": ("cs2dsec", dict(train_type=ONE_SECOND_INPUT), True, {}),
    "image+events.fusion_isr": (
        "cs2dsec",
        dict(train_type=ONE_SECOND_INPUT, isr_another_fusion=True),
        False,
        {},
    ),
    "image+events.no_fusion": ("cs2dsec", dict(train_type=ONE_SECOND_INPUT, isr_no_fusion=True), False, {}),
    "cs2dz": ("cs2dz", {}, False, {}),
    "cs2dz.seg_weight": ("cs2dz", {}, True, {}),
    "cs2dsec_image": ("cs2dsec", dict(train_type="cs2dsec_image"), True, {}),
    "cs2dsec_image.seg_weight": ("cs2dsec", dict(train_type="cs2dsec_image"), False, {}),
}


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Weights of all cases by their names, made when they are first needed."""
    return {}


@pytest.mark.parametrize("case", LOSS_CASES)
def test_losses_and_gradients(case, weights):
    golden = load_json("c06_losses.json")["cases"][case]
    published, settings, events_drawn, sharing = LOSS_CASES[case]
    cfg = load_json(f"configs/work_dir_{published}.json")["model"]["decode_head"]
    head = {**cfg, "decoder_params": {**cfg["decoder_params"], **sharing}}
    alone = case.startswith("cs2dsec_image")
    with WithoutDraws():
        model = image_model() if alone else small_model(published, decode_head=head)
    fill(without_dropout(model), weights)
    method = UDA.build(uda_settings(published, type="DACS", model=model, **settings))
    passes = method.plan.passes(events_drawn)
    shape = (2, 3, 64, 64)
    streams = {
        "image": image_input("loss:image", shape),
        "events": events_input("loss:events", shape),
        "img_self_res": events_input("loss:isr", shape),
    }
    label = label_input("loss:label", 2, 64, 64, 4)[:, 0]
    if "all_ignored" in case:
        label = torch.full_like(label, 255)
    weight = None
    if "seg_weight" in case:
        weight = torch.from_numpy(u01("input:loss:seg_weight", (2, 64, 64)).astype(np.float32))
    # In single precision the gradients go astray by up to 1e-3 from run to run.
    model, streams = double(model), double(streams)
    method.train()
    truth = {"image": {"label": label, "weight": weight}}
    logs = method._student_passes("source pass", streams, truth, passes.source_consistency, passes=passes)
    loss = sum(value for name, value in logs.items() if "loss" in name)
    assert_within("c06 sum of losses", loss.item() - golden["parsed_loss"], FORWARD * abs(golden["parsed_loss"]), case)
    for name, value in golden["log_vars"].items():
        if name != "loss":
            assert_within("c06 losses and accuracies", logs[name].item() - value, FORWARD * abs(value) + 1e-7, name)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, norm in golden["grad_norm"].items():
        gradient = parameters[name].grad
        if norm is None:
            assert gradient is None
        else:
            assert_within("c06 gradient norms", gradient.norm().item() - norm, 5e-4 * norm + 1e-7, f"{case} {name}")
    buffers = dict(model.named_buffers(remove_duplicate=False))
    for name, (mean, mean_abs) in golden["bn_after"].items():
        values = buffers[name].double()
        assert values.mean().item() == pytest.approx(mean, rel=1e-5, abs=1e-6), name
        assert values.abs().mean().item() == pytest.approx(mean_abs, rel=1e-5), name


# ---------------------------------------------------------------- names, and the source alone


def test_names_of_the_training_method():
    """Names, shapes and order of a published training checkpoint."""
    cfg = load_json("configs/work_dir_cs2dsec.json")["model"]
    cfg |= dict(pretrained=None, fusion_isr_module={"type": "AttentionFusion"})
    with torch.device("meta"):
        model = build_segmentor(cfg)
        method = UDA.build(uda_settings(type="DACS", model=model))
    expected = load_json("c01_DACS_cs2dsec_b5.json.gz")
    method.cyclegan_itrd2en = ResnetGenerator()
    assert [[k, list(v.shape)] for k, v in method.state_dict().items()] == expected


def test_source_only_is_the_first_half_of_the_step():
    """The baseline leaves the gradients that the loss on the source alone gives."""
    batch = golden_batch("cs2dsec_isr", 0, 2, 64, 64, 16)
    draws, _ = reference_draws(0, batch["source"]["label"], None, 0)
    method = small_method(source_only=True)
    result = method.train_step(batch, draws)
    streams = {"image", "events", "fusion", "img_self_res"}
    assert set(result.logs) == {"decode.loss_seg", "decode.acc_seg", *(f"decode.ce_{name}" for name in streams)}
    gradients = [p.grad.clone() for p in method.model.parameters() if p.grad is not None]
    method.zero_grad()
    label = batch["source"]["label"][:, 0]
    passes = method.plan.passes(draws.events)
    output = method.model(method._source_streams(batch["source"], passes), "events")
    sum(
        w * method.model.decode_head.loss(output.logits[name], label) for name, w in passes.loss_weights.items()
    ).backward()
    for before, parameter in zip(gradients, [p for p in method.model.parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(before, parameter.grad)


# ---------------------------------------------------------------- variants without golden numbers


def step(method: nn.Module):
    batch = golden_batch("cs2dz", 0, 2, 64, 64, 16)
    draws, _ = reference_draws(0, batch["source"]["label"], None, 0)
    return batch, method.train_step(batch, draws)


def test_split_streams_have_classifiers_of_their_own():
    method = dark_zurich_method("cs2dz_image+raw-isr_split", forward_cfg=dict(loss_weight=dict(image=0.5, events=0.5)))
    head = method.model.decode_head
    batch, result = step(method)
    streams = {"image": batch["source"]["image"], "events": batch["source"]["img_self_res"]}
    label = batch["source"]["label"][:, 0]
    # At iteration 0 the teacher is the student. The logged loss is that of the source: both cross entropies in full.
    logits = method.ema_model(streams, "none").logits
    assert set(logits) == {"image", "events"}
    expected = sum(head.loss(x, label).item() for x in logits.values())
    assert result.logs["decode.loss_seg"].item() == pytest.approx(expected, rel=1e-5)
    assert head.conv_seg.weight.grad is not None
    assert head.conv_seg_events.weight.grad is not None
    assert head.conv_seg_fusion.weight.grad is None
    with pytest.raises(ConfigError, match=r"loss_weight\.image=0\.5 and \.events=0\.5; they are 0\.7 and 0\.7"):
        dark_zurich_method("cs2dz_image+raw-isr_split")


@pytest.mark.parametrize(("suffix", "output"), [("split", "fusion"), ("no-fusion", "fusion"), ("no-fusion", "events")])
def test_outputs_that_a_variant_does_not_train_are_refused(suffix, output):
    cfg = load_json("configs/work_dir_cs2dz.json")["model"]["decode_head"]
    params = {**cfg["decoder_params"], "train_type": f"cs2dz_image+raw-isr_{suffix}"}
    with torch.device("meta"):
        model = small_model("cs2dz", decode_head={**cfg, "decoder_params": params})
    with pytest.raises(ConfigError, match=f"output '{output}' is not trained by"):
        model.required_streams(output)
    assert model.required_streams("image") == ("image",)


def test_each_split_stream_labels_its_own_target():
    weights = dict(loss_weight=dict(image=0.5, events=0.5))
    method = dark_zurich_method("cs2dz_image+raw-isr_split", forward_cfg=weights)
    target = {k: golden_batch("cs2dz", 0, 2, 64, 64, 16)["target"][v] for k, v in method.plan.target_keys.items()}
    truth = method._pseudo_labels(method._begin_teacher(target, method.plan.passes(False))())
    inputs = {"image": target["image"], "events": target["img_self_res"]}
    logits = method.ema_model(inputs, "none").logits
    for output in ("image", "events"):
        size = target["image"].shape[2:]
        expected = nn.functional.interpolate(logits[output], size=size, mode="bilinear").argmax(dim=1)
        assert (truth[output]["label"] == expected).float().mean() > 0.999


def test_edges_in_place_of_fusion():
    train_type = "cs2dz_image+raw-isr_no-fusion"
    method = dark_zurich_method(train_type, isr_edge=True, lambda_isr_features=0.5, isr_edge_class_weight=0.9)
    assert method.model.decode_head.conv_seg_events.out_channels == 2
    _, result = step(method)
    assert "decode.loss_feat_consis" not in result.logs
    assert result.logs["mix.decode.loss_feat_consis"].item() > 0
    assert all(torch.isfinite(value) for value in result.logs.values())
    with pytest.raises(ConfigError, match=r"uda\.isr_edge=True"):
        dark_zurich_method(train_type)
    with pytest.raises(ConfigError, match=r"isr_edge_class_weight is 1\.5"):
        dark_zurich_method(train_type, isr_edge=True, isr_edge_class_weight=1.5)


def test_edges_of_a_label():
    label = torch.full((1, 8, 8), 3)
    label[:, :, 4:] = 7
    label[:, 7, 7] = 255
    edges = edge_label(label)[0]
    assert edges[:6, 3:5].all()
    assert not edges[:, :3].any()
    assert not edges[:, 5:].any()
    assert edges[7, 4] == 1
    # beside an ignored pixel nothing is known
    assert edge_label(torch.full((1, 4, 4), 255)).sum() == 0


def test_consistency_reaches_the_image_encoder_alone():
    settings = dict(train_type=ONE_SECOND_INPUT, isr_no_fusion=True, lambda_feature_consistency=2.0)
    with torch.device("meta"):
        method = UDA.build(uda_settings(type="DACS", model=small_model(), **settings))
    assert method.plan.passes(False).source_consistency == 2.0
    assert method.plan.passes(True).source_consistency == 0.0
    features = [torch.rand(1, 4, 2, 2, requires_grad=True) for _ in range(2)]
    feature_consistency(features[:1], features[1:]).backward()
    assert features[0].grad is not None
    assert features[1].grad is None


@pytest.mark.parametrize(
    ("published", "changes", "message"),
    [
        ("cs2dz", dict(fuse_both_ice_and_e=True), "uda.fuse_both_ice_and_e=True has no meaning for uda.train_type"),
        ("cs2dz", dict(without_events=True), "uda.without_events=True has no meaning"),
        ("cs2dz", dict(isr_edge=True), "it is for cs2dz_image\\+raw-isr_no-fusion"),
        ("cs2dsec", dict(isr_no_fusion=True), "it is for cs2dsec_image\\+events"),
        ("cs2dsec", dict(without_events=True, without_isd=True), "exclude each other"),
        ("cs2dsec", dict(fuse_both_ice_and_e=True, without_isd=True), "exclude each other"),
        ("cs2dsec", dict(train_type=ONE_SECOND_INPUT, isr_no_fusion=True, without_isd=True), "exclude each other"),
        ("cs2dz", dict(lambda_isr_features=1.0), "uda.lambda_isr_features=1.0 is read only with uda.isr_edge"),
        ("cs2dsec", dict(train_type="cs2dsec_image+event"), "did you mean 'cs2dsec_image\\+events'"),
        ("cs2dz", dict(train_type="cs2dz_image+d2n-isr"), "day_t_isr"),
    ],
)
def test_switches_that_mean_nothing(published, changes, message):
    with pytest.raises(ConfigError, match=message):
        stream_plan(UDASettings(**uda_settings(published, **changes) | {"forward_cfg": {}}))


@pytest.mark.parametrize("events_drawn", [True, False])
def test_fuse_both_is_the_same_with_the_module_named_beside_it(events_drawn):
    """As the launcher of the published runs writes them."""
    both, named = (
        stream_plan(UDASettings(**uda_settings(fuse_both_ice_and_e=True, **more)))
        for more in ({}, {"isr_another_fusion": True})
    )
    assert named.passes(events_drawn) == both.passes(events_drawn)
    assert named.passes(events_drawn).student_fusion == "all"
    assert named.needs_isr_fusion


def test_a_stream_that_is_never_drawn_is_not_loaded():
    def plan(**changes):
        return stream_plan(UDASettings(**uda_settings(train_type=ONE_SECOND_INPUT, **changes)))

    assert set(plan().source_keys) == {"image", "events", "img_self_res"}
    assert set(plan(without_events=True).source_keys) == {"image", "img_self_res"}
    assert set(plan(without_isd=True).target_keys) == {"image", "events"}


def test_fuse_both_needs_its_module():
    with torch.device("meta"):
        model = small_model(fusion_isr_module={"type": ""})
    with pytest.raises(ConfigError, match=r"model\.fusion_isr_module\.type"):
        UDA.build(uda_settings(type="DACS", model=model, fuse_both_ice_and_e=True))


# ---------------------------------------------------------------- golden case 15: optimiser, schedule, teacher


def test_optimizer_settings():
    settings = build(Optimizer, load_json("configs/work_dir_cs2dsec.json")["optimizer"])
    rows = load_json("c15_optimizer_groups.json.gz")["rows"]
    assert len(rows) == 4828
    for name, lr, weight_decay in rows:
        assert settings.of_parameter(name) == pytest.approx((lr, weight_decay)), name


def test_optimizer_holds_the_student_once():
    with torch.device("meta"):
        model = small_model()
    optimizer = build_optimizer(model, build(Optimizer, load_json("configs/work_dir_cs2dsec.json")["optimizer"]))
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters()}
    assert len(grouped) == len(list(model.parameters()))
    assert len(optimizer.param_groups) == 3


@pytest.mark.parametrize("policy", ["poly10warm", "poly10"])
def test_learning_rates(policy):
    golden = load_json("c15_schedule.json")
    schedule = build(Schedule, load_json("configs/bases.json")[f"configs/_base_/schedules/{policy}.py"]["lr_config"])
    for iteration, rates in golden[policy].items():
        for base, rate in zip(golden["base_lr"], rates, strict=True):
            assert schedule.learning_rate(int(iteration), base, golden["max_iters"]) == pytest.approx(rate, rel=1e-9)


def test_schedule_follows_the_formula():
    settings = build(Schedule, {**load_json("c15_schedule.json")["lr_config"], "policy": "poly"})
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW([{"params": layer.weight, "lr": 6e-5}, {"params": layer.bias, "lr": 6e-4}])
    schedule = build_schedule(optimizer, settings, 40000)
    for iteration in range(3):
        for group, base in zip(optimizer.param_groups, (6e-5, 6e-4), strict=True):
            assert group["lr"] == pytest.approx(settings.learning_rate(iteration, base, 40000), rel=1e-12)
        optimizer.step()
        schedule.step()


def test_teacher_momentum():
    for iteration, alpha in load_json("c15_schedule.json")["ema_alpha"].items():
        assert momentum(int(iteration), 0.999) == pytest.approx(alpha, abs=1e-12)


def test_teacher_moves_parameters_and_keeps_buffers():
    student, teacher = (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2))
    teacher[1].running_mean.fill_(3.0)
    update_teacher(teacher, student, 0, 0.999)
    assert torch.equal(teacher[0].weight, student[0].weight)
    before = student[0].weight.detach().clone()
    with torch.no_grad():
        student[0].weight.add_(1.0)
    update_teacher(teacher, student, 3, 0.999)
    torch.testing.assert_close(teacher[0].weight, 0.75 * before + 0.25 * student[0].weight)
    assert (teacher[1].running_mean == 3.0).all()


def test_teacher_runs_in_train_mode_without_noise():
    with torch.device("meta"):
        method = UDA.build(uda_settings(type="DACS", model=small_model()))
    assert method.ema_model.training
    assert not method.ema_model.decode_head.dropout.training
    assert not method.ema_model.backbone_image.block1[1].drop_path.training
    assert method.ema_model.decode_head.fuse_layer_image.bottleneck.bn.training
    assert not any(p.requires_grad for p in method.ema_model.parameters())


# ---------------------------------------------------------------- golden case 17: feature distance


def test_downscaled_labels():
    golden = GoldenArrays("c17_downscale_label_ratio.npz")
    keys = [k for k in golden.data if not k.endswith((".dtype", ".shape", ".step", ".stats"))]
    assert keys
    for key in keys:
        fields = dict(re.findall(r"(n|h|w|block|sf|ratio)([\d.]+)", key.split(".dtype")[0]))
        n, h, w, block, factor = (int(fields[k]) for k in ("n", "h", "w", "block", "sf"))
        label = label_input(f"dlr:label{n}x{h}x{w}", n, h, w, block)
        ours = downscale_label(label, factor, float(fields["ratio"]))
        assert (ours.numpy() == golden[key]).all(), key


def test_masked_feature_distance():
    golden = GoldenArrays("c17_masked_feat_dist.npz")
    f1, f2 = (image_input(f"fd:{k}", (2, 512, 4, 6)) for k in ("f1", "f2"))
    mask = torch.from_numpy(u01("input:fd:mask", (2, 1, 4, 6)) > 0.6)
    everywhere = torch.ones_like(mask)
    assert masked_feature_distance(f1, f2, everywhere).item() == pytest.approx(float(golden["no_mask"]), rel=1e-5)
    f1.requires_grad_()
    distance = masked_feature_distance(f1, f2, mask)
    assert distance.item() == pytest.approx(float(golden["mask"]), rel=1e-5)
    distance.backward()
    golden.assert_close("grad_mask", f1.grad)
    # Mended: the reference gives NaN for an empty mask.
    assert math.isnan(float(golden["empty_mask"]))
    assert masked_feature_distance(f1, f2, torch.zeros_like(mask)).item() == 0
    same = f2.clone().requires_grad_()
    masked_feature_distance(same, f2, mask).backward()
    assert same.grad.abs().max().item() == float(golden["grad_at_zero_absmax"])


# ---------------------------------------------------------------- golden case 18: mixing and augmentation


def test_class_mix():
    golden = GoldenArrays("c18_class_mix.npz")
    source, target = (image_input(f"strong:{k}", (2, 3, 64, 64)) for k in ("src", "trg"))
    label = label_input("strong:label", 2, 64, 64, 16)[:, 0]
    pseudo = label_input("strong:pseudo", 2, 64, 64, 8)[:, 0]
    assert (np.unique(label.numpy()) == golden["unique_classes_of_batch"]).all()
    priority = torch.ones(2, IGNORED_SLOT + 1)
    for i in range(2):
        chosen = golden[f"class_choice{i}"]
        priority[i, np.where(chosen == 255, IGNORED_SLOT, chosen)] = 0
    mask = class_mix_mask(label, priority)
    packed = np.unpackbits(golden["masks_packed"])[: mask.numel()].reshape(mask.shape)
    assert (mask.numpy() == packed.astype(bool)).all()
    images = paste(mask, source, target)
    labels = paste(mask, label, pseudo)
    weights = paste(mask, torch.ones(2, 64, 64), torch.full((2, 64, 64), 0.37))
    for i in range(2):
        golden.assert_close(f"mixed_img{i}", images[i : i + 1])
        assert (labels[i].numpy() == golden[f"mixed_lbl{i}"][0, 0]).all()
        golden.assert_close(f"mixed_weight{i}", weights[i : i + 1, None])


@pytest.mark.parametrize("seed", range(5))
def test_half_of_the_present_classes_are_pasted(seed):
    rng = np.random.default_rng(seed)
    values = rng.choice([*range(19), 255], rng.integers(1, 8), replace=False)
    label = torch.from_numpy(rng.choice(values, (3, 20, 24)))
    mask = class_mix_mask(label, torch.from_numpy(rng.random((3, IGNORED_SLOT + 1))))[:, 0]
    present = label.unique()
    for sample, pasted in zip(label, mask, strict=True):
        whole = [c for c in present if (sample == c).any() and pasted[sample == c].all()]
        assert sum(int((sample == c).sum()) for c in whole) == int(pasted.sum())
        assert len(whole) <= (len(present) + 1) // 2


@pytest.mark.parametrize("case", range(5))
def test_color_jitter(case):
    golden = GoldenArrays("c18_color_jitter.npz")
    parameters = load_json("c18_color_jitter.json")[case]
    for i, image in enumerate(torch.from_numpy(golden[f"in{case}"])):
        factors = JitterFactors(
            tuple(parameters["order"]),
            *(parameters[f"{k}_factor"][i] for k in ("brightness", "contrast", "saturation", "hue")),
        )
        np.testing.assert_allclose(color_jitter(image, factors).numpy(), golden[f"out{case}"][i], atol=1e-5)


def test_blur_kernel_sizes():
    golden = GoldenArrays("c18_gaussian_blur.npz")
    for side, kernel in zip(golden["kernel_rule.size"], golden["kernel_rule.kernel"], strict=True):
        assert blur_kernel_size(int(side)) == kernel


@pytest.mark.parametrize("size", ["64x64", "512x512"])
@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.1])
def test_gaussian_blur(size, sigma):
    height, width = map(int, size.split("x"))
    image = image_input(f"blur:{size}", (1, 3, height, width))
    golden = GoldenArrays("c18_gaussian_blur.npz")
    golden.assert_close(f"blur_{size}_sigma{sigma}", gaussian_blur(image, sigma))


@pytest.mark.parametrize("seed", range(3))
def test_grey_levels_of_the_input_are_those_of_its_8_bit_form(seed):
    images = image_input(f"grey{seed}", (2, 3, 40, 56)) * 1.5
    assert torch.equal(input_grey_level(images), grey_level(to_uint8(images)))


# ---------------------------------------------------------------- draws


def test_draws_are_keyed():
    settings = UDASettings(train_type=TOGETHER)
    first, again = (StepDraws.make(settings, 2, 7, 100, seed=3) for _ in range(2))
    assert (first.jitter, first.sigma, first.jitter_factors) == (
        again.jitter,
        again.sigma,
        again.jitter_factors,
    )
    assert (first.class_priority == again.class_priority).all()
    others = [StepDraws.make(settings, 2, i, 100, seed=s) for i, s in ((8, 3), (7, 4))]
    assert len({d.jitter for d in [first, *others]}) == 3


def test_draws_have_the_published_distributions():
    settings = UDASettings(train_type=TOGETHER)
    draws = [StepDraws.make(settings, 1, i, 4000, seed=0) for i in range(4000)]
    assert np.mean([d.events for d in draws]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([d.jitter > settings.color_jitter_probability for d in draws]) == pytest.approx(0.8, abs=0.03)
    sigmas = [d.sigma for d in draws]
    assert min(sigmas) >= 0.15
    assert max(sigmas) < 1.15
    brightness = [d.jitter_factors[0].brightness for d in draws]
    assert min(brightness) >= 0.8
    assert max(brightness) <= 1.2
    hue = [d.jitter_factors[0].hue for d in draws]
    assert min(hue) == pytest.approx(-0.2, abs=0.01)
    assert max(hue) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    ("spec", "start", "end"),
    [("0.25", 0.25, 0.25), (0.75, 0.75, 0.75), ("0.7-0.3", 0.7, 0.3), ("linear", 1, 0), ("nlinear", 0, 1)],
)
def test_events_threshold(spec, start, end):
    assert events_threshold(spec, 0.0) == pytest.approx(start)
    assert events_threshold(spec, 1.0) == pytest.approx(end)
    assert events_threshold(spec, 0.5) == pytest.approx((start + end) / 2)


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="random_choice_thres is 'often'"):
        events_threshold("often", 0.0)
    with pytest.raises(ConfigError, match=r"uda\.mix='cut' is not available; it can be 'class'"):
        UDASettings(train_type=TOGETHER, mix="cut")
    with pytest.raises(ConfigError, match=r"uda\.shift_type='up' is not available"):
        UDASettings(train_type=TOGETHER, shift_type="up")
    with pytest.raises(ConfigError, match=r"unknown config key 'uda\.forward_cfg\.loss_weight\.isr'"):
        UDASettings(train_type=TOGETHER, forward_cfg=dict(loss_weight=dict(isr=1)))
    with torch.device("meta"), pytest.raises(ConfigError, match="did you mean 'cs2dsec_image\\+events_together'"):
        UDA.build(uda_settings(type="DACS", model=small_model(), train_type="cs2dsec_image+event_together"))
