"""Names and addresses in all places that take weights."""

import io
import json
import shutil

import pytest
import torch
from helpers.file_server import Reply, serving
from helpers.golden_tools import fill
from helpers.hugging_face import as_hugging_face
from helpers.script_tools import PUBLISHED_ENCODERS, ROOT
from helpers.training_tools import config_of
from rich.console import Console
from safetensors.torch import save as as_safetensors

from mmseg.apis.training import train
from mmseg.checks.run import _check_weights
from mmseg.config.data_root import set_root
from mmseg.config.load import check_config, effective, load_config
from mmseg.config.named_files import check_weights
from mmseg.engine.resuming import choose_start
from mmseg.engine.startup import fetch_weights
from mmseg.errors import CheckpointError, ConfigError
from mmseg.launcher.flag_rules import Base, encoder_keys
from mmseg.models.backbones.foreign_files import read_weights
from mmseg.models.backbones.pretrained import load_pretrained_encoder
from mmseg.models.resnet_generator import ResnetGenerator, load_generator
from mmseg.models.weights import load_file
from mmseg.registry import BACKBONES
from mmseg.weights.store import local_file
from mmseg.work_dir.identity import RunIdentity

CONFIG = ROOT / "configs" / "fusion" / "cs2dsec_image+events_together_b5.py"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CMDA_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def published():
    return load_config(CONFIG)


def torch_bytes(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def encoder():
    return fill(BACKBONES.build({"type": "mit_b0"}))


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_a_generator(form):
    given = fill(ResnetGenerator(width=2)).state_dict()
    content = as_safetensors(given) if form == "safetensors" else torch_bytes(given)
    with serving(content) as server:
        found = load_generator(server.url("generator"))
    assert all(torch.equal(given[name], x) for name, x in found.state_dict().items())


def test_pickled_code_is_not_run():
    harmful = torch_bytes({"x": shutil.rmtree})
    with serving(harmful) as server, pytest.raises(CheckpointError, match="holds more than tensors and plain data"):
        load_file(server.url())


def test_a_web_page_that_claims_to_be_a_file_is_refused():
    with serving(b"<!DOCTYPE html><html>") as server, pytest.raises(CheckpointError, match="not a torch file"):
        load_file(server.url("x.pth"))


def test_an_encoder_of_timm_or_a_conversion(encoder):
    with serving(as_safetensors(encoder.state_dict())) as server:
        weights, path = read_weights(server.url("model.safetensors"), model_type=None)
    assert path.name == "model.safetensors"
    assert weights.keys() == encoder.state_dict().keys()


def test_misspelt_names_of_weight_files():
    with pytest.raises(CheckpointError, match="cmda_cs2dsce does not exist, did you mean 'cmda_cs2dsec'"):
        load_file("cmda_cs2dsce")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.pretrained", "mit-b5", "'mit-b5' is neither a file nor a known name, did you mean 'mit_b5'"),
        ("model.pretrained", "pretrained/mit_b4.pth", "model.pretrained=mit_b4 downloads it, or docs/weights.md"),
        ("model.pretrained", "ftp://example.org/x", "model.pretrained: ftp://example.org/x: ftp:// is not supported"),
        ("load_from", "nowhere/x.pth", "load_from: nowhere/x.pth does not exist; give a checkpoint"),
        ("load_from", "hf://owner", "load_from: hf://owner: give hf://<owner>"),
    ],
)
def test_what_a_config_check_refuses(monkeypatch, tmp_path, key, value, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        check_weights(key, value, "docs/weights.md" if key == "model.pretrained" else "give a checkpoint")
    assert message in str(error.value)


def test_a_config_check_downloads_nothing(published, tmp_path, home):
    for key in ("data.train.source.dataset_path", "data.train.source_json_root", "data.train.target.dataset_txt_path"):
        published.merge_from_dict({key: str(tmp_path)})
    published.merge_from_dict({"data.val.dataset_txt_path": str(tmp_path), "load_from": "http://127.0.0.1:9/x.pth"})
    published.merge_from_dict({"model.pretrained": "mit_b5", "uda.cyclegan_itrd2en_path": "cityscapes_ICD_to_dsec_EN"})
    check_config(effective(published), for_training=True)
    assert not home.exists()


def test_a_root_leaves_them_as_they_are(published, tmp_path):
    published.merge_from_dict({"model.pretrained": "mit_b5", "uda.cyclegan_itrd2en_path": "hf://o/r/generator.pth"})
    set_root(published, tmp_path)
    assert published.model.pretrained == "mit_b5"
    assert published.uda.cyclegan_itrd2en_path == "hf://o/r/generator.pth"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mit_b5", "mit_b2"),
        ("nvidia/mit-b5", "nvidia/mit-b2"),
        ("hf://o/r/mit_b5.pth", None),
        ("pretrained/mit_b5.pth", "pretrained/mit_b2.pth"),
    ],
)
def test_a_flag_for_the_encoder_changes_a_name(published, given, expected):
    published.merge_from_dict({"model.pretrained": given})
    base = Base(published.to_dict(), CONFIG, None)
    assert encoder_keys("mit_b2", base).get("model.pretrained") == expected


def test_a_check_of_the_data_tells_what_is_there(published, tmp_path):
    with serving(torch_bytes({})) as server:
        published.merge_from_dict(
            {"model.pretrained": server.url("x.pth"), "uda.cyclegan_itrd2en_path": "ftp://x.org/y"}
        )
        first, second = _check_weights(published)
        assert (first.found, first.state) == ("not downloaded yet", "note")
        assert "tools/weights.py fetch http" in first.remedy
        assert second.state == "wrong"
        fetch_weights(
            load_config(CONFIG, {"model.pretrained": server.url("x.pth"), "uda.cyclegan_itrd2en_path": ""}), print
        )
    assert _check_weights(published)[0].state == "ok"


def test_a_run_does_not_start_from_a_file_that_was_changed(tmp_path):
    content = torch_bytes({})
    with serving(content) as server:
        options = {"model.pretrained": server.url("x.pth"), "uda.cyclegan_itrd2en_path": ""}
        config = load_config(CONFIG, {**options, "resume_from": server.url("x.pth")})
        known = fetch_weights(config, print)
        assert known.keys() == {"model.pretrained", "resume_from"}
        local_file(server.url("x.pth")).write_bytes(content[::-1])
        with pytest.raises(CheckpointError, match="when it arrived; remove"):
            fetch_weights(config, print)


def test_resuming_from_an_address(tmp_path):
    new = RunIdentity.new(0, "{}")
    with serving(torch_bytes({"meta": {"iter": 3}})) as server:
        start = choose_start(server.url("iter_3.pth"), tmp_path / "run", new, {}, 1)
    assert start.checkpoint.name == "iter_3.pth"
    assert start.identity == new
    with pytest.raises(CheckpointError, match="resume_from: nowhere does not exist"):
        choose_start("nowhere", tmp_path / "run", new, {}, 1)


def test_a_training_from_a_name(mini_project, tmp_path, monkeypatch, encoder):
    """Weights of a hub are converted; the config keeps what was given, and the run records what it was."""
    content = torch_bytes(as_hugging_face(encoder.state_dict()))
    config = config_of(
        mini_project,
        **{**PUBLISHED_ENCODERS, "model.pretrained": "nvidia/mit-b0", "runner.max_iters": 1, "data.val": None},
    )
    with serving(content, replies=[Reply(404)]) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url("")[:-1])
        train(config, tmp_path / "run", Console(file=io.StringIO()))
        assert len(server.requests) == 2
    known = json.loads((tmp_path / "run" / "environment.json").read_text())["weights"]["model.pretrained"]
    assert known["given"] == "nvidia/mit-b0"
    assert known["from"] == "hf://nvidia/mit-b0/pytorch_model.bin@main"
    assert len(known["sha256"]) == 64
    assert json.loads((tmp_path / "run" / "run.json").read_text())["model"]["pretrained"] == "nvidia/mit-b0"
    assert f"SHA-256 {known['sha256']}" in (tmp_path / "run" / "run.log").read_text()


def test_an_encoder_in_the_layout_of_a_hub(encoder, tmp_path):
    torch.save(as_hugging_face(encoder.state_dict()), tmp_path / "x.bin")
    other = BACKBONES.build({"type": "mit_b0"})
    load_pretrained_encoder(other, tmp_path / "x.bin")
    assert all(torch.equal(x, other.state_dict()[name]) for name, x in encoder.state_dict().items())
    with pytest.raises(CheckpointError, match="does not fit the encoder"):
        load_pretrained_encoder(BACKBONES.build({"type": "mit_b1"}), tmp_path / "x.bin")
