"""The config stored in a checkpoint, and configs of other layouts."""

import json
from pathlib import Path

import pytest
import torch

from mmseg.config.load import dump_config, load_config, plain
from mmseg.engine.checkpoint_config import carried_config, config_of
from mmseg.errors import CheckpointError, ConfigError
from mmseg.models.weights import load_file
from mmseg.work_dir.layout import WorkDir

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "configs/fusion/cs2dsec_image+events_together_b5.py"


def checkpoint(folder: Path, config: object, name: str = "iter_4.pth") -> Path:
    torch.save({"meta": {"iter": 4, "config": config}, "state_dict": {}}, folder / name)
    return folder / name


def test_config_of_our_checkpoints(tmp_path):
    base = load_config(BASE)
    path = checkpoint(tmp_path, dump_config(base))
    config, where = config_of(None, path, {"data.test.image_change_range": 2})
    assert config.data.test.image_change_range == 2
    assert where == f"{path}, which carries it"
    assert plain(carried_config(path).to_dict()) == plain(base.to_dict())
    # an explicit config takes precedence
    assert config_of(BASE, path)[1] == str(BASE)


# As MMSegmentation 0.x writes it.
PRETTY = """
log_level = 'INFO'
lr = 6e-05
optimizer = dict(
    type='AdamW',
    betas=(0.9, 0.999),
    paramwise_cfg=dict(
        custom_keys=dict({
            'head': dict(lr_mult=10.0),
            'pos.block': dict(decay_mult=-0.5)
        })))
workflow = [('train', 1)]
data = dict(test=dict(outputs={'warp_image', 'label'}, crop=None), sizes=[[1, 2], []])
"""


def test_config_of_checkpoints_of_mmsegmentation(tmp_path):
    config = carried_config(checkpoint(tmp_path, PRETTY)).to_dict()
    assert config["optimizer"]["betas"] == (0.9, 0.999)
    assert config["optimizer"]["paramwise_cfg"]["custom_keys"]["pos.block"] == {"decay_mult": -0.5}
    assert config["workflow"] == [("train", 1)]
    assert config["data"]["test"] == {"outputs": {"warp_image", "label"}, "crop": None}


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "x = __import__('os').system('touch here')",
        "x = dict(y=open('here', 'w'))",
        "x = [i for i in (1, 2)]",
        "x = dict(**y)",
        "x = dict([('a', 1)])",
        "x = {**y}",
        "x = {[1]: 2}",
        "x, y = 1, 2",
        "x = y",
        "x.y = 1",
        "x = (",
        "{",
        "[1, 2]",
        "x = " + "[" * 500 + "]" * 500,
    ],
)
def test_nothing_of_a_carried_config_is_run(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    path = checkpoint(tmp_path, text)
    with pytest.raises(ConfigError, match=r"iter_4\.pth"):
        carried_config(path)
    assert [file.name for file in tmp_path.iterdir()] == ["iter_4.pth"]


@pytest.mark.parametrize("config", [None, "", "  ", 7, {"model": 1}])
def test_checkpoint_without_a_config(tmp_path, config):
    with pytest.raises(ConfigError, match=r"iter_4\.pth contains no config; give the config file of its training"):
        config_of(None, checkpoint(tmp_path, config))


@pytest.mark.parametrize("content", [{}, {"meta": 1}, [1], {"weight": torch.zeros(1)}])
def test_weights_alone_carry_no_config(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"w\.pth contains no config"):
        config_of(None, tmp_path / "w.pth")


def test_work_dir_without_its_config_leaves_it_to_the_checkpoint(tmp_path):
    assert WorkDir(tmp_path).find_config() is None
    (tmp_path / f"{tmp_path.name}.json").write_text("{}")
    assert WorkDir(tmp_path).find_config() == tmp_path / f"{tmp_path.name}.json"
    with pytest.raises(ConfigError, match="is a file; give its folder"):
        WorkDir(tmp_path / f"{tmp_path.name}.json").find_config()
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        WorkDir(tmp_path / "nowhere").find_config()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "default_scope = 'mmseg'\nmodel = dict(type='EncoderDecoder')\n"),
        ("a.py", "_base_ = ['../_base_/x.py']\ndata_preprocessor = dict(size=(1, 2))\n"),
        ("a.py", "from mmengine.config import read_base\nwith read_base():\n    from .x import *\n"),
        ("a.json", json.dumps({"model": {}, "train_dataloader": {"batch_size": 2}})),
        ("a.json", json.dumps({"_base_": "none.py", "optim_wrapper": {}}, indent=1)),
    ],
)
def test_config_of_mmsegmentation_1(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"{name} is a config of MMSegmentation 1\.x .*take one of configs/"):
        load_config(tmp_path / name)


def test_checkpoint_of_mmsegmentation_1(tmp_path):
    with pytest.raises(ConfigError, match=r"the config in .*iter_4\.pth is a config of MMSegmentation 1\.x"):
        carried_config(checkpoint(tmp_path, "default_scope = 'mmseg'\noptim_wrapper = dict(type='OptimWrapper')"))


def test_addresses_are_not_files():
    with pytest.raises(ConfigError, match="this is an address, and nothing is downloaded here"):
        load_config("https://example.org/config.py")
    with pytest.raises(CheckpointError, match="s3:// is not supported"):
        load_file("s3://bucket/iter_4.pth")
