"""Independent networks side by side on a GPU.

At the resolution of an encoder's later stages a kernel uses only part of a GPU. Inside a CUDA graph, networks that
do not depend on each other are therefore recorded on separate streams, and run concurrently when the graph is replayed.
Outside a recording they run one after another, since the host, not the GPU, limits the speed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


class _Recording:
    """The stream of the second of two networks recorded side by side; None if they are not."""

    side: torch.cuda.Stream | None = None


@contextmanager
def side_stream(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Context in which :func:`side_by_side` records its second function on ``stream``; with None it runs last."""
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
