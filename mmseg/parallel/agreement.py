"""Agreement between processes before the first step: the first decides, all compare, one reports."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch.distributed as dist

from mmseg.errors import CMDAError, ConfigError
from mmseg.parallel.distributed import cpu_group, is_distributed

T = TypeVar("T")
# Differences named in a message.
SHOWN_DIFFERENCES = 3


def broadcast_from_first(decide: Callable[[], T]) -> T:
    """Run a function in the first process and broadcast its result: plain data or small objects of this project.

    Raises:
        CMDAError: in the first process, if the function raises it.
        SystemExit: in the others then, since the first prints why.
    """
    if not is_distributed():
        return decide()
    outcome: list = [None, CMDAError.status]
    error: CMDAError | None = None
    if dist.get_rank() == 0:
        try:
            outcome = [(decide(),), 0]
        except CMDAError as caught:
            error, outcome = caught, [None, caught.status]
    dist.broadcast_object_list(outcome, group=cpu_group())
    if error is not None:
        raise error
    if outcome[0] is None:
        raise SystemExit(outcome[1])
    return outcome[0][0]


def check_same_on_all_ranks(what: Mapping[str, object], remedy: str) -> None:
    """Check that all processes hold the same values.

    Args:
        what: name -> plain value in this process.
        remedy: what to do if they differ.

    Raises:
        ConfigError: in the first process, naming the process, its machine and the values.
        SystemExit: in the others then.
    """
    if not is_distributed():
        return
    found: list = [None] * dist.get_world_size()
    dist.all_gather_object(found, (socket.gethostname(), dict(what)), group=cpu_group())
    _, first = found[0]
    for rank, (host, values) in enumerate(found):
        unlike = [name for name in sorted(first.keys() | values.keys()) if first.get(name) != values.get(name)]
        if not unlike:
            continue
        if dist.get_rank() != 0:
            raise SystemExit(CMDAError.status)
        listed = "; ".join(f"{n}: {values.get(n)!r} instead of {first.get(n)!r}" for n in unlike[:SHOWN_DIFFERENCES])
        more = f"; and {len(unlike) - SHOWN_DIFFERENCES} more" if len(unlike) > SHOWN_DIFFERENCES else ""
        raise ConfigError(
            f"process {rank}, on {host}, has other values than the first process of the training: {listed}{more}; "
            f"{remedy}"
        )
