"""The parts of a training step, and who runs them.

A part is a function from tensors to tensors without decisions on the host: what it computes depends on its inputs, on
the weights, and on a *variant*, a hashable value that stays the same from iteration to iteration. A runner may
therefore run it as it is, or record it once for each variant and replay it (``mmseg.engine.graphs``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

from torch import Tensor

# Nested dictionaries of tensors; None stands for a tensor that is left out.
Tensors = Mapping[str, Any]
Part = Callable[[Tensors], dict[str, Any]]


class PartRunner(Protocol):
    """Runs the parts of a step."""

    def run(self, name: str, variant: Hashable, part: Part, inputs: Tensors) -> dict[str, Any]:
        """Outputs of a part; its gradients are added to those of the weights.

        Args:
            name: of the part, for messages.
            variant: everything that the part depends on besides its inputs and the weights.
            part: the function; calls with equal ``name`` and ``variant`` do the same.
            inputs: its argument.
        """
        ...

    def begin(self, name: str, variant: Hashable, part: Part, inputs: Tensors) -> Callable[[], dict[str, Any]]:
        """Start a part that takes no gradient, beside what follows; the result is called for its outputs."""
        ...


class PlainRunner:
    """Runs every part as it is, at once; what was begun when it is asked for."""

    def run(self, name: str, variant: Hashable, part: Part, inputs: Tensors) -> dict[str, Any]:
        return part(inputs)

    def begin(self, name: str, variant: Hashable, part: Part, inputs: Tensors) -> Callable[[], dict[str, Any]]:
        return lambda: part(inputs)


def map_tensors(function: Callable[[Tensor], Any], tensors: Any) -> Any:
    """Apply a function to every tensor of nested dictionaries."""
    if isinstance(tensors, Mapping):
        return {name: map_tensors(function, value) for name, value in tensors.items()}
    return None if tensors is None else function(tensors)


def flatten(tensors: Any) -> list[Tensor]:
    """The tensors of nested dictionaries, in their order."""
    if isinstance(tensors, Mapping):
        return [tensor for value in tensors.values() for tensor in flatten(value)]
    return [] if tensors is None else [tensors]
