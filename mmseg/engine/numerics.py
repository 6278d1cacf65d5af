"""Number formats, compilation, and what trades time for memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mmseg.errors import ConfigError
from mmseg.models.backbones.mit import Block, MixVisionTransformer
from mmseg.models.decode_heads.daformer_head import SeparableASPP
from mmseg.models.resnet_generator import ResnetGenerator
from mmseg.parallel.distributed import is_distributed
from mmseg.uda.cmda import DACS

# precision -> number format of the networks' matrix products, None for that of the weights
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def set_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Let the device compute in a precision.

    ``fp32`` multiplies in 32 bits everywhere; ``tf32`` lets CUDA round factors to 10 bits of mantissa; ``bf16`` and
    ``fp16`` run the networks under autocast, the rest of the step in 32 bits.

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
    """Refuse a precision that a device does not have.

    Raises:
        ConfigError: no such precision, or the device does not have it.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if precision in ("tf32", "fp16") and device.type != "cuda":
        raise ConfigError(f"precision={precision!r} needs a CUDA GPU; set 'fp32' or 'bf16'")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError(f"{torch.cuda.get_device_name(device)} has no bf16; set precision='fp16' or 'fp32'")


def check_numerics(cfg: Mapping[str, Any], device: torch.device) -> None:
    """Refuse what :func:`set_numerics` cannot apply, before anything is built.

    Raises:
        ConfigError: ``precision`` or ``sync_bn`` that the device does not have.
    """
    check_precision(cfg.get("precision") or "fp32", device)
    if cfg.get("sync_bn") and is_distributed() and device.type != "cuda":
        raise ConfigError("sync_bn=True needs CUDA GPUs; set it to False")


def make_scaler(precision: str | None) -> torch.amp.GradScaler | None:
    """Scaler that keeps gradients within the range of ``fp16``; None for other precisions."""
    return torch.amp.GradScaler("cuda") if precision == "fp16" else None


def set_determinism(cfg: Mapping[str, Any]) -> None:
    """Apply the keys ``deterministic`` and ``cudnn_benchmark``.

    On a CPU two runs are equal anyway, with the same number of threads. On CUDA ``deterministic`` takes the kernels
    whose sums have one order, where there are such, and warns of the others; it costs time.
    """
    deterministic = bool(cfg.get("deterministic", False))
    if deterministic:
        # cuBLAS reads it when it is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = bool(cfg.get("cudnn_benchmark", False)) and not deterministic


def is_spacious(cfg: Mapping[str, Any]) -> bool:
    """Whether memory may be traded for time: a config that saves memory elsewhere saves it here too."""
    return not (cfg.get("gradient_checkpointing") or cfg.get("micro_batch"))


def set_numerics(method: DACS, cfg: Mapping[str, Any], device: torch.device) -> None:
    """Apply the keys ``precision``, ``compile``, ``gradient_checkpointing``, ``micro_batch`` and ``sync_bn``.

    Raises:
        ConfigError: a value that cannot be used.
    """
    dtype = set_precision(cfg.get("precision") or "fp32", device)
    method.micro_batch = cfg.get("micro_batch")
    for module in method.model.modules():
        if isinstance(module, MixVisionTransformer):
            module.gradient_checkpointing = bool(cfg.get("gradient_checkpointing", False))
    check_numerics(cfg, device)
    if cfg.get("sync_bn") and is_distributed():
        method.model = nn.SyncBatchNorm.convert_sync_batchnorm(method.model)
        method.ema_model = nn.SyncBatchNorm.convert_sync_batchnorm(method.ema_model)
    if cfg.get("compile", False):
        compile_networks(method)
    method.multiply_in(dtype, is_spacious(cfg))


def compile_networks(networks: nn.Module) -> None:
    """Compile the networks of a module in place, block by block; names in the state dict stay as they are.

    Blocks of one stage share what is compiled for them: a whole encoder at once takes minutes, the blocks seconds.
    """
    # every stage, batch size and way of use (student, teacher) of a block is compiled anew
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    for module in networks.modules():
        if isinstance(module, (Block, SeparableASPP, ResnetGenerator)):
            module.compile(dynamic=False)
