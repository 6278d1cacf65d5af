"""Trainings in several processes: two processes train as one does on the joint batch."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from helpers.method_tools import small_method, small_samples
from torch import nn

from mmseg.engine.checkpoint import load_training, save_checkpoint
from mmseg.engine.data import training_loader
from mmseg.engine.finite import FiniteWatch
from mmseg.engine.interruptions import Interrupted
from mmseg.engine.run_log import SilentLog
from mmseg.engine.shutdown import StepUndo
from mmseg.engine.skipped import SkippedSamples
from mmseg.engine.trainer import Trainer
from mmseg.engine.training_loop import Intervals
from mmseg.errors import ConfigError
from mmseg.parallel.distributed import (
    SINGLE_PROCESS,
    ProcessRank,
    _first_host,
    all_reduce_any,
    all_reduce_mean,
    barrier,
    gpu_of,
    process_group,
)
from mmseg.work_dir.layout import WorkDir

pytestmark = pytest.mark.slow

STEPS = 5
CPU = torch.device("cpu")


def frozen_batch_norm(method: nn.Module) -> nn.Module:
    """Batch norm takes its means over the samples of a process; here over none."""
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return method


class SmallTrainer(Trainer):
    """Trains a small network on drawn samples."""

    def __init__(self, process: ProcessRank, batch: int, folder: Path, freeze: bool, first: int) -> None:
        self.work_dir, self.device, self.process, self.log = WorkDir(folder), CPU, process, SilentLog()
        self.run_config = SimpleNamespace(seed=0, data=SimpleNamespace(samples_per_gpu=batch))
        # in either form the masked pass would do; it is in the one that is compared with a joint batch
        masking = dict(block=16, shared=False) if freeze else None
        self.method = small_method(masking=masking)
        if freeze:
            frozen_batch_norm(self.method)
        self.optimizer = torch.optim.AdamW(self.method.model.parameters(), 1e-3)
        self.schedule = torch.optim.lr_scheduler.ConstantLR(self.optimizer, 1.0)
        self.scaler, self.watch = None, FiniteWatch(self.optimizer, CPU)
        self.undo = StepUndo((self.method.ema_model, True), (self.method.model, False))
        self.first, self.last = first, STEPS
        self.intervals = Intervals(log=1, checkpoint=STEPS)
        self.skips = SkippedSamples(self.log, allowed=False)
        if first:
            path = self.work_dir.checkpoint(first)
            assert load_training(path, self.method, self.optimizer)["iter"] == first
        samples = [small_samples(number) for number in range(STEPS * batch * process.world_size)]
        self.batches = training_loader(samples, batch, 0, range(first, STEPS), CPU, process)

    def write_checkpoint(self, done: int) -> None:
        save_checkpoint(self.work_dir.checkpoint(done), self.method, self.optimizer, done, {})


def train(process: ProcessRank, batch: int, folder: Path, freeze: bool, first: int = 0, last: int = STEPS) -> None:
    """Five iterations of the training loop on the CPU, or some of them; the weights go to a file."""
    torch.set_num_threads(1)
    trainer = SmallTrainer(process, batch, folder, freeze, first)
    if last < STEPS:
        step = trainer.step

        def stopped(batch, iteration):
            if iteration == last - 1 and process.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)  # in one of the processes; both stop after this iteration
            return step(batch, iteration)

        trainer.step = stopped
        with pytest.raises(Interrupted, match=f"interrupted after iteration {last}"):
            trainer.run()
    else:
        trainer.run()
    torch.save(trainer.method.state_dict(), folder / f"rank{process.rank}_of_{process.world_size}.pth")


def resumed_process(rank: int, port: int, folder: Path) -> None:
    join(rank, port)
    with process_group("pytorch") as process:
        train(process, 1, folder, False, 0, 2)
        barrier()
        train(process, 1, folder, False, 2, STEPS)


def join(rank: int, port: int) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES="")


def process(rank: int, port: int, folder: Path, freeze: bool) -> None:
    join(rank, port)
    with process_group("pytorch") as process:
        assert process == ProcessRank(rank, 2)
        train(process, 1, folder, freeze)


def start_two(function: Callable[..., None], *arguments: object) -> None:
    """Run a function in two processes, which are forked from one that has imported what takes longest."""
    multiprocessing.set_forkserver_preload(["torch._dynamo"])
    mp.start_processes(function, (free_port(), *arguments), nprocs=2, start_method="forkserver")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Folder of two processes that trained together without a break."""
    folder = tmp_path_factory.mktemp("whole")
    start_two(process, folder, False)
    return folder


@pytest.mark.parametrize("freeze", [True, False])
def test_two_processes_hold_one_network(tmp_path, whole, freeze):
    if freeze:
        start_two(process, tmp_path, freeze)
    first, second = (load((tmp_path if freeze else whole) / f"rank{rank}_of_2.pth") for rank in (0, 1))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name  # running statistics included
    if freeze:
        train(SINGLE_PROCESS, 2, tmp_path, freeze)
        joint, start = load(tmp_path / "rank0_of_1.pth"), small_method().state_dict()
        apart, moved = (
            torch.cat([(state[name] - joint[name]).double().abs().flatten() for name in joint]).mean().item()
            for state in (first, start)
        )
        # The orders of summation differ, and AdamW makes a whole step of a gradient that is nothing but rounding.
        assert apart < 0.01 * moved


def test_two_processes_stop_together_and_go_on(tmp_path, whole):
    """One is told to stop; the checkpoint of both leads to the weights of an uninterrupted run, bit for bit."""
    start_two(resumed_process, tmp_path)
    for rank in (0, 1):
        expected, resumed = (load(folder / f"rank{rank}_of_2.pth") for folder in (whole, tmp_path))
        for name, tensor in expected.items():
            assert torch.equal(tensor, resumed[name]), name


def test_draws_and_samples_are_those_of_the_joint_batch():
    joint = list(training_loader(list(range(24)), 4, 0, range(2, 5), CPU).sampler)
    parts = [list(training_loader(list(range(24)), 2, 0, range(2, 5), CPU, ProcessRank(r, 2)).sampler) for r in (0, 1)]
    assert [n for a, b in zip(*(zip(p[::2], p[1::2], strict=True) for p in parts), strict=True) for n in a + b] == joint


def test_one_process_shares_with_none():
    value = torch.tensor([0.25])
    assert all_reduce_mean(value) is value
    assert all_reduce_any(value) is value
    with process_group("none") as process:
        assert process == SINGLE_PROCESS
        assert not dist.is_initialized()


@pytest.mark.parametrize(("launcher", "starter"), [("pytorch", "torchrun"), ("slurm", "srun")])
def test_a_launcher_that_did_not_start_this_is_named(monkeypatch, launcher, starter):
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=rf"--launcher {launcher}: .* is not set.*{starter}"), process_group(launcher):
        pass


@pytest.mark.parametrize(
    ("nodes", "first"), [("gpu[07-09,12]", "gpu07"), ("a1,b2", "a1"), ("n[3,5]", "n3"), ("alone", "alone")]
)
def test_first_host_of_a_slurm_list(nodes, first):
    assert _first_host(nodes) == first


def test_each_process_takes_a_gpu():
    """srun --gpus-per-task=1 shows a process its own GPU alone."""
    assert [gpu_of("pytorch", local, 4) for local in range(4)] == [0, 1, 2, 3]
    assert [gpu_of("slurm", local, 4) for local in range(4)] == [0, 1, 2, 3]
    assert gpu_of("slurm", 3, 1) == 0
    for launcher, gpus in (("pytorch", 1), ("slurm", 2)):
        with pytest.raises(ConfigError, match=f"process 2 of this machine has no GPU, there are {gpus}"):
            gpu_of(launcher, 2, gpus)
