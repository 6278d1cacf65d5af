"""The optimiser with settings per parameter, and the learning-rate schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mmseg.config.run import Optimizer, Schedule

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "AdamW": torch.optim.AdamW,
    "Adam": torch.optim.Adam,
    "SGD": torch.optim.SGD,
}
# Optimisers that update all weights with one kernel launch on a GPU.
FUSED = ("AdamW", "Adam")


def build_optimizer(model: nn.Module, settings: Optimizer, **options: Any) -> torch.optim.Optimizer:
    """Optimiser over the trainable parameters of a model, grouped by equal settings.

    Args:
        options: further arguments of the optimiser, such as ``foreach``.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(settings.of_parameter(name), []).append(parameter)
    options = {**settings.options(), **options}
    if "betas" in options:
        options["betas"] = tuple(options["betas"])
    if settings.type in FUSED and all(p.is_cuda for parameters in groups.values() for p in parameters):
        options.setdefault("fused", True)
    return OPTIMIZERS[settings.type](
        [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()], **options
    )


def build_schedule(optimizer: torch.optim.Optimizer, settings: Schedule, max_iters: int, first: int = 0) -> LambdaLR:
    """Schedule that follows :meth:`Schedule.learning_rate` for every group, from iteration ``first``."""

    def factor(base_lr: float) -> Callable[[int], float]:
        return lambda iteration: settings.learning_rate(iteration, base_lr, max_iters) / base_lr

    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    factors = [factor(group["initial_lr"]) for group in optimizer.param_groups]
    return LambdaLR(optimizer, factors, last_epoch=first - 1)
