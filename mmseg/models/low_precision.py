"""Networks that multiply in 16 bits, with copies of their weights that are made once per update.

Autocast casts a weight at every use: a training step with four decoders launches over ten thousand such casts. Here one
launch refreshes all copies, the network computes with them, and after every backward pass their gradients are added to
those of the 32-bit weights, in 32 bits. The numbers are those of autocast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# The layers whose products autocast computes in 16 bits. Norms keep their 32-bit weights.
CAST_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)

# Package whose own layers may compute with their weights before the product, in 32 bits: they get no copies.
CAST_AT_EVERY_USE = "timm."

# precision -> number format of the networks' matrix products; None for that of their weights
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

# Elements whose gradients are added at a time.
AT_A_TIME = 16_000_000


class WeightCopies:
    """The 16-bit copies of the weights of linear layers and convolutions.

    Args:
        network: owns the 32-bit weights; copies of frozen weights are frozen too.
        dtype: ``torch.bfloat16`` or ``torch.float16``.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        copies: dict[nn.Parameter, nn.Parameter] = {}
        self._slots: list[tuple[dict[str, nn.Parameter | None], str, nn.Parameter, nn.Parameter]] = []
        for module in network.modules():
            if not isinstance(module, CAST_LAYERS) or type(module).__module__.startswith(CAST_AT_EVERY_USE):
                continue
            for name, weight in module._parameters.items():
                if weight is None:
                    continue
                if weight not in copies:
                    copies[weight] = nn.Parameter(weight.detach().to(dtype), weight.requires_grad)
                self._slots.append((module._parameters, name, weight, copies[weight]))
        self._weights: list[Tensor] = list(copies)
        self._copies: list[Tensor] = list(copies.values())

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the weights again, after an update."""
        torch._foreach_copy_(self._copies, self._weights)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Let the network compute with the copies; include backward passes that recompute activations."""
        for parameters, name, _, copy in self._slots:
            parameters[name] = copy
        try:
            yield
        finally:
            for parameters, name, weight, _ in self._slots:
                parameters[name] = weight

    @torch.no_grad()
    def collect_gradients(self) -> None:
        """Add the gradients of the copies to those of the weights, and clear them."""
        reached = [(w, c) for w, c in zip(self._weights, self._copies, strict=True) if c.grad is not None]
        # in groups, to keep the 32-bit gradients small
        first, numbers = 0, 0
        for last, (weight, _) in enumerate(reached, 1):
            numbers += weight.numel()
            if numbers >= AT_A_TIME or last == len(reached):
                self._collect(reached[first:last])
                first, numbers = last, 0

    @staticmethod
    def _collect(reached: list[tuple[Tensor, Tensor]]) -> None:
        # to 32 bits first: lists of one format are summed by a single launch
        gradients = [torch.empty_like(weight) for weight, _ in reached]
        torch._foreach_copy_(gradients, [copy.grad for _, copy in reached if copy.grad is not None])
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


class MixedPrecision:
    """Networks that multiply in a 16-bit format; everything else stays in 32 bits.

    Args:
        dtype: ``torch.bfloat16`` or ``torch.float16``; None leaves networks in the format of their weights.
        networks: networks that get copies of their weights; others are cast at every use.
    """

    def __init__(self, dtype: torch.dtype | None = None, networks: Iterable[nn.Module] = ()) -> None:
        self.dtype = dtype
        self._copies = {} if dtype is None else {network: WeightCopies(network, dtype) for network in networks}

    def refresh(self) -> None:
        """Copy all weights again, after an update."""
        for copies in self._copies.values():
            copies.refresh()

    @contextmanager
    def weights_of(self, network: nn.Module) -> Iterator[None]:
        """Context in which a network computes with its copies, if it has any; include backward passes."""
        copies = self._copies.get(network)
        if copies is None:
            yield
            return
        with copies.swapped_in():
            yield

    def autocast(self, device: torch.device) -> torch.autocast:
        """Context for the forward passes of the networks."""
        return torch.autocast(device.type, self.dtype, enabled=self.dtype is not None)

    def collect_gradients(self, network: nn.Module) -> None:
        """Move the gradients of a network's copies to its weights, after a backward pass."""
        if network in self._copies:
            self._copies[network].collect_gradients()
