"""Functions for scripts and users. Each name is imported on first use, so that ``--help`` does not load torch."""

from importlib import import_module
from typing import Any

_HOMES = {
    "train": "mmseg.apis.training",
    "test": "mmseg.apis.testing",
    "test_work_dir": "mmseg.apis.testing",
    "plan_child": "mmseg.launcher.child",
    "write_child_config": "mmseg.launcher.child",
    "named_experiments": "mmseg.launcher.experiments",
    "plan_runs": "mmseg.launcher.experiments",
    "run_all": "mmseg.launcher.running",
    "train_style_transfer": "mmseg.style_transfer.training",
    "evaluate_generator": "mmseg.style_transfer.training",
    "compare": "mmseg.report.comparison",
    "read_run": "mmseg.report.comparison",
    "load": "mmseg.inference.loaded",
    "init_model": "mmseg.inference.model",
    "inference_model": "mmseg.inference.model",
    "infer": "mmseg.inference.files",
}
__all__ = [
    "compare",
    "evaluate_generator",
    "infer",
    "inference_model",
    "init_model",
    "load",
    "named_experiments",
    "plan_child",
    "plan_runs",
    "read_run",
    "run_all",
    "test",
    "test_work_dir",
    "train",
    "train_style_transfer",
    "write_child_config",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
