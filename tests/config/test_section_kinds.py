"""Another optimiser or schedule: keys that only the old one has are dropped, wrong ones are refused."""

import logging
import math

import pytest
from helpers.script_tools import PUBLISHED

from mmseg.apis import plan_child
from mmseg.config.load import check_config, effective, load_config
from mmseg.config.run import RunConfig, Schedule
from mmseg.config.section_kinds import check_kinds
from mmseg.errors import ConfigError

SGD = {"optimizer.type": "SGD", "optimizer.lr": 0.01, "optimizer.momentum": 0.9}


@pytest.fixture
def load(root, caplog):
    def load(**options):
        with caplog.at_level(logging.WARNING):
            config = load_config(root / PUBLISHED, options)
        return config, [record.getMessage() for record in caplog.records]

    return load


def test_another_optimizer(load):
    config, notes = load(**SGD)
    assert notes == ["note: optimizer.type=SGD drops optimizer.betas of AdamW"]
    check_kinds(config)
    optimizer = RunConfig.from_config(effective(config)).optimizer
    assert optimizer.options() == {"momentum": 0.9}
    assert optimizer.weight_decay == 0.01
    assert optimizer.of_parameter("decode_head.weight")[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "options", [{"lr_config": {"policy": "cosine"}}, {"lr_config.policy": "cosine", "lr_config.min_lr": 0.0}]
)
def test_another_schedule(load, options):
    config, notes = load(**options)
    assert notes == ["note: lr_config.policy=cosine drops lr_config.power of poly"]
    check_kinds(config)
    assert config.lr_config.to_dict() == {
        "policy": "cosine",
        "warmup": "linear",
        "warmup_iters": 1500,
        "warmup_ratio": 1e-06,
        "min_lr": 0.0,
        "by_epoch": False,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**SGD, "optimizer.betas": [0.9, 0.99]}, "optimizer.betas is not a setting of SGD; leave it out"),
        ({"optimizer": {"type": "SGD", "eps": 1e-8}}, "optimizer.eps is not a setting of SGD"),
        ({"lr_config": {"policy": "cosine", "power": 2}}, "lr_config.power is not a setting of cosine"),
    ],
)
def test_wrong_keys_are_refused(load, options, message):
    config, _ = load(**options)
    with pytest.raises(ConfigError, match=message):
        check_config(effective(config), for_training=True)


def test_what_changes_no_kind_changes_nothing(load):
    options = {"optimizer.type": "AdamW", "lr_config.power": 0.9, "optimizer.betas": (0.8, 0.9)}
    config, notes = load(**options, **{"lr_config.policy": "poly"})
    assert not notes
    assert (config.lr_config.power, config.optimizer.betas) == (0.9, (0.8, 0.9))
    config, notes = load(optimizer={"type": "SGD", "lr": 0.1, "_delete_": True})
    assert not notes
    assert config.optimizer.to_dict() == {"type": "SGD", "lr": 0.1}


@pytest.mark.parametrize("options", [{"optimizer.type": "Sgd"}, {"optimizer.type": 5}, {"optimizer.type": ["SGD"]}])
def test_unknown_kinds_are_reported_as_before(load, options):
    config, notes = load(**options)
    assert not notes
    with pytest.raises(ConfigError, match=r"optimizer\.type"):
        effective(config)


def test_a_child_config_keeps_it(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    child = plan_child(root / PUBLISHED, "x", None, {**SGD, "lr_config.policy": "cosine"})
    assert child.notes[:2] == (
        "optimizer.type=SGD drops optimizer.betas of AdamW",
        "lr_config.policy=cosine drops lr_config.power of poly",
    )
    written = load_config(child.write())
    assert "betas" not in written.optimizer
    assert written.optimizer.momentum == 0.9
    assert "power" not in written.lr_config
    assert "_delete_" not in written.optimizer


def test_half_a_cosine():
    schedule = Schedule(policy="cosine", min_lr=0.1)
    rates = [schedule.learning_rate(iteration, 1.0, 4) for iteration in range(5)]
    assert rates == pytest.approx([1, 0.55 + 0.45 * math.sqrt(0.5), 0.55, 0.55 - 0.45 * math.sqrt(0.5), 0.1])
    warm = Schedule(policy="cosine", warmup="linear", warmup_iters=2, warmup_ratio=0.5)
    assert warm.learning_rate(0, 1.0, 4) == 0.5
    assert warm.learning_rate(2, 1.0, 4) == pytest.approx(0.5)
