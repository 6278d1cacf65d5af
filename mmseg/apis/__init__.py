"""What scripts and users call. Each name is imported on first use, so that ``--help`` does not wait for torch."""

from importlib import import_module
from typing import Any

_HOMES = {
    "train": "mmseg.apis.training",
    "test": "mmseg.apis.testing",
    "test_work_dir": "mmseg.apis.testing",
    "plan_child": "mmseg.apis.launching",
    "write_child_config": "mmseg.apis.launching",
    "named_experiments": "mmseg.apis.experiments",
    "plan_runs": "mmseg.apis.experiments",
    "run_all": "mmseg.apis.experiments",
    "train_style_transfer": "mmseg.apis.style_transfer",
    "evaluate_generator": "mmseg.apis.style_transfer",
    "compare": "mmseg.apis.comparison",
    "read_run": "mmseg.apis.comparison",
    "init_model": "mmseg.apis.inference",
    "inference_model": "mmseg.apis.inference",
    "infer": "mmseg.apis.inference_files",
}
__all__ = [
    "compare",
    "evaluate_generator",
    "infer",
    "inference_model",
    "init_model",
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
