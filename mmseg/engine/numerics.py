"""Number formats, determinism, and how the training step computes."""

from __future__ import annotations

import os

import torch

from mmseg.config.run import Numerics
from mmseg.errors import ConfigError
from mmseg.models.low_precision import PRECISIONS
from mmseg.parallel.distributed import is_distributed
from mmseg.uda.cmda import DACS


def set_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Set the precision of matrix products.

    ``fp32`` multiplies in 32 bits everywhere; ``tf32`` lets CUDA round factors to 10 bits of mantissa; ``bf16`` and
    ``fp16`` run the networks under autocast and the rest of the step in 32 bits.

    Returns:
        Number format for autocast, or None.

    Raises:
        ConfigError: see :func:`check_precision`.
    """
    check_precision(precision, device)
    rounded = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = rounded
    torch.backends.cudnn.allow_tf32 = rounded
    return PRECISIONS[precision]


def check_precision(precision: str, device: torch.device) -> None:
    """Check that a device supports a precision.

    Raises:
        ConfigError: unknown or unsupported precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if precision in ("tf32", "fp16") and device.type != "cuda":
        raise ConfigError(f"precision={precision!r} needs a CUDA GPU; set 'fp32' or 'bf16'")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError(f"{torch.cuda.get_device_name(device)} does not support bf16; set precision='fp16' or 'fp32'")


def check_numerics(numerics: Numerics, device: torch.device) -> None:
    """Check that a device supports a precision and the batch norm over processes, before anything is built.

    Raises:
        ConfigError: naming the key.
    """
    check_precision(numerics.precision, device)
    if numerics.sync_bn and is_distributed() and device.type != "cuda":
        raise ConfigError("sync_bn=True needs CUDA GPUs; set it to False")


def make_scaler(precision: str | None) -> torch.amp.GradScaler | None:
    """Scaler that keeps gradients within the range of ``fp16``; None for other precisions."""
    return torch.amp.GradScaler("cuda") if precision == "fp16" else None


def set_determinism(numerics: Numerics) -> None:
    """Apply the keys ``deterministic`` and ``cudnn_benchmark``.

    CPU runs with the same number of threads are reproducible anyway. On CUDA, ``deterministic`` selects deterministic
    kernels where they exist and warns about the others; it is slower.
    """
    if numerics.deterministic:
        # read by cuBLAS at its first use
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(numerics.deterministic, warn_only=True)
    torch.backends.cudnn.deterministic = numerics.deterministic
    torch.backends.cudnn.benchmark = numerics.cudnn_benchmark and not numerics.deterministic


def set_numerics(method: DACS, numerics: Numerics, device: torch.device) -> None:
    """Set how a training method on its device computes.

    Raises:
        ConfigError: see :func:`check_numerics`.
    """
    check_numerics(numerics, device)
    set_precision(numerics.precision, device)
    method.configure(numerics)
