"""Loggers beside the log file, with stand-ins for the packages that are optional."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from mmseg.engine.loggers import check_hooks, open_loggers
from mmseg.engine.run_log import RunLog
from mmseg.errors import ConfigError

PICTURE = np.zeros((2, 3, 3), np.uint8)


@pytest.fixture
def services(monkeypatch) -> list:
    """What the services are told."""
    told = []
    run = SimpleNamespace(
        id="a1b2", log=lambda values, step: told.append((values, step)), finish=lambda: told.append("finish")
    )
    wandb = SimpleNamespace(init=lambda **options: told.append(options) or run, Image=lambda picture: picture.shape)
    mlflow = SimpleNamespace(
        set_experiment=lambda name: told.append(name),
        start_run=lambda run_name: told.append(run_name),
        log_metrics=lambda values, step: told.append((values, step)),
        log_image=lambda picture, name: told.append((picture.shape, name)),
        end_run=lambda: told.append("end"),
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    return told


def test_wandb(tmp_path, services):
    hooks = [{"type": "TextLoggerHook", "by_epoch": False}]
    hooks.append({"type": "WandbLoggerHook", "init_kwargs": {"project": "night"}})
    check_hooks(hooks)
    log = RunLog(tmp_path, "run", Console(quiet=True), loggers=open_loggers(hooks, tmp_path, "run", {"seed": 1}))
    log.record("train", 3, {"loss": 0.5, "broken": float("nan")})
    log.picture("step", 3, PICTURE)
    log.close()
    assert services[0] == {"name": "run", "dir": str(tmp_path), "config": {"seed": 1}, "project": "night"}
    assert services[1:] == [({"train/loss": 0.5}, 3), ({"step": (2, 3, 3)}, 3), "finish"]
    open_loggers(hooks, tmp_path, "run", {})
    assert services[-1]["id"] == "a1b2"  # a resumed training goes on with its run


def test_mlflow(tmp_path, services):
    hooks = [{"type": "MlflowLoggerHook", "exp_name": "night"}]
    log = RunLog(tmp_path, "run", Console(quiet=True), loggers=open_loggers(hooks, tmp_path, "run", {}))
    log.record("val", 4, {"mIoU": 0.25})
    log.picture("step", 4, PICTURE)
    log.close()
    assert services == ["night", "run", ({"val/mIoU": 0.25}, 4), ((2, 3, 3), "step/iter_000004.png"), "end"]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ({"type": "WandbLoggerHok"}, "'WandbLoggerHok' is unknown, did you mean 'WandbLoggerHook'"),
        ({"type": "WandbLoggerHook", "init_kwarg": {}}, "no setting 'init_kwarg', did you mean 'init_kwargs'"),
        ("TextLoggerHook2", "'TextLoggerHook2' is unknown"),
    ],
)
def test_bad_hooks(services, hook, message):
    with pytest.raises(ConfigError, match=message):
        check_hooks([hook])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="WandbLoggerHook needs the package wandb: pip install wandb"):
        check_hooks([{"type": "WandbLoggerHook"}])
