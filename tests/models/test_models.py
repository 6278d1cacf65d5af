"""Networks against the golden numbers: names and shapes of the state dicts, and forward passes."""

import copy
import re

import pytest
import torch
from helpers.golden_tools import (
    FORWARD,
    GoldenArrays,
    assert_clear_classes,
    assert_within,
    double,
    events_input,
    fill,
    image_input,
    load_json,
)

from mmseg.config.components import PredictionMode
from mmseg.errors import ConfigError
from mmseg.models.fusion.modules import STAGE_CHANNELS
from mmseg.models.losses import resize_logits
from mmseg.models.resnet_generator import ResnetGenerator
from mmseg.registry import BACKBONES, FUSION_MODULES, HEADS, SEGMENTORS

TOGETHER = "cs2dsec_image+events_together"
FUSIONS = (
    "AttentionFusion",
    "AttentionAvgFusion",
    "ConvertAvgFusion",
    "ConcatenateFusion",
    "AverageFusion",
    "FeaturesSplit",
)
# The generator's 23 layers of instance norm round more. An epsilon of 1e-6 there moves its output by 2e-5.
GENERATOR = 4e-6


def names_and_shapes(module: torch.nn.Module) -> list:
    return [[name, list(tensor.shape)] for name, tensor in module.state_dict().items()]


def published_model(variant: str, **changes) -> dict:
    """The model section of a published config, sets and tuples as lists, weights not loaded."""
    model = load_json(f"configs/work_dir_{variant}.json")["model"]
    return {**model, "pretrained": None, **changes}


def head_config(head_type: str, **decoder_params) -> dict:
    head = load_json("configs/bases.json")["configs/_base_/models/daformer_sepaspp_mitb5.py"]["model"]
    cfg = dict(head["decode_head"], type=head_type)
    params = dict(cfg["decoder_params"], **decoder_params)
    params["fusion_cfg"] = dict(params["fusion_cfg"], dilations=(1, 6, 12, 18))
    return {**cfg, "decoder_params": params}


@pytest.mark.parametrize("arch", [f"mit_b{number}" for number in range(6)])
def test_encoder_names(arch):
    with torch.device("meta"):
        encoder = BACKBONES.build(dict(type=arch))
    assert names_and_shapes(encoder) == load_json(f"c01_{arch}.json.gz")


@pytest.mark.parametrize(
    ("arch", "shape"),
    [
        ("mit_b0", (2, 3, 64, 96)),
        ("mit_b0", (1, 3, 50, 70)),
        ("mit_b2", (2, 3, 64, 96)),
        ("mit_b5", (2, 3, 64, 96)),
    ],
)
@torch.no_grad()
def test_encoder_features(arch, shape):
    size = "x".join(map(str, shape))
    golden = GoldenArrays(f"c02_{arch}_{size}.npz")
    encoder = double(fill(BACKBONES.build(dict(type=arch, style="pytorch", in_chans=3))).eval())
    for i, feature in enumerate(encoder(double(image_input(f"mit:{arch}:{size}:image", shape)))):
        golden.assert_close(f"f{i}", feature, FORWARD)


@pytest.mark.parametrize("norms", [r"block\d+\.\d+\.norm", r"^norm\d", "patch_embed", r"attn\.norm"])
@torch.no_grad()
def test_a_wrong_epsilon_is_seen(norms):
    """1e-5 in place of 1e-6, or the reverse, in one kind of norm moves the features beyond what is allowed."""
    golden = GoldenArrays("c02_mit_b0_2x3x64x96.npz")
    encoder = double(fill(BACKBONES.build(dict(type="mit_b0"))).eval())
    layers = [m for n, m in encoder.named_modules() if isinstance(m, torch.nn.LayerNorm) and re.search(norms, n)]
    assert layers
    for layer in layers:
        layer.eps = 1e-6 if layer.eps == 1e-5 else 1e-5
    features = encoder(double(image_input("mit:mit_b0:2x3x64x96:image", (2, 3, 64, 96))))
    assert max(golden.error(f"f{i}", feature) for i, feature in enumerate(features)) > FORWARD


def test_drop_path_rises_linearly():
    encoder = BACKBONES.build(dict(type="mit_b5"))
    rates = [block.drop_path.drop_prob for i in range(1, 5) for block in getattr(encoder, f"block{i}")]
    assert rates == pytest.approx([0.1 * i / 51 for i in range(52)], abs=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
@torch.no_grad()
def test_fusion_module(fusion):
    module = double(fill(FUSION_MODULES.build(dict(type=fusion))).eval())
    assert names_and_shapes(module) == load_json(f"c01_{fusion}.json.gz")
    image, events = (
        [double(image_input(f"fusion:{k}{i}", (1, c, 16 >> i, 16 >> i))) for i, c in enumerate(STAGE_CHANNELS)]
        for k in ("image", "events")
    )
    golden = GoldenArrays(f"c03_{fusion}.npz")
    for i, fused in enumerate(module(image, events)):
        golden.assert_close(f"f{i}", fused, FORWARD)


def head_features(stream: str) -> list[torch.Tensor]:
    return [double(image_input(f"head:{stream}{i}", (1, c, 16 >> i, 16 >> i))) for i, c in enumerate(STAGE_CHANNELS)]


@torch.no_grad()
def test_daformer_head():
    head = double(fill(HEADS.build(head_config("DAFormerHead"))).eval())
    assert names_and_shapes(head) == load_json("c01_DAFormerHead.json.gz")
    GoldenArrays("c04_DAFormerHead.npz").assert_close("out", head(head_features("image")), FORWARD)


@pytest.mark.parametrize(
    ("sharing", "params", "distinct"),
    [
        ("share", dict(share_decoder=True), 34),
        ("half", dict(half_share_decoder=True), 50),
        ("none", dict(share_decoder=False), 98),
    ],
)
@torch.no_grad()
def test_fusion_head(sharing, params, distinct):
    head = double(fill(HEADS.build(head_config("DAFormerHeadFusion", train_type=TOGETHER, **params))).eval())
    assert names_and_shapes(head) == load_json(f"c01_DAFormerHeadFusion_{sharing}.json.gz")
    assert len(list(head.parameters())) == distinct
    keys = {"image": "image", "events": "events", "fusion": "fusion", "img_self_res": "isr"}
    logits = head({stream: head_features(key) for stream, key in keys.items()})
    golden = GoldenArrays(f"c04_DAFormerHeadFusion_{sharing}.npz")
    for stream, value in logits.items():
        golden.assert_close(f"{stream}_output", value, FORWARD)


def test_dropout_on_the_image_stream_only():
    head = HEADS.build(head_config("DAFormerHeadFusion", train_type=TOGETHER, share_decoder=True)).train()
    calls = []
    head.dropout.register_forward_hook(lambda *args: calls.append(1))
    maps = [torch.rand(2, c, 16 >> i, 16 >> i) for i, c in enumerate(STAGE_CHANNELS)]
    head({"image": maps, "events": maps, "fusion": maps, "img_self_res": maps})
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("name", "cfg"),
    [
        ("FusionEncoderDecoder_cs2dsec_b5", dict(fusion_isr_module={"type": "AttentionFusion"})),
        ("FusionEncoderDecoder_cs2dsec_b5_no_isr_module", {}),
    ],
)
def test_fusion_segmentor_names(name, cfg):
    with torch.device("meta"):
        model = SEGMENTORS.build(published_model("cs2dsec", **cfg))
    assert names_and_shapes(model) == load_json(f"c01_{name}.json.gz")


def test_cs2dz_segmentor_names():
    with torch.device("meta"):
        model = SEGMENTORS.build(published_model("cs2dz"))
    assert names_and_shapes(model) == load_json("c01_FusionEncoderDecoder_cs2dz_b5.json.gz")


def test_image_segmentor_names():
    with torch.device("meta"):
        cfg = dict(backbone=dict(type="mit_b5"), decode_head=head_config("DAFormerHead"))
        model = SEGMENTORS.build(dict(type="EncoderDecoder", **cfg))
    assert names_and_shapes(model) == load_json("c01_EncoderDecoder_DAFormer_b5.json.gz")


@pytest.fixture(scope="module")
def small_segmentor():
    """The published DSEC segmentor with MiT-b1 encoders, filled, in double precision."""
    encoder = dict(type="mit_b1", style="pytorch", in_chans=3)
    cfg = published_model(
        "cs2dsec",
        backbone_image=encoder,
        backbone_events=encoder,
        fusion_isr_module={"type": "AttentionFusion"},
    )
    return double(fill(SEGMENTORS.build(cfg)).eval())


@pytest.fixture(scope="module")
def inputs():
    shape = (1, 3, 64, 64)
    return double(
        {
            "image": image_input("encdec:image", shape),
            "events": events_input("encdec:events", shape),
            "img_self_res": events_input("encdec:isr", shape),
        }
    )


def full_size(logits: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear", align_corners=False)


@pytest.mark.parametrize(
    ("key", "streams", "fusion"),
    [
        ("features", {"image": "image", "events": "events"}, "events"),
        ("features_isr", {"image": "image", "events": "events", "img_self_res": "img_self_res"}, "events"),
        ("features_fusion_isr", {"image": "image", "events": "img_self_res"}, "isr"),
        (
            "features_fusion_isr3",
            {"image": "image", "events": "events", "img_self_res": "img_self_res"},
            "isr",
        ),
        (
            "features_fusion_all",
            {"image": "image", "events": "events", "img_self_res": "img_self_res"},
            "all",
        ),
        ("features_no_fusion", {"image": "image", "events": "events"}, "none"),
    ],
)
@torch.no_grad()
def test_segmentor_logits(small_segmentor, inputs, key, streams, fusion):
    golden = GoldenArrays("c05_encode_decode_cs2dsec_b1.npz")
    output = small_segmentor({slot: inputs[name] for slot, name in streams.items()}, fusion)
    for stream in ("image", "events", "fusion", "img_self_res"):
        if f"{key}.{stream}_output.none" in golden:
            assert stream not in output.logits
        else:
            golden.assert_close(f"{key}.{stream}_output", full_size(output.logits[stream]), FORWARD)


@pytest.mark.parametrize("output", ["fusion", "image", "events", "fusion_isr", "fusion_all"])
@torch.no_grad()
def test_segmentor_inference(small_segmentor, inputs, output):
    golden = GoldenArrays("c05_encode_decode_cs2dsec_b1.npz")
    streams = dict(inputs)
    if output == "fusion_isr":
        del streams["events"]
    golden.assert_close(f"test.{output}", small_segmentor.predict_logits(streams, output), FORWARD)


def test_segmentor_prediction(small_segmentor, inputs):
    golden = GoldenArrays("c05_encode_decode_cs2dsec_b1.npz")
    streams = {"image": inputs["image"], "events": inputs["events"]}
    logits = small_segmentor.predict_logits(streams, "fusion")
    for key, size in (("pred", (64, 64)), ("pred_resized", (96, 96))):
        labels = small_segmentor.predict(streams, "fusion", size=size)
        expected = golden[f"simple_test.{key}"][None]
        assert_clear_classes("c05 classes", labels, expected, resize_logits(logits, size), 1e-5, key)


@torch.no_grad()
def test_single_precision_stays_near(small_segmentor, inputs):
    """What a training and a test compute in, beside double precision; a wrong cast would lose three digits."""
    single = copy.deepcopy(small_segmentor).float()
    streams = {name: value.float() for name, value in inputs.items()}
    exact, rounded = (m.predict_logits(i, "fusion_all") for m, i in ((small_segmentor, inputs), (single, streams)))
    assert rounded.dtype == torch.float32
    scale = exact.abs().max().item()
    assert_within("c05 in single precision", (rounded - exact).abs().max().item(), 5e-5 * scale)


def test_one_window_of_sliding_inference_equals_whole(small_segmentor, inputs):
    streams = {"image": inputs["image"], "events": inputs["events"]}
    whole = small_segmentor.predict_logits(streams, "fusion")
    try:
        small_segmentor.test_cfg = PredictionMode(mode="slide", crop_size=(64, 64), stride=(32, 32))
        assert torch.equal(small_segmentor.predict_logits(streams, "fusion"), whole)
        small_segmentor.test_cfg = PredictionMode(mode="slide", crop_size=(48, 40), stride=(32, 24))
        assert small_segmentor.predict_logits(streams, "fusion").isfinite().all()
    finally:
        small_segmentor.test_cfg = PredictionMode(mode="whole")


def test_day_events_keep_the_size_of_the_crop():
    assert ResnetGenerator().day_events(torch.rand(1, 3, 30, 42)).shape == (1, 3, 30, 42)


def test_content_fusion_without_its_module_is_refused(inputs):
    model = SEGMENTORS.build(
        published_model("cs2dsec", backbone_image=dict(type="mit_b1"), backbone_events=dict(type="mit_b1"))
    )
    with pytest.raises(ConfigError, match=r"needs model\.fusion_isr_module"):
        model.predict_logits({name: value.float() for name, value in inputs.items()}, "fusion_all")


def test_channels_must_agree():
    with pytest.raises(ConfigError, match=r"model\.backbone_image has the channels \(32, .*decode_head\.in_channels"):
        SEGMENTORS.build(published_model("cs2dsec", backbone_image=dict(type="mit_b0")))


@pytest.mark.parametrize("shape", ["1x1x64x64", "1x1x40x60"])
@torch.no_grad()
def test_style_transfer_generator(shape):
    generator = double(fill(ResnetGenerator()).eval())
    assert names_and_shapes(generator) == load_json("c01_cyclegan_define_G.json.gz")
    size = tuple(map(int, shape.split("x")))
    output = generator(double(events_input(f"cyclegan:{shape}", size)))
    GoldenArrays("c19_cyclegan_G.npz").assert_close(f"out_{shape}", output, GENERATOR)


@pytest.mark.parametrize("arch", ["mit_b0", "mit_b2"])
def test_fresh_encoder_bears_an_empty_map(arch):
    """The content map of a featureless crop is zero everywhere; gradients must stay finite all the same."""
    torch.manual_seed(0)
    encoder = BACKBONES.build(dict(type=arch)).train()
    sum(f.square().mean() for f in encoder(torch.zeros(2, 3, 64, 64))).backward()
    norms = [p.grad.norm() for p in encoder.parameters()]
    assert all(n.isfinite() for n in norms)
    assert max(norms) < 1e3
