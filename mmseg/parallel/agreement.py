"""What the processes of a training agree upon before its first step: the first decides, all compare, one speaks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

from mmseg.errors import CMDAError, ConfigError
from mmseg.io.files import content_mark
from mmseg.parallel.distributed import cpu_group, is_distributed

T = TypeVar("T")
SHOWN_DIFFERENCES = 3


def broadcast_from_first(decide: Callable[[], T]) -> T:
    """What the first process decides, in all of them; the value is plain data or small objects of this project.

    Raises:
        CMDAError: in the first process, where it cannot decide.
        SystemExit: in the others then, since the first says why.
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
    """Make sure that all processes hold the same.

    Args:
        what: name -> plain value, of this process.
        remedy: what to do where they differ.

    Raises:
        ConfigError: in the first process, naming process, machine and values.
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
        listed = "; ".join(f"{n}: {first.get(n)!r} there {values.get(n)!r}" for n in unlike[:SHOWN_DIFFERENCES])
        more = f"; and {len(unlike) - SHOWN_DIFFERENCES} more" if len(unlike) > SHOWN_DIFFERENCES else ""
        raise ConfigError(
            f"process {rank}, on {host}, sees other values than the first process of the training: {listed}{more}; "
            f"{remedy}"
        )


def file_digests(paths: Iterable[str | Path | None]) -> dict[str, str]:
    """Path -> digest of those that are files, for a comparison between machines."""
    return {str(path): content_mark(path) for path in paths if path and Path(path).is_file()}
