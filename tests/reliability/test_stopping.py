"""Trainings that are told to stop, by every means: they save, say one thing, and leave nobody behind."""

import errno
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from helpers.process_tools import Server, Started, wait_until
from helpers.script_tools import PUBLISHED, ROOT, SMALL_PUBLISHED
from helpers.training_tools import LIGHT, LONG, QUICK, config_of
from rich.console import Console

from mmseg.engine.run_log import RunLog
from mmseg.models.weights import has_right_checksums
from mmseg.work_dir.layout import WorkDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]


@pytest.fixture(scope="module")
def project(mini_project) -> Path:
    return mini_project


@pytest.fixture(autouse=True)
def no_large_files(tmp_path):
    """Checkpoints of all these runs are gigabytes."""
    yield
    for path in tmp_path.rglob("*.pth"):
        path.unlink()


def train(
    server: Server, project: Path, folder: Path, before: str = "", workers: int = 1, **changes: object
) -> Started:
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(project, **{**LONG, "data.workers_per_gpu": workers, **changes})
    path = folder / "config.json"
    path.write_text(json.dumps(config.to_dict(), default=list))
    return server.start(
        folder, "tools/train.py", path, "--work-dir", folder / "run", "--resume", "auto", before=LIGHT + before
    )


def logged(started: Started, text: str = "iteration 2/") -> bool:
    assert not started.ended(), started.stderr
    log = started.folder / "run" / "run.log"
    return log.exists() and text in log.read_text()


def running(started: Started, text: str = "iteration 2/") -> Started:
    wait_until(lambda: logged(started, text))
    return started


def assert_stopped(started: Started, number: int, seconds: float = 60) -> int:
    """Ended by a signal as it should be; the iteration that was saved."""
    assert started.wait(seconds) == 128 + number, started.stderr
    found = re.fullmatch(
        r"interrupted after iteration (\d+); saved (.*iter_\1\.pth)\. Continue with --resume auto", started.message()
    )
    assert found, started.stderr
    assert_sound(started)
    assert Path(found[2]).is_file()
    log = (started.folder / "run" / "run.log").read_text()
    assert f"stopped: interrupted after iteration {found[1]}" in log.splitlines()[-1]
    return int(found[1])


def assert_sound(started: Started) -> None:
    """Whole checkpoints, no leftovers, no process."""
    assert all(map(has_right_checksums, WorkDir(started.folder / "run").checkpoints()))
    assert not list((started.folder / "run").glob(".*"))
    wait_until(lambda: not started.session(), 10)


# ------------------------------------------------------------------------------------------------ signals


def test_every_signal_to_the_whole_group_saves(server, project, tmp_path):
    """Loader processes get it too, as from `timeout`, `scancel`, a terminal; once, or twice in a moment."""
    runs = [train(server, project, tmp_path / number.name, workers=2) for number in SIGNALS]
    for number, started in zip(SIGNALS, runs, strict=True):
        running(started)
        assert len(started.children()) == 2
        started.signal_group(number)
        if number in (signal.SIGINT, signal.SIGXCPU):
            time.sleep(0.2)
            started.signal_group(number)
    for number, started in zip(SIGNALS, runs, strict=True):
        assert assert_stopped(started, number) >= 2


def test_only_the_training_itself_is_told_to_stop(server, project, tmp_path):
    """A signal to one loader process is not for it; one to the parent ends both."""
    started = running(train(server, project, tmp_path, workers=2))
    worker = started.children()[0]
    for number in SIGNALS:
        os.kill(worker, number)
    assert_goes_on(started)
    assert worker in started.children()
    started.signal(signal.SIGTERM)
    assert_stopped(started, signal.SIGTERM)


def assert_goes_on(started: Started) -> None:
    iteration = int(re.findall(r"iteration (\d+)/", (started.folder / "run" / "run.log").read_text())[-1])
    running(started, f"iteration {iteration + 5}/")


def test_loader_processes_end_with_their_parent(server, project, tmp_path):
    started = running(train(server, project, tmp_path, workers=2))
    assert len(started.session()) == 3
    started.signal(signal.SIGKILL)
    started.wait()
    wait_until(lambda: not started.session(), 5)


def test_the_same_signal_later_ends_at_once(server, project, tmp_path):
    """Whatever the main thread does, and with nobody left; in the first moments it belongs to the first."""
    hanging = """
import ctypes
step = DACS.train_step
def hang(self, batch, draws, backward):
    if draws.iteration == 2:
        open('hanging', 'w').close()
        lock = ctypes.create_string_buffer(128)
        for _ in range(2):  # a C function that no signal ends
            ctypes.CDLL(None).pthread_mutex_lock(lock)
    return step(self, batch, draws, backward)
DACS.train_step = hang
"""
    runs = [train(server, project, tmp_path / str(n), hanging) for n in (signal.SIGTERM, signal.SIGINT)]
    for started, number in zip(runs, (signal.SIGTERM, signal.SIGINT), strict=True):
        wait_until((started.folder / "hanging").exists)
        started.signal_group(number)
        started.signal_group(number)
    time.sleep(2.5)
    for started, number in zip(runs, (signal.SIGTERM, signal.SIGINT), strict=True):
        assert not started.ended()
        started.signal_group(number)
        assert started.wait(20) == 128 + number
        assert "came again: ended at once, without saving" in started.message()
        wait_until(lambda started=started: not started.session(), 5)


def test_a_signal_during_the_start(server, project, tmp_path):
    slow = """
import time
from mmseg.engine import trainer
def build(_):
    open('slow', 'w').close()
    time.sleep(60)
trainer.build_method = build
"""
    runs = [train(server, project, tmp_path / n.name, slow) for n in SIGNALS[:3]]
    for number, started in zip(SIGNALS, runs, strict=False):
        wait_until((started.folder / "slow").exists)
        started.signal_group(number)
    for number, started in zip(SIGNALS, runs, strict=False):
        assert started.wait(20) == 128 + number
        name = "" if number == signal.SIGINT else f" by {number.name}"
        assert started.stderr == f"interrupted{name}\n"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_while_a_read_hangs(server, project, tmp_path, workers):
    """In this process or in a loader's, in Python or in C: the state before is saved."""
    hanging = """
import ctypes, time
from mmseg.datasets.uda import UDADataset
read = UDADataset.__getitem__
def hang(self, number):
    if number == 8:
        lock = ctypes.create_string_buffer(128)
        for _ in range(2):
            ctypes.CDLL(None).pthread_mutex_lock(lock)
    return read(self, number)
UDADataset.__getitem__ = hang
"""
    started = running(train(server, project, tmp_path, hanging, workers), "iteration 4/")
    time.sleep(0.5)
    started.signal_group(signal.SIGTERM)
    assert started.wait(40) == 128 + signal.SIGTERM
    assert "iter_4.pth. Continue with --resume auto" in started.message()
    assert_sound(started)
    assert [path.name for path in WorkDir(tmp_path / "run").checkpoints()] == ["iter_4.pth"]


def test_a_signal_during_an_evaluation_or_a_checkpoint(server, project, tmp_path):
    slow = """
import time, pathlib
from mmseg.engine import trainer
from mmseg.evaluation import validation
def slow(name, act):
    def acted(*arguments, **options):
        open(name, 'w').close()
        time.sleep(3 if name == 'saving' else 60)
        return act(*arguments, **options)
    return acted
validation.evaluate = slow('evaluating', validation.evaluate)
"""
    saving = "trainer.save_checkpoint = slow('saving', trainer.save_checkpoint)"
    runs = {
        "evaluating": train(server, project, tmp_path / "e", slow, 2, **{"evaluation.interval": 3}),
        "saving": train(server, project, tmp_path / "s", slow + saving, 2, **{"checkpoint_config.interval": 3}),
    }
    for name, started in runs.items():
        wait_until((started.folder / name).exists)
        started.signal_group(signal.SIGTERM)
    for started in runs.values():
        assert assert_stopped(started, signal.SIGTERM) == 3


def test_nohup_keeps_its_meaning(server, project, tmp_path):
    started = train(server, project, tmp_path, "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    running(started).signal_group(signal.SIGHUP)
    assert_goes_on(started)
    started.signal_group(signal.SIGTERM)
    assert_stopped(started, signal.SIGTERM)


# ------------------------------------------------------------------------------------------------ failures


def test_a_bad_file_saves_the_state_before_it(server, project, tmp_path):
    bad = """
from mmseg.datasets.uda import UDADataset
from mmseg.errors import DataError
read = UDADataset.__getitem__
def fail(self, number):
    if number == 9:
        raise DataError('frame.png is not a readable image; replace it')
    return read(self, number)
UDADataset.__getitem__ = fail
"""
    runs = [train(server, project, tmp_path / str(workers), bad, workers) for workers in (0, 2)]
    for started in runs:
        assert started.wait() == 2
        assert re.fullmatch(
            r"frame\.png is not a readable image; replace it\. Saved .*iter_4\.pth\. Continue with --resume auto",
            started.message(),
        )
        assert_sound(started)


def test_a_loader_process_that_is_killed(server, project, tmp_path):
    started = running(train(server, project, tmp_path, workers=2))
    os.kill(started.children()[0], signal.SIGKILL)
    assert started.wait() == 2, started.stderr
    message = started.message()
    assert re.search(
        r"a loader process died \(number \d+: killed by SIGKILL\); it was reading source .*, target ", message
    )
    assert re.search(r"Saved .*iter_\d+\.pth\. Continue", message)
    assert_sound(started)


# ------------------------------------------------------------------------------------------------ places to write to

# A disk of our own for the run, which is full from an iteration to another one; the run is copied at the end.
SMALL_DISK = """
import atexit, ctypes, os, shutil, sys
from pathlib import Path
from mmseg.engine.trainer import Trainer

libc = ctypes.CDLL(None, use_errno=True)
NEW_USERS, NEW_MOUNTS, PRIVATE = 0x10000000, 0x20000, 0x44000
disk, user = Path('run'), os.getuid()
disk.mkdir()
if libc.unshare(NEW_MOUNTS if user == 0 else NEW_USERS | NEW_MOUNTS):
    Path('refused').touch()
    sys.exit(0)
if user:
    Path('/proc/self/setgroups').write_text('deny')
    Path('/proc/self/uid_map').write_text(f'0 {user} 1')
libc.mount(b'none', b'/', None, PRIVATE, None)
if libc.mount(b'tmpfs', str(disk.resolve()).encode(), b'tmpfs', 0, b'size=460m'):
    Path('refused').touch()
    sys.exit(0)
atexit.register(shutil.copytree, disk.resolve(), Path('copy').resolve(), ignore=shutil.ignore_patterns('filler'))

def fill():
    try:
        with open(disk / 'filler', 'wb', buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass

step = Trainer.step
def stepped(self, batch, iteration):
    if iteration == FULL:
        fill()
    if iteration == FREE:
        (disk / 'filler').unlink()
    return step(self, batch, iteration)
Trainer.step = stepped
"""


def on_small_disk(
    server: Server, project: Path, folder: Path, full: int, free: int, then: str = "", **changes: object
) -> Started:
    """A training whose disk is full from the beginning of an iteration (from 0) to that of another."""
    values = {"log_config.interval": 1, "runner.max_iters": 6, **changes}
    config = config_of(project, **{**LONG, **values})
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.to_dict(), default=list))
    before = SMALL_DISK.replace("FULL", str(full)).replace("FREE", str(free)) + then
    return server.start(folder, "tools/train.py", "config.json", "--work-dir", "run", before=before)


def ended_on_small_disk(started: Started, status: int) -> Path:
    """The run after its end."""
    found = started.wait()
    if (started.folder / "refused").exists():
        pytest.skip("no file system may be mounted here")
    assert found == status, started.stderr
    return started.folder / "copy"


def test_a_disk_that_is_full_for_a_while_costs_nothing_but_files(server, project, tmp_path):
    """Pictures, an evaluation, a checkpoint and TensorBoard fail; each is tried again when its time comes."""
    changes = {"uda.debug_img_interval": 1, "evaluation.interval": 3, "checkpoint_config.max_keep_ckpts": 1}
    started = on_small_disk(server, project, tmp_path / "a", 2, 4, **changes)
    run = ended_on_small_disk(started, 0)
    assert started.stderr == ""
    lines = [json.loads(line) for line in (run / "run.log.json").read_text().splitlines()]
    assert [line["iter"] for line in lines if line["mode"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert [line["iter"] for line in lines if line["mode"] == "val"] == [6]
    log = (run / "run.log").read_text()
    for text in (
        "TensorBoardLogger cannot be written (No space left on device); the training continues",
        "TensorBoardLogger can be written again",
        "iter_3.pth cannot be written (it takes ",
        "no picture of iteration 3 (No space left on device); the training continues",
        "the evaluation after iteration 3 cannot be written (No space left on device); the training continues",
    ):
        assert log.count(text) == 1, text
    assert [p.name for p in sorted((run / "pictures").iterdir())] == [f"iter_{n:06d}.png" for n in (1, 2, 5, 6)]
    assert has_right_checksums(run / "iter_6.pth")


def test_lines_of_a_log_wait_for_room(tmp_path):
    """Each is written once, whole, and in order, however little a full disk takes of it."""
    log = RunLog(tmp_path, "run", Console(quiet=True), loggers=[])
    files = [log._json, log._handlers[1].lines]
    for lines in files:
        lines._file = FullDisk(lines._file)
    for iteration in range(1, 7):
        FullDisk.room = 3 if iteration in (3, 4) else 10**6
        log.record("train", iteration, {"loss": 0.5})
        log.info("line %d", iteration)
    log.error("stopped")
    log.close()
    records = [json.loads(line) for line in (tmp_path / "run.log.json").read_text().splitlines()]
    assert [record["iter"] for record in records] == [1, 2, 3, 4, 5, 6]
    text = (tmp_path / "run.log").read_text()
    assert re.findall(r"INFO line (\d)\n", text) == list("123456")
    assert text.count("the log files cannot be written (No space left on device); the training continues") == 1
    assert text.count("the log files can be written again") == 1
    assert text.endswith("ERROR stopped\n")


class FullDisk:
    """A file on a disk with room for some bytes only."""

    room = 0

    def __init__(self, file):
        self.file = file

    def write(self, data: bytes) -> int:
        if not FullDisk.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.file.write(data[: FullDisk.room])
        FullDisk.room -= written
        return written

    def close(self) -> None:
        self.file.close()


def test_a_full_disk_at_the_end_and_at_a_stop(server, project, tmp_path):
    """One message says what cannot be written and which checkpoint is the newest."""
    at_end = on_small_disk(server, project, tmp_path / "end", 2, 99, **{"checkpoint_config.interval": 2})
    stop = "def fill(fill=fill):\n    fill()\n    os.kill(os.getpid(), 15)\n"
    stopped = on_small_disk(server, project, tmp_path / "stop", 2, 99, stop, **{"checkpoint_config.interval": 2})
    run = ended_on_small_disk(at_end, 2)
    newest = r"The newest checkpoint is run/iter_2\.pth\. Continue with --resume auto$"
    assert re.search(rf"^run/iter_6\.pth cannot be written \(.*{newest}", at_end.message())
    assert has_right_checksums(run / "iter_2.pth")
    assert [path.name for path in WorkDir(run).checkpoints()] == ["iter_2.pth"]
    ended_on_small_disk(stopped, 143)
    assert re.search(rf"^interrupted after iteration 3; its state cannot be saved: .*{newest}", stopped.message())


@pytest.mark.parametrize("to", ["reader that goes", "full disk"])
def test_a_dead_stdout_does_not_end_a_training(server, project, tmp_path, to):
    """Neither `| head` nor a full disk under it; it prints a table of scores, too."""
    dead = """
import os
if {full}:
    os.dup2(os.open('/dev/full', os.O_WRONLY), 1)
else:
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
"""
    values = {"runner.max_iters": 2, "evaluation.interval": 2, "checkpoint_config.interval": 2}
    started = train(server, project, tmp_path, dead.format(full=to == "full disk"), **values)
    assert started.wait() == 0, started.stderr
    assert started.stderr == ""
    assert "evaluation after iteration 2" in (tmp_path / "run" / "run.log").read_text()
    assert_sound(started)


# ------------------------------------------------------------------------------------------------ the launcher


def launch(server: Server, project: Path, folder: Path) -> Started:
    """Two runs, one after the other, by the launcher; the first has begun."""
    values = {**SMALL_PUBLISHED, **QUICK, **LONG}
    started = server.start(
        folder,
        "my_run_experiments.py",
        *("--root_path", project, "--base_config", ROOT / PUBLISHED, "--name", "two", "--seeds", "0,1"),
        *("--cfg-options", *(f"{key}={value}" for key, value in values.items())),
    )
    wait_until(lambda: [p for p in folder.glob("work_dirs/local-basic/*/*.log") if "iteration 2/" in p.read_text()])
    return started


def test_a_launcher_that_is_stopped_or_killed(server, project, tmp_path):
    """A run in its hands hears of it once, and saves; nothing trains on unseen."""
    stopped, killed = (launch(server, project, tmp_path / name) for name in ("stopped", "killed"))
    (run_of_killed,) = killed.children()
    for _ in range(2):
        stopped.signal_group(signal.SIGINT)
    killed.signal(signal.SIGKILL)
    assert stopped.wait() == 130
    expected = "interrupted by SIGINT: 1 of 2 runs stopped, 1 not started. Continue with --resume auto"
    assert stopped.message() == expected
    killed.wait()
    wait_until(lambda: not Path(f"/proc/{run_of_killed}/cmdline").exists())
    for started in (stopped, killed):
        assert not started.session()
        (work_dir,) = started.folder.glob("work_dirs/local-basic/*")
        printed = (work_dir / "output.txt").read_text()
        assert re.search(r"\nerror: interrupted after iteration (\d+); saved .*iter_\1\.pth", printed)
        assert "Traceback" not in printed
        (path,) = WorkDir(work_dir).checkpoints()
        assert has_right_checksums(path)
    assert "interrupted after iteration" in stopped.stdout
