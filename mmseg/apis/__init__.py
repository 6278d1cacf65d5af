"""What scripts and users call. Each name is imported on first use, so that ``--help`` does not wait for torch."""

from importlib import import_module
from typing import Any

_HOMES = {
    "train": "mmseg.apis.training",
    "test": "mmseg.apis.testing",
    "test_work_dir": "mmseg.apis.testing",
    "write_child_config": "mmseg.apis.launching",
}
__all__ = ["test", "test_work_dir", "train", "write_child_config"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
