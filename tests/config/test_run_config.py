"""A config as one object: values, defaults, and what importing it costs."""

import subprocess
import sys

import pytest
from mmengine.config import Config

from mmseg.config.arguments import with_defaults
from mmseg.config.fields import section_of
from mmseg.config.keys import CONFIG, value_of
from mmseg.config.load import effective, load_config
from mmseg.config.run import RunConfig
from mmseg.config.sections import Section
from mmseg.config.uda import UDASettings
from mmseg.errors import ConfigError
from mmseg.registry import DATASETS

PUBLISHED = "configs/fusion/cs2dsec_image+events_together_b5.py"


@pytest.fixture
def published(root) -> dict:
    return effective(load_config(root / PUBLISHED))


def test_published_config(published):
    run = RunConfig.from_config(published)
    assert (run.runner.max_iters, run.checkpoint_config.interval, run.checkpoint_config.max_keep_ckpts) == (
        40000,
        40000,
        1,
    )
    assert (run.data.samples_per_gpu, run.data.skips_bad_samples) == (2, False)
    assert run.data.train == published["data"]["train"]
    assert run.model == published["model"]
    assert (run.optimizer.type, run.optimizer.lr, tuple(run.optimizer.betas)) == ("AdamW", 6e-05, (0.9, 0.999))
    assert run.optimizer.of_parameter("decode_head.conv.weight") == (10 * 6e-05, 0.01)
    assert run.optimizer.of_parameter("backbone.norm1.weight") == (6e-05, 0.0)
    assert (run.lr_config.warmup, run.lr_config.warmup_iters) == ("linear", 1500)
    assert run.uda.type == "DACS"
    assert run.uda.loss_weight == {"image": 0.5, "events": 0.5, "fusion": 0.5, "img_self_res": 0.25}
    assert run.numerics.cudnn_benchmark is True
    assert (run.numerics.precision, run.numerics.saves_memory) == ("fp32", False)


def test_what_is_left_out_or_none_has_its_default(published):
    for key in ("checkpoint_config", "evaluation", "log_config", "precision", "seed", "compile"):
        published[key] = None
    del published["cudnn_benchmark"], published["optimizer"]["paramwise_cfg"]
    published["micro_batch"] = 1
    run = RunConfig.from_config(published)
    assert (run.checkpoint_config.interval, run.evaluation.interval, run.log_config.interval) == (4000, 4000, 50)
    assert (run.log_config.hooks, run.evaluation.save_best, run.seed) == ([], None, 0)
    assert (run.numerics.precision, run.numerics.compile, run.numerics.cudnn_benchmark) == ("fp32", False, False)
    assert run.optimizer.of_parameter("decode_head.conv.weight") == (6e-05, 0.01)
    assert run.numerics.saves_memory


def test_every_fixed_section_is_a_dataclass():
    fixed = {name: key.kind.made for name, key in CONFIG.keys.items() if isinstance(key.kind, Section)}
    assert [name for name, made in fixed.items() if made is None] == ["norm_cfg"]  # which is not read
    assert CONFIG.keys.items() >= section_of(RunConfig).keys.items()


def test_settings_made_by_hand_are_checked():
    with pytest.raises(ConfigError, match=r"uda\.alpha is 2; give a number of at least 0 and at most 1"):
        UDASettings(train_type="cs2dsec_image", alpha=2)


def test_import_is_light():
    code = "import sys, mmseg.config.run; sys.exit(bool({'torch', 'numpy', 'mmengine'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("runner.max_iters", 40000),
        ("log_config.interval", 50),
        ("seed", 0),
        ("cuda_graphs", "auto"),
        ("model.test_cfg.mode", "whole"),
        ("data.train.source.cs_isr_data_type", "day"),
        ("data.train.rare_class_sampling.class_temp", 0.01),
        ("data.train.source.absent", None),
        ("absent.absent", None),
    ],
)
def test_value_or_default(root, key, value):
    config = load_config(root / PUBLISHED, {"seed": None}).to_dict()
    del config["log_config"]
    assert value_of(config, key) == value


def test_data_is_required_by_a_test(root):
    content = load_config(root / PUBLISHED).to_dict()
    del content["data"]
    with pytest.raises(ConfigError, match="the config has no section 'data'; take one of configs/ as a base"):
        effective(Config(content), for_training=False)


def test_arguments_of_a_component(root):
    DATASETS.import_from_location()
    kind = DATASETS.get("DSECDataset")
    section = {"type": "DSECDataset", "dataset_txt_path": "x.txt", "events_num": 3}
    values = with_defaults(kind, section, "data.test")
    assert (values["events_num"], values["image_change_range"], "type" in values) == (3, 1, False)
    with pytest.raises(ConfigError, match=r"^data\.test has no dataset_txt_path$"):
        with_defaults(kind, {"type": "DSECDataset"}, "data.test")
