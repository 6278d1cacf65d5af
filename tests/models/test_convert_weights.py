"""Encoders of other projects under our names: every layout, every size, and what is refused."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden_tools import load_json, u01
from helpers.hugging_face import as_hugging_face
from torch import nn

from mmseg.errors import CheckpointError
from mmseg.models.backbones.conversion import convert_encoder
from mmseg.models.backbones.foreign_files import read_weights
from mmseg.models.backbones.mit import ARCHITECTURES, EfficientSelfAttention
from mmseg.models.backbones.pretrained import load_pretrained_encoder
from mmseg.registry import BACKBONES

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "convert_weights.py"
ALL_SIZES = [
    arch if arch in ("mit_b0", "mit_b1") else pytest.param(arch, marks=pytest.mark.exhaustive) for arch in ARCHITECTURES
]


def run_script(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """As a user runs it."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the script within this process, which need not wait for torch again; (stdout, stderr) come back."""
    spec = importlib.util.spec_from_file_location("convert_weights", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, expect: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        try:
            script.run_as_script(script.main)
            status = 0
        except SystemExit as stopped:
            status = stopped.code
        out, err = capsys.readouterr()
        assert status == expect, out + err
        return out, err

    return run


def authors_file(arch: str) -> dict[str, torch.Tensor]:
    """Names and shapes of the published files, numbers by name."""
    return {
        name: torch.from_numpy((u01(name, shape) - 0.5).astype(np.float32))
        for name, shape in load_json(f"c01_{arch}.json.gz")
    }


def as_mmsegmentation(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Independent way back: from the authors' names to those of MMSegmentation 1.x, written out name by name."""
    result = {}
    for name, tensor in state.items():
        head, rest = name.split(".", 1)
        stage = int(head[-1]) - 1
        if head.startswith("patch_embed"):
            result[f"layers.{stage}.0.{rest.replace('proj', 'projection')}"] = tensor
        elif head.startswith("norm"):
            result[f"layers.{stage}.2.{rest}"] = tensor
        else:
            block, rest = rest.split(".", 1)
            place = f"layers.{stage}.1.{block}"
            if rest.startswith("attn.q."):
                other = state[name.replace("attn.q.", "attn.kv.")]
                result[f"{place}.attn.attn.in_proj_{rest.rpartition('.')[2]}"] = torch.cat([tensor, other])
            elif rest.startswith("attn.proj."):
                result[f"{place}.attn.attn.out_proj.{rest.rpartition('.')[2]}"] = tensor
            elif rest.startswith("mlp."):
                number = {"fc1": 0, "dwconv": 1, "fc2": 4}[rest.split(".")[1]]
                kind = rest.rpartition(".")[2]
                square = tensor[:, :, None, None] if kind == "weight" and number != 1 else tensor
                result[f"{place}.ffn.layers.{number}.{kind}"] = square
            elif not rest.startswith("attn.kv."):
                result[f"{place}.{rest}"] = tensor
    return result


def assert_equal(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


# ------------------------------------------------------------------------------------------------ layouts


def test_file_of_the_authors(tmp_path):
    expected = authors_file("mit_b0")
    head = {"head.weight": torch.zeros(1000, 256), "head.bias": torch.zeros(1000)}
    torch.save({**head, **expected}, tmp_path / "downloaded.pth")
    result = run_script("downloaded.pth", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "mit_b0, layout of the SegFormer authors" in result.stdout
    assert "left out: head (2 tensors)" in result.stdout
    out = tmp_path / "pretrained" / "mit_b0.pth"
    assert_equal(torch.load(out, weights_only=True), expected)
    encoder = BACKBONES.build({"type": "mit_b0"})
    load_pretrained_encoder(encoder, out)
    assert torch.equal(encoder.block2[1].attn.kv.weight, expected["block2.1.attn.kv.weight"])
    assert [p.name for p in out.parent.iterdir()] == ["mit_b0.pth"]


@pytest.mark.parametrize("arch", ALL_SIZES)
def test_mmsegmentation_layout(arch):
    expected = authors_file(arch)
    converted = convert_encoder(as_mmsegmentation(expected))
    assert (converted.arch, converted.layout) == (arch, "MMSegmentation 1.x")
    assert_equal(converted.state_dict, expected)


def test_segmentor_of_mmsegmentation(tmp_path, run):
    expected = authors_file("mit_b1")
    state = {f"backbone.{k}": v for k, v in as_mmsegmentation(expected).items()}
    state |= {"decode_head.conv_seg.weight": torch.zeros(19, 256, 1, 1), "decode_head.conv_seg.bias": torch.zeros(19)}
    torch.save({"meta": {"epoch": 1}, "state_dict": state}, tmp_path / "segformer.pth")
    out, _ = run("segformer.pth", "--out", "encoder.pth")
    assert "left out: decode_head (2 tensors)" in out
    assert "trained for segmentation" in out
    assert_equal(torch.load(tmp_path / "encoder.pth", weights_only=True), expected)


@torch.no_grad()
def test_multihead_attention_is_stacked_as_ours():
    """What the MMSegmentation layout rests on: query, key, value in this order, heads in equal order."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(64, 4, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours = EfficientSelfAttention(64, 4, 1)
    ours.q.weight.copy_(theirs.in_proj_weight[:64])
    ours.q.bias.copy_(theirs.in_proj_bias[:64])
    ours.kv.weight.copy_(theirs.in_proj_weight[64:])
    ours.kv.bias.copy_(theirs.in_proj_bias[64:])
    ours.proj.load_state_dict(theirs.out_proj.state_dict())
    tokens = torch.randn(2, 15, 64).double()
    ours, theirs = ours.double(), theirs.double()
    assert torch.allclose(ours(tokens, 3, 5), theirs(tokens, tokens, tokens)[0], atol=1e-10)


def segformer(arch: str):
    """A random Hugging Face SegFormer in which no two numbers are alike, and its features' function."""
    transformers = pytest.importorskip("transformers")
    depths, channels = ARCHITECTURES[arch]
    config = transformers.SegformerConfig(depths=list(depths), hidden_sizes=list(channels))
    torch.manual_seed(1)
    model = transformers.SegformerModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    for name, module in model.named_modules():
        # SegformerModel leaves every LayerNorm at 1e-5 and does not read config.layer_norm_eps. The published
        # network has 1e-6 in blocks and stage norms: to compare weights, not epsilons, it gets them too.
        inside = ("patch_embeddings", "sequence_reduction", "attention.self")
        if isinstance(module, nn.LayerNorm) and not any(part in name for part in inside):
            module.eps = 1e-6
    return model


@pytest.mark.parametrize("arch", ALL_SIZES)
@torch.no_grad()
def test_hugging_face_folder_gives_equal_features(arch, tmp_path):
    pytest.importorskip("safetensors")
    model = segformer(arch)
    model.save_pretrained(tmp_path / "folder")
    assert (tmp_path / "folder" / "model.safetensors").is_file()
    weights, _ = read_weights(tmp_path / "folder")
    converted = convert_encoder(weights)
    assert converted.arch == arch
    encoder = BACKBONES.build({"type": arch}).eval()
    encoder.load_state_dict(converted.state_dict)
    # in double precision, where rounding is no excuse on any CPU
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2)).double()
    theirs = model.double()(image, output_hidden_states=True).hidden_states
    for ours, feature in zip(encoder.double()(image), theirs, strict=True):
        assert ours.shape == feature.shape
        assert (ours - feature).abs().max() <= 1e-9 * feature.abs().max()


def test_hugging_face_module_names_and_bin(tmp_path, run):
    """``pytorch_model.bin`` with the names of the modules, and a file of the whole classifier."""
    transformers = pytest.importorskip("transformers")
    model = segformer("mit_b0")
    whole = transformers.SegformerForImageClassification(model.config)
    whole.segformer.load_state_dict(model.state_dict())
    whole.save_pretrained(tmp_path / "classifier")
    folder = tmp_path / "bin"
    folder.mkdir()
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    run("classifier", "--out", "one.pth")
    run("bin", "--out", "two.pth")
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one.pth", "two.pth"))
    assert_equal(one, two)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
def test_hugging_face_folder_without_that_package(file, tmp_path):
    expected = authors_file("mit_b0")
    folder = tmp_path / "mit-b0"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "segformer"}))
    state = {k: v.contiguous() for k, v in as_hugging_face(expected).items()}
    if file.endswith(".safetensors"):
        pytest.importorskip("safetensors.torch").save_file(state, folder / file)
    else:
        torch.save(state, folder / file)
    weights, path = read_weights(folder)
    assert path.name == file
    assert_equal(convert_encoder(weights).state_dict, expected)


def test_half_precision_becomes_float32():
    state = {name: tensor.bfloat16() for name, tensor in authors_file("mit_b0").items()}
    converted = convert_encoder(state).state_dict
    assert {tensor.dtype for tensor in converted.values()} == {torch.float32}


# ------------------------------------------------------------------------------------------------ refusals


def test_another_encoder_than_asked(tmp_path, run):
    torch.save(authors_file("mit_b0"), tmp_path / "b0.pth")
    for arguments in (("--arch", "mit_b5"), ("--out", "mit_b5.pth")):
        _, err = run("b0.pth", *arguments, expect=2)
        assert "b0.pth holds mit_b0, not mit_b5" in err
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "mit_b5.pth").exists()


def test_existing_file_is_kept_unless_forced(tmp_path, run):
    torch.save(authors_file("mit_b0"), tmp_path / "b0.pth")
    (tmp_path / "out.pth").write_text("dear")
    assert "replace it with --force" in run("b0.pth", "--out", "out.pth", expect=2)[1]
    assert (tmp_path / "out.pth").read_text() == "dear"
    run("b0.pth", "--out", "out.pth", "--force")
    assert len(torch.load(tmp_path / "out.pth", weights_only=True)) == len(load_json("c01_mit_b0.json.gz"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layers.2.1.1.norm2.weight"), "missing: block3.1.norm2.weight"),
        (
            lambda s: s.pop("layers.1.1.0.attn.attn.in_proj_bias"),
            "missing: block2.0.attn.q.bias, block2.0.attn.kv.bias",
        ),
        (lambda s: s.update({"layers.0.2.bias": torch.zeros(7)}), r"norm1.bias \(7,\) instead of \(32,\)"),
        (lambda s: s.update({"layers.0.1.0.gamma": torch.zeros(7)}), "do not belong to a MiT.*layers.0.1.0.gamma"),
        (lambda s: s.update({"layers.0.1.2.norm1.bias": torch.zeros(32)}), r"depths \[3, 2, 2, 2\]"),
        (lambda s: s.clear(), "holds no MiT encoder of a known layout"),
    ],
)
def test_unfit_tensors_are_named(change, message):
    state = as_mmsegmentation(authors_file("mit_b0"))
    change(state)
    with pytest.raises(CheckpointError, match=message):
        convert_encoder(state)


def test_several_encoders_need_a_choice():
    expected = authors_file("mit_b0")
    state = {f"model.{name}.{k}": v for name in ("backbone_image", "backbone_events") for k, v in expected.items()}
    with pytest.raises(CheckpointError, match=r"2 encoders .*--prefix"):
        convert_encoder(state)
    with pytest.raises(CheckpointError, match="no encoder below 'backbone'"):
        convert_encoder(state, "backbone")
    assert_equal(convert_encoder(state, "model.backbone_events").state_dict, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no config.json"),
        ({"config.json": b"{"}, "config.json is not valid JSON"),
        ({"config.json": b'{"model_type": "vit"}'}, "of a model of type 'vit'"),
        ({"config.json": b'{"model_type": "segformer"}'}, "neither model.safetensors nor pytorch_model.bin"),
        (
            {"config.json": b'{"model_type": "segformer"}', "model.safetensors": bytes(8) + b"{}"},
            "model.safetensors is cut short or damaged",
        ),
        (
            {"config.json": b'{"model_type": "segformer"}', "pytorch_model.bin": b"version https://git-lfs"},
            "is not a torch file",
        ),
    ],
)
def test_folders_that_are_none(content, message, tmp_path):
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path)


def test_refused_file_is_named_in_one_line(tmp_path, run):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    for source, message in (("nowhere.pth", "does not exist"), ("other.pth", "no MiT encoder of a known layout")):
        _, err = run(source, expect=2)
        assert err.startswith(f"error: {source}")
        assert message in err
        assert len(err.splitlines()) == 1
