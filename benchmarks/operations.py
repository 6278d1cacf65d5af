"""Count the arithmetic and the bytes of operations as they run, by kind of operation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

# Kind -> pattern in lower-case names of operations; the first match counts
KINDS = {
    "optimiser and teacher": r"optimizer|_foreach_|_fused_|lerp",
    "attention": r"scaled_?dot_?product|flash_?attention|efficient_?attention",
    "convolutions": r"conv(olution|\d)",
    "matrix products": r"(?<![a-z])(t?mm|addmm|bmm|baddbmm|linear|matmul)(?![a-z])|(mm|linear)backward",
    "normalisation": r"(layer|batch|instance)_?norm",
    "resizing": r"upsample|interpolate|grid_?sampl|pool",
    "classes and losses": r"soft_?max|nll_?loss|cross_?entropy",
}
REST = "element by element"
MULTIPLYING = {"attention", "convolutions", "matrix products"}
# Operations that touch no element, and those that do not read their output
WITHOUT_WORK = {"device", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}
WRITE_ONLY = {"copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "random_"}


@dataclass
class Work:
    """Work of some operations.

    Attributes:
        flop: arithmetic of matrix products and convolutions, two per multiply-add; others are not counted.
        bytes: read and written by all operations. A compiler that fuses operations needs fewer.
    """

    flop: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flop + other.flop, self.bytes + other.bytes)


def kind_of(names: Iterable[str]) -> str:
    """Kind of an operation.

    Args:
        names: of its callers, outermost first, then its own; a copy within a convolution counts as convolution.
    """
    for name in names:
        for kind, pattern in KINDS.items():
            if re.search(pattern, name.lower()):
                return kind
    return REST


class WorkCounter(TorchDispatchMode):
    """Counts the work of all operations within the context, including backward passes, by kind.

    Also works with tensors without storage.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kinds: defaultdict[str, Work] = defaultdict(Work)

    @property
    def total(self) -> Work:
        """Work of all kinds."""
        return sum(self.kinds.values(), Work())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = kind_of([func.__name__])
        if kind in MULTIPLYING and func.overloadpacket not in flop_registry:
            # In inference mode, composite operations arrive undecomposed: aten.linear instead of aten.addmm.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if not (func.is_view or func.__name__.split(".")[0] in WITHOUT_WORK):
            self.kinds[kind] += Work(_flop(func, args, kwargs, result), _bytes(func, args, kwargs, result))
        return result


def _flop(func: Any, args: Any, kwargs: Any, result: Any) -> float:
    packet = func.overloadpacket
    if packet is torch.ops.aten.convolution_backward:
        return _convolution_backward_flop(*args)
    formula = flop_registry.get(packet)
    return formula(*args, **kwargs, out_val=result) if formula else 0.0


def _convolution_backward_flop(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    wanted: list[bool],
) -> float:
    """One product per required gradient, of input and weight. (torch's own count ignores groups.)"""
    positions = inputs if transposed else gradient
    # The weight is (out, in per group, ...); for a transposed convolution (in, out per group, ...).
    one = 2.0 * len(positions) * prod(positions.shape[2:]) * weight.numel()
    return one * sum(wanted[:2])


def _bytes(func: Any, args: Any, kwargs: Any, result: Any) -> float:
    changed = [
        value
        for value, argument in zip(args, func._schema.arguments, strict=False)
        if argument.alias_info and argument.alias_info.is_write
    ]
    read = args[1:] if func.__name__.split(".")[0] in WRITE_ONLY else args
    return sum(_held(tensor) for values in ((read, kwargs), (changed, result)) for tensor in _tensors(values))


def _tensors(values: Any) -> list[Tensor]:
    return list({id(leaf): leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)}.values())


def _held(tensor: Tensor) -> float:
    """Bytes of the elements that a tensor stores; a broadcast dimension counts once."""
    sides = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or not size)
    return float(prod(sides) * tensor.element_size())
