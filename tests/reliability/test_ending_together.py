"""Processes that train together end together: one message each, which names the cause, and the state saved."""

import json
import re
import signal
import socket
from pathlib import Path

import pytest
from helpers.process_tools import Server, Started, wait_until
from helpers.script_tools import PUBLISHED_ENCODERS, ROOT
from helpers.training_tools import LIGHT, LONG, config_of

from mmseg.models.weights import has_right_checksums
from mmseg.system.processes import is_running
from mmseg.work_dir.layout import WorkDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]
# something that happens to the second of two processes
SECOND = """
import os
if os.environ['RANK'] == '1':
    exec(os.environ['THEN'])
"""


@pytest.fixture(scope="module")
def project(mini_project) -> Path:
    return mini_project


@pytest.fixture(autouse=True)
def no_large_files(tmp_path):
    """Checkpoints of all these runs are gigabytes."""
    yield
    for path in tmp_path.rglob("*.pth"):
        path.unlink()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def two(
    server: Server, project: Path, folder: Path, before: str = "", then: str = "", **changes: object
) -> list[Started]:
    """Two processes of one training, as torchrun starts them."""
    folder.mkdir(parents=True)
    config = config_of(project, **{**LONG, "data.workers_per_gpu": 1, **changes})
    path = folder / "config.json"
    path.write_text(json.dumps(config.to_dict(), default=list))
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "THEN": then}
    return [
        server.start(
            folder / str(rank),
            "tools/train.py",
            *(path, "--work-dir", folder / "run", "--launcher", "pytorch", "--resume", "auto"),
            before=LIGHT + before + SECOND,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            **environment,
        )
        for rank in (0, 1)
    ]


def wait_for_iteration(folder: Path, processes: list[Started], iteration: int = 2) -> None:
    log = folder / "run" / "run.log"

    def reached() -> bool:
        assert not any(p.ended() for p in processes), [p.stderr for p in processes]
        return log.exists() and f"iteration {iteration}/" in log.read_text()

    wait_until(reached)


def assert_both_ended(folder: Path, processes: list[Started], status: int, cause: str, last: int | None = None) -> None:
    """Within a minute, with one message that names the cause and not the connection; the state is saved."""
    for process in processes:
        assert process.wait(60) == status, process.stderr
        assert re.search(cause, process.message()), process.stderr
        assert "Connection" not in process.message()
        wait_until(lambda process=process: not process.session(), 10)
    found = WorkDir(folder / "run").checkpoints()
    assert len(found) == 1
    assert last is None or found[0].name == f"iter_{last}.pth"
    assert not list((folder / "run").glob(".*"))


def test_one_is_told_to_stop(server, project, tmp_path):
    """Between iterations, and while it waits for the other, which evaluates."""
    slow = """
import time
from mmseg.evaluation import validation
def slow(*_, **__):
    open('evaluating', 'w').close()
    time.sleep(120)
validation.evaluate = slow
"""
    stepping = two(server, project, tmp_path / "step")
    evaluating = two(server, project, tmp_path / "evaluation", slow, **{"evaluation.interval": 3})
    wait_for_iteration(tmp_path / "step", stepping)
    stepping[1].signal(signal.SIGTERM)
    wait_until((tmp_path / "evaluation" / "0" / "evaluating").exists)
    evaluating[1].signal(signal.SIGTERM)
    assert_both_ended(tmp_path / "step", stepping, 143, "^interrupted after iteration")
    assert_both_ended(tmp_path / "evaluation", evaluating, 143, "^interrupted after iteration 3", 3)


@pytest.mark.parametrize("killed", [0, 1])
def test_one_is_killed(server, project, tmp_path, killed):
    processes = two(server, project, tmp_path / "run")
    wait_for_iteration(tmp_path / "run", processes)
    processes[killed].signal(signal.SIGKILL)
    assert processes[killed].wait() == -signal.SIGKILL
    number = processes[killed].number
    cause = rf"^process {killed} of this training \(number {number} of .*\) ended without a message: it was killed"
    assert_both_ended(tmp_path / "run", [processes[1 - killed]], 2, cause)
    if killed == 1:
        assert "stopped: process 1 of this training (number" in (tmp_path / "run" / "run" / "run.log").read_text()


BAD_FILE = """
from mmseg.datasets.uda import UDADataset
from mmseg.errors import DataError
read = UDADataset.__getitem__
def fail(self, number):
    if number == 19:
        raise DataError('frame.png is not a readable image; replace it')
    return read(self, number)
UDADataset.__getitem__ = fail
"""
IN_STEP = """
from mmseg.uda.cmda import DACS
step = DACS.train_step
def fail(self, batch, draws, backward):
    if draws.iteration == 4:
        {what}
    return step(self, batch, draws, backward)
DACS.train_step = fail
"""
BROKEN = """
from mmseg.uda.cmda import DACS
step = DACS.train_step
def broken(self, batch, draws, backward):
    result = step(self, batch, draws, backward)
    if draws.iteration == 4:
        result.logs['decode.loss_seg'] *= float('nan')
    return result
DACS.train_step = broken
"""


@pytest.mark.parametrize(
    ("then", "causes"),
    [
        (BAD_FILE, [r"^process 1 .* stopped: frame\.png is not a", r"^frame\.png is not a"]),
        (
            IN_STEP.format(what="raise MemoryError"),
            [r"^process 1 .* stopped: out of memory", "^out of memory"],
        ),
        (BROKEN, ["the loss or gradient of another process is not finite", "decode.loss_seg nan"]),
        (
            IN_STEP.format(what="import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
            [r"^process 1 .* ended without a message", None],
        ),
    ],
    ids=["bad file", "memory", "not finite", "killed in a step"],
)
def test_one_fails(server, project, tmp_path, then, causes):
    processes = two(server, project, tmp_path / "run", then=then)
    for process, cause in zip(processes, causes, strict=True):
        if cause:
            assert_both_ended(tmp_path / "run", [process], 2, cause, 4)
        else:
            assert process.wait(60) == -signal.SIGKILL


def test_samples_left_out_by_another_process_are_reported(server, project, tmp_path):
    bad = """
from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.errors import DataError
read = CityscapesICDataset.sample
def fail(self, *arguments):
    if not getattr(self, 'failed', False):
        self.failed = True
        raise DataError('frame.png of process 1 is not a readable image')
    return read(self, *arguments)
CityscapesICDataset.sample = fail
"""
    changes = {"data.train.on_bad_sample": "skip", "runner.max_iters": 3, "data.workers_per_gpu": 0}
    processes = two(server, project, tmp_path / "run", then=bad, **changes)
    assert [process.wait() for process in processes] == [0, 0], processes[0].stderr
    log = (tmp_path / "run" / "run" / "run.log").read_text()
    assert "left out a sample: frame.png of process 1" in log
    assert "1 samples were left out, for 1 reasons:" in log


def torchrun(server: Server, project: Path, folder: Path) -> Started:
    """torchrun with two real processes, in their second iteration."""
    folder.mkdir()
    values = {**PUBLISHED_ENCODERS, **LONG, "data.workers_per_gpu": 1}
    (folder / "config.json").write_text(json.dumps(config_of(project, **values).to_dict(), default=list))
    arguments = ["--nproc_per_node=2", f"--master_port={free_port()}", str(ROOT / "tools" / "train.py"), "config.json"]
    arguments += ["--work-dir", "run", "--launcher", "pytorch"]
    before = f"import sys; from torch.distributed.run import main; sys.exit(main({arguments!r}))"
    started = server.start(folder, "tools/train.py", before=before)
    wait_for_iteration(folder, [started])
    return started


def test_torchrun_that_is_stopped_or_killed(server, project, tmp_path):
    """Its processes have sessions of their own, which no signal to its group reaches."""
    runs = {number: torchrun(server, project, tmp_path / number.name) for number in (signal.SIGTERM, signal.SIGKILL)}
    workers = {number: started.children() for number, started in runs.items()}
    for number, started in runs.items():
        started.signal_group(number)
    for number, started in runs.items():
        started.wait()
        assert len(workers[number]) == 2
        wait_until(lambda number=number: not any(is_running(worker) for worker in workers[number]), 60)
        assert not started.session()
        (path,) = WorkDir(started.folder / "run").checkpoints()
        assert has_right_checksums(path)
        assert started.stderr.count("error: interrupted after iteration") == 2, started.stderr
