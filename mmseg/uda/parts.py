"""The parts of a training step, and the interface of what runs them.

A part is a function from tensors to tensors that makes no decisions on the host: its result depends on its inputs, on
the weights, and on a *variant*, a hashable value that stays the same from iteration to iteration. A runner may
therefore call it, or record it once per variant and replay it (``mmseg.engine.graphs``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

from torch import Tensor

# Nested dictionaries of tensors; None stands for a missing tensor.
Tensors = Mapping[str, Any]
Part = Callable[[Tensors], dict[str, Any]]


class PartRunner(Protocol):
    """Runs the parts of a step."""

    def run(self, name: str, variant: Hashable, part: Part, inputs: Tensors) -> dict[str, Any]:
        """Outputs of a part; its gradients are added to those of the weights.

        Args:
            name: name of the part, for messages.
            variant: everything that the result depends on apart from inputs and weights.
            part: the function; calls with equal ``name`` and ``variant`` compute the same function.
            inputs: its argument.
        """
        ...

    def begin(self, name: str, variant: Hashable, part: Part, inputs: Tensors) -> Callable[[], dict[str, Any]]:
        """Start a part without gradients, concurrently with what follows; call the result to get its outputs."""
        ...


class PlainRunner:
    """Calls every part directly; a part that was begun runs when its outputs are requested."""

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
    """The tensors of nested dictionaries, in order."""
    if isinstance(tensors, Mapping):
        return [tensor for value in tensors.values() for tensor in flatten(value)]
    return [] if tensors is None else [tensors]
