"""Checks that losses and gradients stay finite, without synchronising with the device in every iteration."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmseg.parallel.distributed import all_reduce_any

GRADIENT = "grad_norm"


@dataclass(frozen=True)
class NonFinite:
    """The first iteration (from 0) with losses or a gradient that are not finite, and their values."""

    iteration: int
    values: dict[str, float]

    def describe(self) -> str:
        """The values, those that are not finite first."""
        ordered = sorted(self.values.items(), key=lambda item: math.isfinite(item[1]))
        return ", ".join(f"{name} {value:.4g}" for name, value in ordered)


class FiniteWatch:
    """Keeps the losses and gradient norms since the last check, on the device.

    A gradient that is not finite must not reach the weights. A fused optimiser skips such an update on the device
    (``found_inf``, as gradient scalers use it). For other optimisers, and on the CPU, where nothing has to be waited
    for, :meth:`see` checks at once.

    Args:
        optimizer: the one that updates the weights.
        device: where the losses are.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.optimizer = optimizer
        self.can_wait = device.type != "cpu" and bool(optimizer.defaults.get("fused"))
        self._seen: list[tuple[int, list[str], Tensor]] = []

    def see(self, iteration: int, logs: dict[str, Tensor], parameters: Iterable[nn.Parameter]) -> NonFinite | None:
        """Record an iteration before its update.

        Args:
            logs: its losses, 0-d; the norm of the gradient is added as ``grad_norm``.

        Returns:
            What is not finite, if that is known without waiting.
        """
        logs[GRADIENT] = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        values = torch.stack([value.detach().float() for value in logs.values()])
        self._seen.append((iteration, list(logs), values))
        broken = all_reduce_any(~values.isfinite().all())
        if not self.can_wait:
            return self.found(anywhere=bool(broken))
        self.optimizer.found_inf = broken.float()  # type: ignore[attr-defined]  # torch does not declare it
        return None

    def found(self, anywhere: bool = False) -> NonFinite | None:
        """The first recorded iteration that was not finite; the records are cleared.

        Args:
            anywhere: whether the last recorded iteration was not finite in any of the processes.
        """
        seen, self._seen = self._seen, []
        if not seen:
            return None
        numbers = iter(torch.cat([values for _, _, values in seen]).tolist())
        for iteration, names, _ in seen:
            values = {name: next(numbers) for name in names}
            if anywhere or not all(map(math.isfinite, values.values())):
                return NonFinite(iteration, values)
        return None
