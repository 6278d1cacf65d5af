"""Watching that losses and gradients stay finite, without waiting for the device in every iteration."""

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
    """The first iteration (from 0) whose losses or gradient were not finite, and their values."""

    iteration: int
    values: dict[str, float]

    def describe(self) -> str:
        """What is not finite, then the rest."""
        ordered = sorted(self.values.items(), key=lambda item: math.isfinite(item[1]))
        return ", ".join(f"{name} {value:.4g}" for name, value in ordered)


class FiniteWatch:
    """Keeps the losses and gradient norms of the iterations since it was last asked, on the device.

    An update by a gradient that is not finite must not reach the weights. A fused optimiser is told on the device to
    leave such an update out (``found_inf``, as gradient scalers tell it); for others, and on the CPU, where nothing has
    to be waited for, :meth:`see` has the answer at once.

    Args:
        optimizer: the one that updates the weights.
        device: where the losses are.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.optimizer = optimizer
        self.can_wait = device.type != "cpu" and bool(optimizer.defaults.get("fused"))
        self._seen: list[tuple[int, list[str], Tensor]] = []

    def see(self, iteration: int, logs: dict[str, Tensor], parameters: Iterable[nn.Parameter]) -> NonFinite | None:
        """Note an iteration before its update.

        Args:
            logs: its losses, 0-d; the norm of the gradient joins them as ``grad_norm``.

        Returns:
            What is wrong, where that is known without waiting.
        """
        logs[GRADIENT] = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        values = torch.stack([value.detach().float() for value in logs.values()])
        self._seen.append((iteration, list(logs), values))
        broken = all_reduce_any(~values.isfinite().all())
        if not self.can_wait:
            return self.found(anywhere=bool(broken))
        self.optimizer.found_inf = broken.float()
        return None

    def found(self, anywhere: bool = False) -> NonFinite | None:
        """The first noted iteration that was not finite; those before are forgotten.

        Args:
            anywhere: the last noted iteration was not finite in one of the processes, be it another.
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
