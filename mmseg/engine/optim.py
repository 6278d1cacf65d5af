"""AdamW with per-parameter settings, and the learning-rate schedule in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

OPTIMIZERS = {"AdamW": torch.optim.AdamW, "Adam": torch.optim.Adam, "SGD": torch.optim.SGD}
# those that update all weights in one launch on a GPU
FUSED = ("AdamW", "Adam")


def parameter_settings(name: str, cfg: Mapping[str, Any]) -> tuple[float, float]:
    """Learning rate and weight decay of a parameter.

    ``cfg.paramwise_cfg.custom_keys`` maps a piece of a name to ``lr_mult`` and ``decay_mult``; of the pieces that
    occur in the name, the longest counts (the alphabetically first of equally long ones).
    """
    custom = (cfg.get("paramwise_cfg") or {}).get("custom_keys", {})
    for key in sorted(sorted(custom), key=len, reverse=True):
        if key in name:
            multipliers = custom[key]
            return (
                cfg["lr"] * multipliers.get("lr_mult", 1.0),
                cfg.get("weight_decay", 0.0) * multipliers.get("decay_mult", 1.0),
            )
    return cfg["lr"], cfg.get("weight_decay", 0.0)


def build_optimizer(model: nn.Module, cfg: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Optimiser over the parameters of ``model`` that take gradients, grouped by equal settings."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(parameter_settings(name, cfg), []).append(parameter)
    options = {k: v for k, v in cfg.items() if k not in ("type", "paramwise_cfg", "lr", "weight_decay")}
    if "betas" in options:
        options["betas"] = tuple(options["betas"])
    if cfg["type"] in FUSED and all(p.is_cuda for parameters in groups.values() for p in parameters):
        options.setdefault("fused", True)
    return OPTIMIZERS[cfg["type"]](
        [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()], **options
    )


def learning_rate(iteration: int, base_lr: float, max_iters: int, cfg: Mapping[str, Any]) -> float:
    """Learning rate at an iteration (from 0): polynomial decay with linear warm-up.

    Args:
        cfg: ``power``, ``min_lr`` and, for a warm-up, ``warmup='linear'``, ``warmup_iters``, ``warmup_ratio``.
    """
    decay = (1 - iteration / max_iters) ** cfg.get("power", 1.0)
    regular = (base_lr - cfg.get("min_lr", 0.0)) * decay + cfg.get("min_lr", 0.0)
    if cfg.get("warmup") and iteration < cfg["warmup_iters"]:
        lacking = (1 - iteration / cfg["warmup_iters"]) * (1 - cfg["warmup_ratio"])
        return regular * (1 - lacking)
    return regular


def build_schedule(
    optimizer: torch.optim.Optimizer, cfg: Mapping[str, Any], max_iters: int, first: int = 0
) -> LambdaLR:
    """Schedule that follows :func:`learning_rate` for every group, from iteration ``first`` on."""

    def factor(base_lr: float) -> Callable[[int], float]:
        return lambda iteration: learning_rate(iteration, base_lr, max_iters, cfg) / base_lr

    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    factors = [factor(group["initial_lr"]) for group in optimizer.param_groups]
    return LambdaLR(optimizer, factors, last_epoch=first - 1)
