"""Two runs never mix: locks of work dirs, identities of runs, ports and tokens of jobs, configs as planned."""

import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from helpers.process_tools import Started, server
from helpers.script_tools import ROOT
from rich.console import Console

from mmseg.apis import training
from mmseg.config.load import config_of, dump_config, load_config, plain
from mmseg.engine import build
from mmseg.engine.checkpoint import save_best, save_checkpoint
from mmseg.engine.resuming import choose_start
from mmseg.errors import CheckpointError, CMDAError, ConfigError
from mmseg.launcher import child as launching
from mmseg.launcher import experiments, running
from mmseg.launcher.child import plan_child
from mmseg.parallel.rendezvous import FIRST_PORT, PORTS, job_port, job_token
from mmseg.work_dir import lock as run_lock
from mmseg.work_dir.identity import RunIdentity, read_identity
from mmseg.work_dir.layout import WorkDir
from mmseg.work_dir.lock import Holder, WorkDirInUse, WorkDirLock, running_holder

LOCK = WorkDir(".").lock.name

# ------------------------------------------------------------------------------------------------ the lock


def leave(folder: Path, text: str | None = None, **changes: object) -> Holder:
    """Leave a lock as a process that ended would."""
    holder = replace(Holder.of_this_process(), **changes)
    (folder / LOCK).write_text(json.dumps(asdict(holder)) if text is None else text)
    return holder


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(run_lock, "STALE_SECONDS", 0.4)
    monkeypatch.setattr(run_lock, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.1)


def test_a_work_dir_is_held_by_one_and_released(tmp_path):
    with WorkDirLock(tmp_path):
        with pytest.raises(WorkDirInUse, match=rf"in use by a training \(process {os.getpid()} on .*remove .*{LOCK}"):
            WorkDirLock(tmp_path).acquire()
        assert running_holder(tmp_path).pid == os.getpid()
    assert running_holder(tmp_path) is None
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), WorkDirLock(tmp_path):
        raise KeyError
    assert not list(tmp_path.iterdir())


HOLD = """
import sys, time
from mmseg.work_dir.lock import WorkDirLock
with WorkDirLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(WorkDirInUse, match=f"process {process.pid} on"):
        WorkDirLock(tmp_path).acquire()
    process.kill()
    process.communicate()
    with WorkDirLock(tmp_path):
        assert running_holder(tmp_path).pid == os.getpid()


def test_a_number_that_another_process_has_now_is_no_holder(tmp_path):
    leave(tmp_path, started="1")
    with WorkDirLock(tmp_path):
        pass


def test_other_machines_are_believed_while_they_show_life(tmp_path, impatient):
    leave(tmp_path, machine="f" * 8, host="elsewhere", pid=1)
    notes = []
    with WorkDirLock(tmp_path, notes.append):
        pass
    assert re.search(r"process 1 on elsewhere, since .*: looking for up to", notes[0])
    leave(tmp_path, machine="f" * 8, host="elsewhere")
    beating = subprocess.Popen(["sh", "-c", f"while sleep 0.05; do touch '{tmp_path / LOCK}'; done"])
    try:
        with pytest.raises(WorkDirInUse, match="on elsewhere"):
            WorkDirLock(tmp_path).acquire()
    finally:
        beating.kill()
        beating.wait()


@pytest.mark.parametrize("age", [10_000, -10_000])
def test_an_old_lock_of_another_machine_needs_no_patience(tmp_path, impatient, age):
    leave(tmp_path, machine="f" * 8)
    os.utime(tmp_path / LOCK, (time.time() - age,) * 2)
    started = time.monotonic()
    with WorkDirLock(tmp_path):
        assert age < 0 or time.monotonic() - started < 0.3


def test_the_holder_moves_its_time_on_and_writes_nothing_else(tmp_path, impatient):
    with WorkDirLock(tmp_path):
        os.utime(tmp_path / LOCK, (0, 0))
        text = (tmp_path / LOCK).read_text()
        until = time.monotonic() + 20
        while (tmp_path / LOCK).stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.05)
        assert (tmp_path / LOCK).stat().st_mtime > 0
        assert (tmp_path / LOCK).read_text() == text


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"pid": true}', "[" * 4000, "x" * 4000, '{"token": 1}', "\x00\xff"]
)
def test_a_lock_that_says_nothing_is_given_time_and_then_taken_over(tmp_path, impatient, text):
    leave(tmp_path, text)
    with WorkDirLock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [{"pid": 2**80}, {"pid": 0}, {"pid": -1}])
def test_a_number_that_no_process_has(tmp_path, change):
    leave(tmp_path, **change)
    with WorkDirLock(tmp_path):
        pass


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "large"])
def test_what_is_no_lock_is_named(tmp_path, kind):
    path = tmp_path / LOCK
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("x" * 100_000)
    with pytest.raises(ConfigError, match=rf"{LOCK} .*remove it"):
        WorkDirLock(tmp_path).acquire()


def test_a_lock_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with WorkDirLock(tmp_path), pytest.raises(WorkDirInUse):
        WorkDirLock(tmp_path).acquire()
    assert not list(tmp_path.iterdir())


def test_of_many_that_find_a_stale_lock_one_takes_it(tmp_path):
    leave(tmp_path, started="1")
    with multiprocessing.get_context("fork").Pool(8) as pool:
        taken = pool.map(_take_for_a_while, [tmp_path] * 8, chunksize=1)
    assert taken.count(True) == 1
    assert not list(tmp_path.iterdir())


def _take_for_a_while(folder: Path) -> bool:
    try:
        with WorkDirLock(folder):
            time.sleep(2)
            return True
    except WorkDirInUse:
        time.sleep(2)
        return False


def test_a_training_that_was_held_up_does_not_write_over_its_successor(tmp_path):
    with WorkDirLock(tmp_path) as lock:
        lock.verify()
        (tmp_path / LOCK).unlink()
        lock.verify()  # a user may remove it
        holder = leave(tmp_path)
        with pytest.raises(CMDAError, match="was taken over by another training"):
            lock.verify()
    assert json.loads((tmp_path / LOCK).read_text())["token"] == holder.token


def test_a_forked_process_leaves_the_lock_alone(tmp_path):
    with WorkDirLock(tmp_path) as lock:
        child = multiprocessing.get_context("fork").Process(target=lock.release)
        child.start()
        child.join()
        assert running_holder(tmp_path).token == lock.holder.token


# ------------------------------------------------------------------------------------------------ whose checkpoint

SETTINGS = {"seed": 0, "runner": {"max_iters": 4}, "optimizer": {"lr": 1.0}, "model": {"type": "m", "pretrained": "a"}}


def leave_checkpoint(folder: Path, iteration: int, identity: RunIdentity | None, config: dict = SETTINGS) -> Path:
    """A checkpoint without its tensors; of an earlier version where it has no identity."""
    folder.mkdir(parents=True, exist_ok=True)
    meta = {"iter": iteration, "config": json.dumps(config), "processes": 1}
    meta |= {"run": identity.as_meta()} if identity else {}
    path = folder / f"iter_{iteration}.pth"
    torch.save({"meta": meta, "state_dict": {}, "optimizer": {}}, path)
    return path


def start(folder: Path, given: str | None = "auto", **changes: object):
    config = {**SETTINGS, **changes}
    return choose_start(given, folder, RunIdentity.new(0, json.dumps(config)), config, 1)


@pytest.fixture
def run(tmp_path) -> tuple[Path, RunIdentity]:
    """A finished run: its folder and identity."""
    folder, identity = tmp_path / "run", RunIdentity.new(0, "")
    for iteration in (2, 4):
        leave_checkpoint(folder, iteration, identity)
    identity.write(folder)
    return folder, identity


def test_a_finished_run_is_finished(run):
    folder, identity = run
    found = start(folder)
    assert (found.is_finished, found.checkpoint.name, found.identity) == (True, "iter_4.pth", identity)
    # other places of the same files, and how it is computed, make no other run
    assert start(folder, model={"type": "m", "pretrained": "b"}, micro_batch=1, log_level="DEBUG").is_finished


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"optimizer": {"lr": 2.0}}, {"model": {"type": "n"}}, {"runner": {"max_iters": 3}}]
)
def test_the_end_of_another_run_is_not_the_end_of_this_one(run, changes):
    with pytest.raises(CheckpointError, match=r"iter_4\.pth is of another run, .* settings \(.* -> .*another wo"):
        start(run[0], **changes)


def test_a_longer_or_gentler_training_goes_on(run):
    found = start(run[0], runner={"max_iters": 8}, optimizer={"lr": 0.5})
    assert (found.is_finished, found.checkpoint.name, found.identity) == (False, "iter_4.pth", run[1])
    with pytest.raises(CheckpointError, match="seed: 0 -> 1"):
        start(run[0], runner={"max_iters": 8}, seed=1)


def test_a_run_that_was_started_anew_is_judged_by_its_own_checkpoints(run):
    folder, _ = run
    again = start(folder, None).identity
    again.write(folder)
    found = start(folder)
    assert (found.checkpoint, found.is_finished) == (None, False)
    assert "iter_4.pth, iter_2.pth" in found.remark
    assert "another run" in found.remark
    leave_checkpoint(folder, 2, again)
    found = start(folder)
    assert (found.checkpoint.name, found.is_finished, found.identity) == ("iter_2.pth", False, again)


def test_a_run_that_went_back_forgets_what_came_after(run):
    folder, identity = run
    back = start(folder, str(folder / "iter_2.pth"))
    assert back.identity.id != identity.id
    back.identity.write(folder)
    found = start(folder)
    assert (found.checkpoint.name, found.is_finished) == ("iter_2.pth", False)
    assert read_identity(folder) == back.identity == found.identity


def test_checkpoints_of_earlier_versions_are_gone_on_with(tmp_path):
    leave_checkpoint(tmp_path, 2, None)
    found = start(tmp_path)
    assert found.checkpoint.name == "iter_2.pth"
    assert found.identity.owns({"iter": 2})
    assert not found.identity.owns({"iter": 3})
    found.identity.write(tmp_path)
    assert start(tmp_path).checkpoint.name == "iter_2.pth"
    leave_checkpoint(tmp_path, 4, found.identity)
    assert start(tmp_path).is_finished


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 5000, '{"id": 1}', '{"id": "x", "started": "", "seed": "0", "config": "", "parents": 5}'],
)
def test_a_damaged_record_leaves_it_to_the_checkpoints(run, text):
    folder, identity = run
    WorkDir(folder).identity.write_text(text)
    found = start(folder)
    assert (found.is_finished, found.identity.id) == (True, identity.id)


@pytest.mark.parametrize("meta", [{}, {"iter": -1}, {"iter": "4"}, {"iter": True}, {"iter": 4, "run": 5}, None, []])
def test_odd_checkpoints_are_not_taken_for_an_end(tmp_path, meta):
    torch.save({"meta": meta}, tmp_path / "iter_4.pth")
    found = start(tmp_path)
    assert found.checkpoint is not None
    assert found.is_finished == (meta == {"iter": 4, "run": 5})


def test_only_own_checkpoints_make_room(tmp_path):
    mine, other = RunIdentity.new(0, ""), RunIdentity.new(1, "")
    leave_checkpoint(tmp_path, 1, other)
    leave_checkpoint(tmp_path, 2, mine)
    module = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(module.parameters())

    def is_own(path: Path) -> bool:
        return mine.owns(torch.load(path, weights_only=True)["meta"])

    save_checkpoint(tmp_path / "iter_3.pth", module, optimizer, 3, {"run": mine.as_meta()}, 1, None, is_own)
    assert [path.name for path in WorkDir(tmp_path).checkpoints()] == ["iter_1.pth", "iter_3.pth"]


def test_the_best_of_another_run_neither_competes_nor_goes(tmp_path):
    mine, other, module = RunIdentity.new(0, ""), RunIdentity.new(1, ""), torch.nn.Linear(1, 1)
    assert save_best(tmp_path, module, 2, {"run": other.as_meta()}, "mIoU", 0.9, other.owns)
    for iteration, score, kept in ((3, 0.5, True), (4, 0.4, False), (5, 0.6, True)):
        assert save_best(tmp_path, module, iteration, {"run": mine.as_meta()}, "mIoU", score, mine.owns) == kept
    found = sorted(path.name for path in tmp_path.glob("best_*"))
    assert found == ["best_mIoU_iter_2.pth", "best_mIoU_iter_5.pth"]


# ------------------------------------------------------------------------------------------------ the launcher


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    """A base config in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "base.py"
    path.write_text(f'_base_ = ["{ROOT}/configs/fusion/cs2dsec_image+events_together_b5.py"]\nseed = 0\n')
    return path


def test_a_base_that_is_edited_later_does_not_change_what_is_planned(base, monkeypatch):
    monkeypatch.setattr(running, "POLL_SECONDS", 0.02)
    for module in (experiments, running):
        monkeypatch.setattr(module, "refusal", lambda child: "")
    runs = experiments.plan_runs([experiments.Experiment(str(base), "n")], seeds=[0, 1])
    planned = [plain(run.child.resolved.to_dict()) for run in runs]
    edit = f"open({str(base)!r}, 'a').write('runner = dict(max_iters=1)\\n')"
    copy = "import sys, shutil; shutil.copy(sys.argv[1], sys.argv[2])"

    def command(run: running.Run) -> list[str]:
        code = f"{copy}\n{edit}"
        return [sys.executable, "-c", code, str(run.child.path), str(run.child.work_dir / "seen.json")]

    running.run_all(runs, console=Console(quiet=True), command=command)
    assert [run.state for run in runs] == ["done", "done"]
    assert load_config(base).runner.max_iters == 1
    for run, expected in zip(runs, planned, strict=True):
        seen = json.loads((run.child.work_dir / "seen.json").read_text())
        assert seen == expected
        assert seen["seed"] == runs.index(run)
        assert plain(load_config(run.child.path).to_dict()) == expected


def test_a_config_survives_being_text(base):
    config = plan_child(base, "n", None, {"data.train.source.image_crop_size": (64, 64)}).resolved
    assert plain(config_of(dump_config(config)).to_dict()) == plain(config.to_dict())


def test_a_running_run_is_not_entered(base):
    child = plan_child(base, "n", None, {})
    child.work_dir.mkdir(parents=True)
    (child.work_dir / f"{child.name}.json").write_text(dump_config(child.resolved))
    with WorkDirLock(child.work_dir):
        before = {path: path.stat().st_mtime_ns for path in child.work_dir.rglob("*")}
        again = plan_child(base, "n", None, {}, resume="auto")
        assert again.name == child.name
        with pytest.raises(WorkDirInUse, match="in use by a training"):
            again.check()
        runs = experiments.plan_runs([experiments.Experiment(str(base), "n")], resume="auto")
        running.run_all(runs, console=Console(quiet=True), command=lambda run: ["false"])
        assert runs[0].state == "refused"
        assert before == {path: path.stat().st_mtime_ns for path in child.work_dir.rglob("*")}
    assert launching.running_holder(child.work_dir) is None


def test_a_training_refuses_a_work_dir_in_use_before_it_reads_data(base, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "check_config", lambda *_, **__: None)
    config = load_config(base)
    with WorkDirLock(tmp_path), pytest.raises(WorkDirInUse):
        training.train(config, tmp_path, Console(quiet=True))
    config.name = "../../x\n"
    with pytest.raises(ConfigError, match=r"name is .*; give the name of the run"):
        training.train(config, None, Console(quiet=True))


# ------------------------------------------------------------------------------------------------ several processes


def job(number: int, **more: str) -> dict[str, str]:
    return {"SLURM_JOB_ID": str(number), "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "localhost", **more}


def test_jobs_and_steps_have_ports_and_tokens_of_their_own():
    ports = [job_port(job(1_000_000 + i)) for i in range(100)]
    assert len(set(ports)) >= 98
    assert all(FIRST_PORT <= port < FIRST_PORT + PORTS <= 32768 for port in ports)
    one, other = job(1), job(1, SLURM_STEP_ID="1")
    assert job_port(one) != job_port(other)
    assert job_port(one) == job_port(job(1, SLURM_PROCID="1", SLURM_LOCALID="1"))
    tokens = {job_token("slurm", world, env) for world in (2, 3) for env in (one, other)}
    assert len(tokens) == 4


PROCESS = """
import os, sys
import torch
from mmseg.parallel.agreement import check_same_on_all_ranks, broadcast_from_first
from mmseg.parallel.distributed import process_group
from mmseg.errors import CheckpointError, run_as_script
torch.set_num_threads(1)

def main():
    with process_group("slurm") as process:
        def decide():
            if sys.argv[2] == "fail":
                raise CheckpointError("the first cannot decide")
            return "first" if process.is_main else "other"
        check_same_on_all_ranks({"optimizer.lr": sys.argv[1], "seed": 0}, "start all alike")
        print(broadcast_from_first(decide))

run_as_script(main)
"""


def start_process(folder: Path, rank: int, environment: dict[str, str], port: int, *words: str) -> Started:
    variables = {
        **environment,
        "SLURM_PROCID": str(rank),
        "SLURM_NTASKS": "2",
        "SLURM_LOCALID": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    # it ends before the script
    return server().start(folder, "tools/train.py", *words, before=PROCESS + "sys.exit(0)", **variables)


def ends(*processes: Started) -> list[tuple[int, str, str]]:
    try:
        return [(process.wait(120), process.stdout, process.stderr) for process in processes]
    finally:
        for process in processes:
            process.kill_session()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_jobs_at_one_port_do_not_train_into_each_other(tmp_path):
    port = free_port()
    first = start_process(tmp_path / "first", 0, job(1), port, "1", "go")
    stray = start_process(tmp_path / "stray", 1, job(2), port, "1", "go")
    ((status, _, errors),) = ends(stray)
    assert status == 2
    assert re.search(r"^error: at 127\.0\.0\.1:\d+ another training waits for its processes \(1 .*this is 2 ", errors)
    late = start_process(tmp_path / "late", 0, job(2), port, "1", "go")
    ((status, _, errors),) = ends(late)
    assert status == 2
    assert re.search(r"^error: 127\.0\.0\.1:\d+ is taken already.*set MASTER_PORT", errors)
    second = start_process(tmp_path / "second", 1, job(1), port, "1", "go")
    assert [end[:2] for end in ends(first, second)] == [(0, "first\n"), (0, "first\n")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            (("1", "go"), ("2", "go")),
            r"error: process 1, on .*, has other values .*optimizer\.lr: '2' instead of '1'; start all alike",
        ),
        ((("1", "fail"), ("1", "fail")), "error: the first cannot decide"),
    ],
)
def test_processes_that_disagree_end_with_one_message(tmp_path, words, message):
    port = free_port()
    found = ends(*(start_process(tmp_path / str(rank), rank, job(1), port, *words[rank]) for rank in (0, 1)))
    assert [end[0] for end in found] == [2, 2]
    assert re.search(message, found[0][2])
    assert found[1][2] == ""
