"""Device, library versions and revision of a run."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import mmseg
from mmseg.errors import ConfigError
from mmseg.system.program import is_installed

PACKAGES = ("torch", "torchvision", "timm", "numpy", "h5py", "hdf5plugin", "pillow", "onedl-mmengine")


def choose_device() -> torch.device:
    """CUDA if available, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def named_device(name: str | torch.device | None) -> torch.device:
    """Device named ``cpu``, ``cuda`` or ``cuda:<number>``; None is for :func:`choose_device`.

    Raises:
        ConfigError: unknown name, or a GPU that does not exist.
    """
    if name is None:
        return choose_device()
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {str(name)!r} is unknown; choose cpu, cuda or cuda:<number>")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {str(name)!r}: torch finds {torch.cuda.device_count()} CUDA GPUs here; choose cpu")
    return device


def keep_freed_memory() -> bool:
    """Let the C library reuse the memory of freed tensors in this process, for training on a CPU.

    By default it returns large blocks to the system, which zeroes them page by page when they are allocated again: at
    the published size that takes a quarter of a step (benchmarks/step_speed.py).

    Returns:
        False if the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    trim_threshold, mmap_max = -1, -4  # numbers of the parameters in malloc.h
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, -1))


def git_revision() -> str | None:
    """Commit of this checkout; None outside of one, and for an installed package."""
    if is_installed():
        return None
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(mmseg.__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def environment(device: torch.device) -> dict[str, Any]:
    """Record of machine, device and versions, as plain data."""
    record: dict[str, Any] = {
        "cmda": mmseg.__version__,
        "git_rev": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": str(device),
        "packages": {},
    }
    for package in PACKAGES:
        try:
            record["packages"][package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            record["packages"][package] = None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        record["gpu"] = {
            "name": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return record
