"""Copies of a network's weights in 16 bits, made once per update.

Under autocast every use of a weight casts it anew: a training step with four decoders launches over ten thousand such
casts. Here one launch refreshes all copies, the network computes with them, and their gradients are added to those of
the 32-bit weights, in 32 bits, after every backward pass: the same numbers as autocast's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# The layers whose products autocast computes in 16 bits. Norms keep their 32-bit weights.
CAST_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)

# Numbers whose gradients are added at a time.
AT_A_TIME = 16_000_000


class WeightCopies:
    """The 16-bit copies of the weights of linear layers and convolutions.

    Args:
        network: owns the 32-bit weights; copies of weights that take no gradient take none either.
        dtype: ``torch.bfloat16`` or ``torch.float16``.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        copies: dict[nn.Parameter, nn.Parameter] = {}
        self._slots: list[tuple[dict[str, nn.Parameter | None], str, nn.Parameter, nn.Parameter]] = []
        for module in network.modules():
            if not isinstance(module, CAST_LAYERS):
                continue
            for name, weight in module._parameters.items():
                if weight is None:
                    continue
                if weight not in copies:
                    copies[weight] = nn.Parameter(weight.detach().to(dtype), weight.requires_grad)
                self._slots.append((module._parameters, name, weight, copies[weight]))
        self._weights, self._copies = list(copies), list(copies.values())

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the weights anew, after they were updated."""
        torch._foreach_copy_(self._copies, self._weights)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Let the network compute with the copies; backward passes belong inside where activations are recomputed."""
        for parameters, name, _, copy in self._slots:
            parameters[name] = copy
        try:
            yield
        finally:
            for parameters, name, weight, _ in self._slots:
                parameters[name] = weight

    @torch.no_grad()
    def collect_gradients(self) -> None:
        """Add the gradients of the copies to those of the weights, and drop them."""
        reached = [(w, c) for w, c in zip(self._weights, self._copies, strict=True) if c.grad is not None]
        # some at a time, so that their 32-bit form stays small
        first, numbers = 0, 0
        for last, (weight, _) in enumerate(reached, 1):
            numbers += weight.numel()
            if numbers >= AT_A_TIME or last == len(reached):
                self._collect(reached[first:last])
                first, numbers = last, 0

    @staticmethod
    def _collect(reached: list[tuple[nn.Parameter, nn.Parameter]]) -> None:
        # in 32 bits first: the sums of lists of one format are one launch
        gradients = [torch.empty_like(weight) for weight, _ in reached]
        torch._foreach_copy_(gradients, [copy.grad for _, copy in reached])
        sums, added = [], []
        for (weight, copy), gradient in zip(reached, gradients, strict=True):
            copy.grad = None
            if weight.grad is None:
                weight.grad = gradient
            else:
                sums.append(weight.grad)
                added.append(gradient)
        if sums:
            torch._foreach_add_(sums, added)
