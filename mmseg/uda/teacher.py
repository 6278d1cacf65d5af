"""The teacher: an exponential moving average of the student (Tarvainen & Valpola, NeurIPS 2017)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from mmseg.models.backbones.timm_encoder import TimmEncoder
from mmseg.models.stochastic_depth import DropPath


def make_teacher(student: nn.Module) -> nn.Module:
    """Frozen copy of the student."""
    return copy.deepcopy(student).requires_grad_(False)


def without_noise(teacher: nn.Module) -> nn.Module:
    """Put the teacher into train mode with dropout and drop path switched off.

    Its batch norm thus uses the statistics of the batch and keeps running averages of its own, as in the
    published training.
    """
    teacher.train()
    for module in teacher.modules():
        if isinstance(module, (_DropoutNd, DropPath)):
            module.eval()
        elif isinstance(module, TimmEncoder):
            module.without_noise()
    return teacher


def momentum(iteration: int, alpha: float) -> float:
    """Share of the old teacher kept at an iteration; 0 at the first."""
    return min(1 - 1 / (iteration + 1), alpha)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, iteration: int, alpha: float) -> None:
    """Move the teacher's parameters toward the student's; buffers stay the teacher's own."""
    keep = momentum(iteration, alpha)
    old: list[Tensor] = list(teacher.parameters())
    new: list[Tensor] = list(student.parameters())
    if keep == 0:
        torch._foreach_copy_(old, new)
        return
    torch._foreach_mul_(old, keep)
    torch._foreach_add_(old, new, alpha=1 - keep)
