"""Distributed training: several processes train one network, each on its own GPU or cores.

W processes with a batch of B train like one process with a batch of W x B: they get the samples and draws of that
batch, reduce what the method computes over a whole batch, and average their gradients once per iteration. In a single
process, every function here is a no-op.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmseg.errors import CheckpointError, CMDAError, ConfigError
from mmseg.parallel.peers import Peers, peer_failure
from mmseg.parallel.rendezvous import job_port, rendezvous
from mmseg.system.signals import StopNow, end_with_parent, signals_end

# launcher -> environment variables with rank, world size and local rank
VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
}
# Gradients are reduced in buckets of this many elements, to keep their copies small.
BUCKET = 25_000_000
# Timeout of waits for the first process, which alone evaluates and writes checkpoints. NCCL itself waits ten minutes.
TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class ProcessRank:
    """Rank of this process and the number of processes that train together."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0


SINGLE_PROCESS = ProcessRank()


class _HasProcess(Protocol):
    process: ProcessRank


P = ParamSpec("P")
Holder = TypeVar("Holder", bound=_HasProcess)
# Group of all processes for tensors on the CPU; the default one may only reduce those on GPUs.
_on_cpu: dist.ProcessGroup | None = None


def _numbers(launcher: str) -> tuple[int, int, int]:
    names = VARIABLES[launcher]
    missing = [name for name in names if not os.environ.get(name, "").isdigit()]
    if missing:
        starter = {"pytorch": "torchrun --nproc_per_node N SCRIPT ...", "slurm": "srun python SCRIPT ..."}[launcher]
        raise ConfigError(
            f"--launcher {launcher}: {', '.join(missing)} is not set in the environment; start it with {starter}"
        )
    rank, world, local = (int(os.environ[name]) for name in names)
    return rank, world, local


def gpu_of(launcher: str, local: int, gpus: int) -> int:
    """Index of the GPU that a process uses.

    Args:
        launcher: ``pytorch`` or ``slurm``.
        local: local rank of the process.
        gpus: number of GPUs that the process sees.

    Raises:
        ConfigError: there is none left for it.
    """
    if launcher == "slurm" and gpus == 1:
        # srun --gpus-per-task=1 shows each process only its own GPU, as number 0
        return 0
    if local >= gpus:
        raise ConfigError(
            f"process {local} of this machine has no GPU, there are {gpus}: start as many processes as GPUs"
        )
    return local


@contextmanager
def process_group(launcher: str) -> Iterator[ProcessRank]:
    """Join the processes that a launcher started, and leave them at the end. Nested calls do nothing.

    Args:
        launcher: ``none`` for one process, ``pytorch`` for those of torchrun, ``slurm`` for those of srun.

    Raises:
        ConfigError: the launcher did not start this process, or there are fewer GPUs than processes on the machine.
    """
    if dist.is_initialized():
        yield ProcessRank(dist.get_rank(), dist.get_world_size())
        return
    if launcher == "none":
        yield SINGLE_PROCESS
        return
    rank, world, local = _numbers(launcher)
    if launcher == "pytorch":
        # A killed torchrun cannot end its processes.
        end_with_parent(signal.SIGTERM, os.getppid())
    if torch.cuda.is_available():
        torch.cuda.set_device(gpu_of(launcher, local, torch.cuda.device_count()))
    if launcher == "slurm":
        os.environ.setdefault("MASTER_ADDR", _first_host(os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")))
        os.environ.setdefault("MASTER_PORT", str(job_port()))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    global _on_cpu
    with signals_end("it waited for the other processes"):
        store = rendezvous(launcher, rank, world, TIMEOUT)
        timeout = None if backend == "nccl" else TIMEOUT
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
        if backend == "gloo":
            _on_cpu = dist.group.WORLD
        else:
            # Not the number that torch returns to processes outside of a group.
            _on_cpu = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=TIMEOUT))
        peers = Peers(rank, world, gather)
    try:
        with peers:
            try:
                yield ProcessRank(rank, world)
                # A process that left earlier would look like a killed one.
                barrier()
            except BaseException as error:
                cause = peer_failure(error)
                peers.notify(cause or error)
                if cause is not None:
                    raise cause from error
                raise
    finally:
        _on_cpu = None
        dist.destroy_process_group()


def _first_host(nodes: str) -> str:
    """First host of a SLURM list such as ``node[07-09,12]`` or ``a,b``."""
    if "[" not in nodes.split(",")[0]:
        return nodes.split(",")[0]
    prefix, rest = nodes.split("[", 1)
    return prefix + rest.split("]")[0].split(",")[0].split("-")[0]


def cpu_group() -> dist.ProcessGroup | None:
    """Group of all processes for data on the CPU; None in a single process."""
    return _on_cpu


def is_distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_reduce_mean(value: Tensor) -> Tensor:
    """Mean of a tensor over the processes."""
    if not is_distributed():
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def all_reduce_any(value: Tensor) -> Tensor:
    """Elementwise or of a bool tensor over the processes."""
    if not is_distributed():
        return value
    counts = value.to(torch.uint8)
    dist.all_reduce(counts, op=dist.ReduceOp.MAX)
    return counts.bool()


def any_rank(value: bool) -> bool:
    """Whether a condition holds in any of the processes; they exchange it without synchronising with a device."""
    if not is_distributed():
        return value
    flag = torch.tensor([value], dtype=torch.uint8)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=_on_cpu)
    return bool(flag.item())


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over the processes; a parameter must have one in all of them or in none."""
    if is_distributed():
        _average([p.grad for p in parameters if p.grad is not None])


def average_buffers(*modules: nn.Module) -> None:
    """Replace floating-point buffers (running statistics) by their mean over the processes."""
    if is_distributed():
        _average([b for module in modules for b in module.buffers() if b.is_floating_point()])


def _average(tensors: list[Tensor]) -> None:
    bucket: list[Tensor] = []
    numbers = 0
    for tensor in tensors:
        bucket.append(tensor)
        numbers += tensor.numel()
        if numbers >= BUCKET:
            _average_bucket(bucket)
            bucket, numbers = [], 0
    if bucket:
        _average_bucket(bucket)


def _average_bucket(tensors: list[Tensor]) -> None:
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])


def barrier() -> None:
    """Wait until all processes are here, without waiting for GPUs."""
    if is_distributed():
        dist.barrier(group=_on_cpu)


def gather(value: Any) -> list[Any]:
    """Gather an object of each process, by rank, in every process."""
    if not is_distributed():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value, group=_on_cpu)
    return values


def rank_zero_only(method: Callable[Concatenate[Holder, P], None]) -> Callable[Concatenate[Holder, P], None]:
    """Method that does nothing in processes other than the first. Its object has ``process``, a :class:`ProcessRank`.

    The others do not wait for it; see :func:`run_on_all_ranks`.
    """

    @wraps(method)
    def run(self: Holder, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.process.is_main:
            method(self, *args, **kwargs)

    return run


def run_on_all_ranks(act: Callable[[], None]) -> None:
    """Run a function in every process and wait for all of them; if it fails in one, it fails in all.

    Raises:
        CheckpointError: if a process raised it.
        CMDAError: any other error of another process.
        StopNow: in a process that received a signal meanwhile; the others continue, and have to ask.
    """
    if not is_distributed():
        act()
        return
    error: BaseException | None = None
    try:
        act()
    except (Exception, StopNow) as caught:
        error = caught
    reports = gather(None if error is None or isinstance(error, StopNow) else _as_text(error))
    if error is not None:
        raise error
    for rank, report in enumerate(reports):
        if report is not None:
            is_checkpoint, text = report
            raise (CheckpointError if is_checkpoint else CMDAError)(f"process {rank} of this training stopped: {text}")


def _as_text(error: BaseException) -> tuple[bool, str]:
    return isinstance(error, CheckpointError), str(error) or type(error).__name__
