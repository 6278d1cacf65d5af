"""Independent networks side by side on a GPU.

At the resolution of an encoder's later stages one kernel fills a fraction of a GPU. Inside a CUDA graph, networks that
do not depend on each other are therefore recorded on streams of their own, and run at the same time when the graph is
replayed. Outside of a recording they run one after another: there the host, not the GPU, sets the pace.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


class _Recording:
    """Whether networks are recorded side by side, and the stream of the second one."""

    side: torch.cuda.Stream | None = None


@contextmanager
def side_stream(stream: torch.cuda.Stream | None):
    """Inside, :func:`side_by_side` records its second function on ``stream``; None runs it after the first."""
    before, _Recording.side = _Recording.side, stream
    try:
        yield
    finally:
        _Recording.side = before


def side_by_side(first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """Results of two functions that do not depend on each other.

    Their backward passes run on the same streams as their forward passes. Random numbers are drawn in the order of the
    arguments either way.
    """
    side = _Recording.side
    if side is None or not torch.cuda.is_current_stream_capturing():
        return first(), second()
    here = torch.cuda.current_stream()
    side.wait_stream(here)
    one = first()
    with torch.cuda.stream(side):
        two = second()
    here.wait_stream(side)
    return one, two
