"""Encoders from timm, with random weights."""

import subprocess
import sys
import warnings

import pytest
import torch
from helpers.step_tools import replaying, tiny_batch, tiny_method, train
from safetensors.torch import save_file
from torch import nn

from mmseg.config.data_root import set_root
from mmseg.config.load import check_config, effective, load_config
from mmseg.config.run import Multipliers, Numerics, Optimizer, ParameterSettings
from mmseg.errors import CheckpointError, ConfigError
from mmseg.models.backbones.timm_encoder import SimplePyramid, TimmEncoder
from mmseg.models.low_precision import WeightCopies
from mmseg.registry import BACKBONES
from mmseg.uda.segmentors import build_segmentor
from mmseg.uda.streams import check_method

CONVNEXT, RESNET = dict(model_name="test_convnext"), dict(model_name="resnet10t")
SMALL_VIT = dict(depth=2, embed_dim=32, num_heads=2)
VIT = dict(model_name="vit_tiny_patch16_224", model_kwargs=dict(SMALL_VIT, img_size=64))
DINOV2 = dict(model_name="vit_small_patch14_dinov2", model_kwargs=dict(SMALL_VIT, img_size=70))
DINOV3 = dict(model_name="vit_small_patch16_dinov3", model_kwargs=SMALL_VIT)
SWIN = dict(
    model_name="swin_tiny_patch4_window7_224",
    model_kwargs=dict(embed_dim=16, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 2]),
)
ENCODERS = {"ConvNeXt": CONVNEXT, "ResNet": RESNET, "ViT": VIT, "DINOv2": DINOV2, "DINOv3": DINOV3, "Swin": SWIN}
every_encoder = pytest.mark.parametrize("settings", ENCODERS.values(), ids=ENCODERS)
FUSED_TYPES = {name: ENCODERS[name] for name in ("ConvNeXt", "ResNet", "DINOv2")}


def make(settings: dict, **changes) -> TimmEncoder:
    torch.manual_seed(0)
    return BACKBONES.build(dict(type="TimmEncoder", **settings) | changes)


def head(in_channels=None, kind="DAFormerHead") -> dict:
    decoder = dict(embed_dims=8, fusion_cfg=dict(type="aspp", sep=True, dilations=(1, 6)), share_decoder=True)
    return dict(type=kind, in_channels=in_channels, channels=8, num_classes=19, decoder_params=decoder)


def fused(image: dict, events: dict, fusion: dict | None = None, **model) -> nn.Module:
    return build_segmentor(
        dict(
            type="FusionEncoderDecoder",
            backbone_image=image,
            backbone_events=events,
            fusion_module=fusion or dict(type="AttentionAvgFusion"),
            decode_head=head(kind="DAFormerHeadFusion"),
        )
        | model
    )


# ------------------------------------------------------------------------------------------------ maps


@every_encoder
def test_maps_have_the_sizes_of_a_mit(settings):
    encoder, mit = make(settings).eval(), BACKBONES.build(dict(type="mit_b0")).eval()
    for height, width in ((64, 64), (33, 95)):
        x = torch.randn(2, 3, height, width)
        with torch.no_grad():
            maps = encoder(x)
            assert [m.shape[2:] for m in maps] == [m.shape[2:] for m in mit(x)]
        assert [m.shape[1] for m in maps] == list(encoder.channels)
        assert all(m.is_contiguous() and m.isfinite().all() for m in maps)


@every_encoder
def test_every_weight_has_a_gradient(settings):
    encoder = make(settings)
    sum(m.square().sum() for m in encoder(torch.randn(2, 3, 64, 64))).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("settings", [CONVNEXT, DINOV2, DINOV3], ids=["ConvNeXt", "DINOv2", "DINOv3"])
def test_maps_are_aligned_with_the_image(settings):
    """A bright square changes the cells over it most, also where the input is padded and resized."""
    encoder = make(settings).double().eval()
    dark = torch.zeros(1, 3, 120, 200, dtype=torch.double)
    bright = dark.clone()
    bright[:, :, 64:80, 144:160] = 3
    with torch.no_grad():
        changes = [(a - b).norm(dim=1)[0] for a, b in zip(encoder(dark), encoder(bright), strict=True)]
    for stride, change in zip((4, 8, 16), changes, strict=False):
        row, column = divmod(int(change.argmax()), change.shape[1])
        assert 64 // stride <= row < max(80 // stride, 64 // stride + 1)
        assert 144 // stride <= column < max(160 // stride, 144 // stride + 1)


def test_an_input_of_the_trained_size_is_not_changed():
    """Positions of the same grid are those of timm, and so is the map of the last block."""
    encoder = make(VIT).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = encoder.model.forward_features(x)[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        assert torch.allclose(encoder(x)[2], expected, atol=1e-5)


def test_the_pyramid_of_coarse_and_fine_patches():
    assert SimplePyramid(64, 32).channels == (16, 16, 32, 64)
    assert SimplePyramid(64, 8).channels == (32, 64, 64, 64)
    shapes = [tuple(m.shape[2:]) for m in SimplePyramid(16, 8)(torch.randn(1, 16, 9, 5))]
    assert shapes == [(18, 10), (9, 5), (5, 3), (3, 2)]


# ------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("settings", FUSED_TYPES.values(), ids=FUSED_TYPES)
def test_it_trains_fused(settings):
    method = tiny_method(encoder=dict(type="TimmEncoder", **settings), isr_another_fusion=True)
    before = {name: p.clone() for name, p in method.model.named_parameters()}
    logs, _ = train(method, 2, batch=tiny_batch())
    assert all(torch.tensor(list(entry.values())).isfinite().all() for entry in logs)
    moved = {name.split(".")[0] for name, p in method.model.named_parameters() if not p.equal(before[name])}
    assert moved == {"backbone_image", "backbone_events", "fusion_module", "fusion_isr_module", "decode_head"}


@pytest.mark.parametrize("settings", [SWIN, DINOV3], ids=["Swin", "DINOv3"])
def test_it_trains_on_images_with_feature_distance(settings):
    encoder = dict(type="TimmEncoder", **settings, drop_path_rate=0.2)
    distance = dict(imnet_feature_dist_lambda=0.1, imnet_feature_dist_classes=[6, 7, 11])
    method = tiny_method("cs2dsec_image", encoder=encoder, **distance)
    logs, _ = train(method, 2, batch=tiny_batch(64))
    assert all(torch.tensor(list(entry.values())).isfinite().all() for entry in logs)
    assert any("feature" in name or "imnet" in name or "fd" in name for name in logs[-1]), logs[-1]


def test_the_teacher_has_no_noise():
    method = tiny_method(encoder=dict(type="TimmEncoder", **CONVNEXT, drop_path_rate=0.5))
    x = torch.randn(4, 3, 64, 64)
    teacher, student = method.ema_model.backbone_image, method.model.backbone_image
    assert teacher(x)[3].equal(teacher(x)[3])
    assert not student(x)[3].equal(student(x)[3])
    batch_norms = list(tiny_method(encoder=dict(type="TimmEncoder", **RESNET)).ema_model.modules())
    assert all(m.training for m in batch_norms if isinstance(m, nn.BatchNorm2d))


def test_streams_do_not_share_the_statistics_of_a_batch_norm():
    model = tiny_method(encoder=dict(type="TimmEncoder", **RESNET)).model
    events, isr = torch.randn(2, 3, 64, 64), 5 + torch.randn(2, 3, 64, 64)
    both = model._encode_second({"events": events, "img_self_res": isr})["events"]
    assert all(a.equal(b) for a, b in zip(both, model._encode_second({"events": events})["events"], strict=True))


@pytest.mark.parametrize("settings", [CONVNEXT, SWIN, DINOV3], ids=["ConvNeXt", "Swin", "DINOv3"])
def test_gradient_checkpointing_changes_no_gradient(settings):
    x = torch.randn(2, 3, 64, 64)
    gradients = []
    for checkpointing in (False, True):
        encoder = make(settings, drop_path_rate=0.3)
        encoder.gradient_checkpointing = checkpointing
        torch.manual_seed(1)
        sum(m.square().mean() for m in encoder(x)).backward()
        gradients.append([p.grad for p in encoder.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("settings", [CONVNEXT, DINOV3], ids=["ConvNeXt", "DINOv3"])
def test_16_bit_copies_give_the_numbers_of_autocast(settings):
    encoder = make(settings).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain = encoder(x)
        with WeightCopies(encoder, torch.bfloat16).swapped_in():
            copied = encoder(x)
    assert all(a.equal(b) for a, b in zip(plain, copied, strict=True))


def test_it_trains_in_16_bits_with_checkpointing():
    method = tiny_method(encoder=dict(type="TimmEncoder", **VIT))
    method.configure(Numerics(precision="bf16", gradient_checkpointing=True))
    logs, _ = train(method, 2, batch=tiny_batch(64))
    assert all(torch.tensor(list(entry.values())).isfinite().all() for entry in logs)


def test_its_steps_can_be_replayed():
    encoder, said = dict(type="TimmEncoder", **VIT), []
    plain, replayed = (tiny_method(encoder=encoder) for _ in range(2))
    recorder = replaying(replayed, said)
    expected, _ = train(plain, 2, batch=tiny_batch(64))
    given, _ = train(replayed, 2, batch=tiny_batch(64))
    assert (given, said) == (expected, [])
    assert recorder.replays


def test_batch_norms_with_activations_are_not_synchronised():
    encoder = dict(type="TimmEncoder", model_name="test_efficientnet")
    with pytest.raises(ConfigError, match="sync_bn=True is not available with timm's test_efficientnet"):
        tiny_method("cs2dsec_image", encoder=encoder).configure(Numerics(sync_bn=True))


def test_learning_rates_of_its_weights():
    model = tiny_method(encoder=dict(type="TimmEncoder", **VIT)).model
    settings = Optimizer(
        type="AdamW",
        lr=1.0,
        paramwise_cfg=ParameterSettings(
            custom_keys={"backbone": Multipliers(lr_mult=0.1), "head": Multipliers(lr_mult=10.0)}
        ),
    )
    rates = {name: settings.of_parameter(name)[0] for name, _ in model.named_parameters()}
    assert {rate for name, rate in rates.items() if name.startswith("backbone")} == {0.1}
    assert {rate for name, rate in rates.items() if name.startswith("decode_head")} == {10.0}
    assert {rate for name, rate in rates.items() if name.startswith("fusion")} == {1.0}


# ------------------------------------------------------------------------------------------------ weights


@every_encoder
def test_weights_from_a_file(settings, tmp_path):
    given = make(settings)
    with torch.no_grad():
        for parameter in given.model.parameters():
            parameter.normal_()
    save_file(given.model.state_dict(), tmp_path / "model.safetensors")
    torch.save({"model": given.model.state_dict()}, tmp_path / "model.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("model.safetensors", "model.pth"):
            loaded = make(settings, weights=str(tmp_path / name)).model.state_dict()
            assert all(value.equal(loaded[key]) for key, value in given.model.state_dict().items())


def test_a_file_of_timm_with_its_classifier(tmp_path):
    import timm

    whole = timm.create_model("test_convnext")
    torch.save(whole.state_dict(), tmp_path / "model.pth")
    with pytest.warns(UserWarning, match="test_convnext was trained on images normalised with mean .*ImageNet"):
        encoder = make(CONVNEXT, weights=str(tmp_path / "model.pth"))
    assert encoder.model.stem[0].weight.equal(whole.stem[0].weight)


def test_positions_of_another_size_are_interpolated(tmp_path):
    larger = make(VIT, model_kwargs=dict(SMALL_VIT, img_size=128))
    save_file(larger.model.state_dict(), tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match="normalised"):
        smaller = make(VIT, weights=str(tmp_path / "model.safetensors"))
    assert smaller.model.pos_embed.shape == (1, 17, 32)
    assert smaller.model.blocks[1].mlp.fc1.weight.equal(larger.model.blocks[1].mlp.fc1.weight)


def test_weights_that_cannot_be_used(tmp_path, monkeypatch):
    path = tmp_path / "model.pth"
    with pytest.raises(CheckpointError, match="does not exist"):
        make(CONVNEXT, weights=str(path))
    state = make(CONVNEXT).model.state_dict()
    torch.save(dict(list(state.items())[3:]), path)
    with pytest.raises(CheckpointError, match=r"model\.pth does not fit timm's test_convnext \(3 missing: stem"):
        make(CONVNEXT, weights=str(path))
    torch.save(make(RESNET).model.state_dict(), path)
    with pytest.raises(CheckpointError, match=r"model\.pth does not fit timm's test_convnext"):
        make(CONVNEXT, weights=str(path))
    torch.save(state | {"stem.0.bias": state["stem.0.bias"] * float("nan")}, path)
    with pytest.raises(CheckpointError, match="NaN"):
        make(CONVNEXT, weights=str(path))


def test_a_download_that_fails_is_one_message(monkeypatch):
    import timm

    create = timm.create_model

    def offline(name, pretrained=False, **arguments):
        if pretrained:
            raise OSError("no route to host\nand more")
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"^timm could not get the weights .*\(no route to host\);"):
        make(CONVNEXT, weights="timm")


# ------------------------------------------------------------------------------------------------ configs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(model_name="convnext_tini"), "timm does not have, did you mean 'convnext_tiny'"),
        (dict(model_name="convnext_tiny.nothing"), "timm has the tags .*dinov3_lvd1689m"),
        (dict(model_name="convit_tiny"), "an encoder needs 4, 8, 16 and 32|other size|does not take"),
        (dict(CONVNEXT, model_kwargs=dict(pretrained=True)), r"model_kwargs\.pretrained is set by the encoder"),
        (dict(CONVNEXT, model_kwargs=dict(no_such=1)), "timm cannot build test_convnext with .*no_such"),
        (dict(model_name="beit_base_patch16_224", model_kwargs=dict(depth=1)), "does not take inputs of 72x104"),
    ],
)
def test_models_that_cannot_be_used(settings, message):
    with pytest.raises(ConfigError, match=message):
        make(settings)


def test_channels_are_passed_on_or_compared():
    encoder = dict(type="TimmEncoder", **CONVNEXT)
    model = fused(encoder, encoder, fusion_isr_module=dict(type="ConcatenateFusion", in_channels=None))
    channels = (24, 32, 48, 64)
    assert model.decode_head.in_channels == model.fusion_module.channels == channels
    assert model.fusion_isr_module.channels == channels
    fused(encoder, encoder, fusion=dict(type="AverageFusion"))
    with pytest.raises(ConfigError, match=r"backbone has the channels \(24, .*decode_head\.in_channels is \(8, "):
        build_segmentor(dict(type="EncoderDecoder", backbone=encoder, decode_head=head((8, 8, 8, 8))))
    with pytest.raises(ConfigError, match=r"model\.fusion_module has the channels \(8, .*in_channels is \(24, "):
        fused(encoder, encoder, fusion=dict(type="AttentionAvgFusion", in_channels=[8, 8, 8, 8]))
    with pytest.raises(ConfigError, match=r"backbone_image has the channels \(24, .*backbone_events has \(32, "):
        fused(encoder, dict(type="mit_b0"))


def test_encoders_of_different_types():
    pyramid = dict(type="TimmEncoder", model_name="pvt_v2_b0")
    streams = {name: torch.randn(1, 3, 64, 64) for name in ("image", "events")}
    model = fused(pyramid, dict(type="mit_b0")).eval()
    assert model.predict(streams, "fusion").shape == (1, 64, 64)


def test_pretrained_is_for_other_encoders():
    encoder = dict(type="TimmEncoder", **CONVNEXT)
    with pytest.raises(ConfigError, match=r"model\.pretrained is mit\.pth, but .*weights"):
        fused(encoder, encoder, pretrained="mit.pth")


@pytest.mark.parametrize("name", ["cs2dsec_image+events_convnext", "cs2dsec_image_dinov2"])
def test_the_example_configs_are_whole(root, name):
    config = load_config(root / "configs" / "encoders" / f"{name}.py")
    values = effective(config)
    check_method(values)
    for key, value in values["model"].items():
        if "weights" in (value if isinstance(value, dict) else ()):
            values["model"][key] = {**value, "weights": None}
    with pytest.raises(ConfigError, match=r"data\.|uda\.cyclegan"):
        check_config(values, for_training=True)


def test_a_root_moves_files_but_not_the_word_for_a_download(root, tmp_path):
    config = load_config(root / "configs" / "encoders" / "cs2dsec_image+events_convnext.py")
    config.model.backbone_events.weights = "timm"
    set_root(config, tmp_path)
    assert config.model.backbone_image.weights.startswith(str(tmp_path / "pretrained"))
    assert config.model.backbone_events.weights == "timm"


def test_networks_for_use_need_no_file(root):
    """Positions that constructors compute are there although a checkpoint lacks them."""
    from mmengine.config import Config

    from mmseg.engine.networks import empty_segmentor

    for settings in (SWIN, DINOV3):
        model = dict(type="EncoderDecoder", backbone=dict(type="TimmEncoder", weights="gone.pth", **settings))
        values = dict(model=dict(model, decode_head=head()), data=dict(test=dict(
            type="CityscapesICDataset", dataset_path="none")))  # fmt: skip
        used, trained = empty_segmentor(Config(values)), build_segmentor(values["model"] | {"backbone": {
            "type": "TimmEncoder", **settings}})  # fmt: skip
        used.load_state_dict(trained.state_dict())
        x = {"image": torch.randn(1, 3, 64, 64)}
        assert used.eval().predict_logits(x, "image").equal(trained.eval().predict_logits(x, "image"))


def test_timm_is_imported_only_when_needed():
    code = "import sys, mmseg.registry as r; r.BACKBONES.build(dict(type='mit_b0')); assert 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
