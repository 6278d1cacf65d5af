"""How the processes of a training find each other, and no others.

The first process listens at an address and a port. Two jobs on one machine use different ports, derived from their job
ids. In case of a collision, every process first compares a token of its job with that of the first process, and exits
with a message if they differ.
"""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Mapping
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import PrefixStore, Store

from mmseg.errors import ConfigError
from mmseg.io.files import digest

# Ports above those of services and below ephemeral ones (from 32768 on Linux).
FIRST_PORT, PORTS = 15000, 17000
# Environment variables that differ between jobs and are equal in all processes of one.
JOB_VARIABLES = {
    "slurm": (
        "SLURM_CLUSTER_NAME",
        "SLURM_JOB_ID",
        "SLURM_STEP_ID",
        "SLURM_RESTART_COUNT",
        "SLURM_SRUN_COMM_HOST",
        "SLURM_SRUN_COMM_PORT",
        "SLURM_STEP_NODELIST",
    ),
    "pytorch": ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT"),
}
# Timeout of the start: programs may be loaded over slow networks.
START_TIMEOUT = timedelta(minutes=10)
_TOKEN, _RANK = "cmda/token", "cmda/process"


def job_port(environment: Mapping[str, str] = os.environ) -> int:
    """Port of a SLURM job step, between 15000 and 31999; other steps and jobs usually get different ones."""
    names = [name for name in JOB_VARIABLES["slurm"] if name != "SLURM_STEP_NODELIST"]
    return FIRST_PORT + zlib.crc32(_listed(names, environment).encode()) % PORTS


def job_token(launcher: str, world: int, environment: Mapping[str, str] = os.environ) -> str:
    """Token of a job, equal in all of its processes and different in other jobs."""
    return digest(f"{launcher} {world}\n{_listed(JOB_VARIABLES[launcher], environment)}")


def _listed(names: tuple[str, ...] | list[str], environment: Mapping[str, str]) -> str:
    return "\n".join(f"{name}={environment.get(name, '')}" for name in names)


def rendezvous(launcher: str, rank: int, world: int, timeout: timedelta) -> Store:
    """Find the other processes of the job at ``MASTER_ADDR`` and ``MASTER_PORT``.

    Args:
        launcher: ``pytorch`` or ``slurm``.
        timeout: of later operations on the store.

    Returns:
        A store that only these processes share.

    Raises:
        ConfigError: the port is taken, another job listens there, or the other processes do not appear.
    """
    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    token = f"{job_token(launcher, world)} of {os.environ.get('SLURM_JOB_ID', 'a job')} on {world} processes"
    try:
        store = next(iter(dist.rendezvous("env://", rank=rank, world_size=world, timeout=START_TIMEOUT)))[0]
        _compare(store, rank, token, where)
        if launcher == "slurm":
            # torchrun restarts processes, and its store outlives them
            _claim(store, rank, where)
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        raise ConfigError(_explained(error, rank, world, where)) from error
    except ValueError as error:
        raise ConfigError(f"--launcher {launcher}: {error}") from error
    store.set_timeout(timeout)
    return PrefixStore(token.split()[0], store)


def _compare(store: Store, rank: int, token: str, where: str) -> None:
    """Check that this process belongs to the same job as the first one.

    Raises:
        ConfigError: they differ.
    """
    if rank == 0:
        store.set(_TOKEN, token)
    found = store.get(_TOKEN).decode("utf-8", "replace")
    if found != token:
        own, other = (text.partition(" of ")[2] for text in (token, found))
        raise ConfigError(
            f"at {where} another training waits for its processes ({other}; this is {own}, process {rank}): two jobs "
            "have the same port. Start this one again with MASTER_PORT set to a free port"
        )


def _claim(store: Store, rank: int, where: str) -> None:
    """Check that no other process has the rank of this one.

    Raises:
        ConfigError: another process has it.
    """
    if store.add(f"{_RANK}/{rank}", 1) > 1:
        raise ConfigError(
            f"two processes say that they are process {rank} of the training at {where}, one of them on "
            f"{socket.gethostname()}: two jobs have the same port. Start one of them with MASTER_PORT set to a free one"
        )


def _explained(error: Exception, rank: int, world: int, where: str) -> str:
    text = str(error)
    if "EADDRINUSE" in text or "address already in use" in text.lower():
        return (
            f"{where} is taken already, perhaps by another training on this machine; set MASTER_PORT to a free port, "
            "different for each training"
        )
    minutes = START_TIMEOUT.total_seconds() / 60
    return (
        f"process {rank} of {world} did not find the others at {where} within {minutes:.0f} minutes "
        f"({text.splitlines()[0] if text else type(error).__name__}); look at what they printed, and whether the first "
        "machine can be reached there"
    )
