"""Trainings that are killed, stopped and damaged, and go on as if nothing had happened."""

import io
import json
import os
import random
import re
import resource
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
import torch
from helpers.process_tools import Started, server, wait_until
from helpers.script_tools import PUBLISHED, ROOT, SMALL, run
from helpers.training_tools import QUICK, config_of
from rich.console import Console

from mmseg.apis import training
from mmseg.classes import CLASSES
from mmseg.config.load import effective, load_config
from mmseg.config.run import RunConfig
from mmseg.engine.checkpoint import checkpoint_to_test
from mmseg.engine.interruptions import Interrupted
from mmseg.engine.trainer import Trainer
from mmseg.engine.training_loop import Intervals
from mmseg.errors import CheckpointError, CMDAError
from mmseg.evaluation import validation
from mmseg.models.weights import has_right_checksums, load_file
from mmseg.uda.cmda import DACS
from mmseg.work_dir.layout import WorkDir

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(mini_project) -> Path:
    return mini_project


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(project: Path, work_dir: Path, **changes: object) -> Path:
    return training.train(config_of(project, **changes), work_dir, Console(quiet=True))


@pytest.fixture(scope="module")
def whole(project, tmp_path_factory) -> Path:
    """Work dir of four iterations in one go."""
    torch.set_num_threads(1)
    return train(project, tmp_path_factory.mktemp("whole") / "run")


def assert_same(one: Path, other: Path, iteration: int = 4) -> None:
    contents = [torch.load(folder / f"iter_{iteration}.pth", weights_only=True) for folder in (one, other)]
    states = [content["state_dict"] for content in contents]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    moments = [content["optimizer"]["state"] for content in contents]
    for number, values in moments[0].items():
        for name, value in values.items():
            assert torch.equal(value, moments[1][number][name])


def iterations_logged(work_dir: Path) -> list[int]:
    lines = (work_dir / f"{work_dir.name}.log.json").read_text().splitlines()
    return [record["iter"] for record in map(json.loads, lines) if record["mode"] == "train"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_before_it_stops(project, whole, tmp_path, monkeypatch, number):
    step = Trainer.step

    def interrupted(self, batch, iteration):
        if iteration == 2:
            os.kill(os.getpid(), number)
        return step(self, batch, iteration)

    monkeypatch.setattr(Trainer, "step", interrupted)
    before = signal.getsignal(number)
    with pytest.raises(
        Interrupted, match=r"interrupted after iteration 3; saved .*iter_3\.pth.*--resume auto"
    ) as caught:
        train(project, tmp_path / "run")
    assert caught.value.number == number
    assert signal.getsignal(number) is before
    monkeypatch.undo()
    train(project, tmp_path / "run", resume_from="auto")
    assert_same(whole, tmp_path / "run")
    assert iterations_logged(tmp_path / "run") == [1, 2, 3, 4]
    assert "other settings" not in (tmp_path / "run" / "run.log").read_text()


def test_an_interrupted_evaluation_is_repeated(project, tmp_path, monkeypatch):
    """A signal ends it at once; the resumed training begins with it."""

    def long_evaluation(*_args, **_options):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(validation, "evaluate", long_evaluation)
    changes = {"evaluation.interval": 1, "checkpoint_config.interval": 4, "runner.max_iters": 2}
    with pytest.raises(Interrupted, match="after iteration 1"):
        train(project, tmp_path / "run", **changes)
    run = WorkDir(tmp_path / "run")
    assert [path.name for path in run.checkpoints()] == ["iter_1.pth"]
    monkeypatch.undo()
    first = Path(shutil.copy(run.checkpoint(1), tmp_path))
    train(project, run.path, resume_from="auto", **changes)
    assert [evaluation.path.name for evaluation in run.existing_evaluations()] == ["iter_1", "iter_2"]
    # going back to an earlier checkpoint, the results of later ones are put aside
    shutil.copy(first, run.path)
    train(project, run.path, resume_from=str(run.checkpoint(1)), **changes)
    assert [path.name for path in run.evaluations.with_name("evaluations.before_1").iterdir()] == ["iter_2"]
    assert [evaluation.path.name for evaluation in run.existing_evaluations()] == ["iter_1", "iter_2"]
    # nothing is left to train, but the last evaluation is missing
    run.evaluation(2).metrics.unlink()
    console = Console(record=True, width=500, file=io.StringIO())
    training.train(config_of(project, resume_from="auto", **changes), run.path, console)
    assert f"its last evaluation is missing: test it with my_test.py --work-dir {run.path}" in console.export_text()


def test_an_error_in_a_step_takes_the_step_back(project, whole, tmp_path, monkeypatch):
    """Teacher and running statistics have changed by then; the state before is saved, bit for bit."""
    step = DACS.train_step

    def broken(self, batch, draws, backward):
        result = step(self, batch, draws, backward)
        if draws.iteration == 3:
            raise ZeroDivisionError("a mistake")
        return result

    monkeypatch.setattr(DACS, "train_step", broken)
    with pytest.raises(ZeroDivisionError, match="a mistake") as caught:
        train(project, tmp_path / "run", **{"checkpoint_config.interval": 4})
    assert re.fullmatch(r"saved .*iter_3\.pth\. Continue with --resume auto", caught.value.__notes__[0])
    monkeypatch.undo()
    train(project, tmp_path / "run", resume_from="auto")
    assert_same(whole, tmp_path / "run")


def test_the_exit_status_of_an_interrupted_script(project, tmp_path):
    """128 + the signal's number, which shells and batch systems know."""
    process = start_script(project, tmp_path / "run", **{"runner.max_iters": 500})
    try:
        wait_for(tmp_path / "run" / "run_identity.json", process)
        before = (tmp_path / "run" / "run_identity.json").read_text()
        second = start_script(project, tmp_path / "run", **{"runner.max_iters": 500})
        second.wait()
        assert f"in use by a training (process {process.number} on" in second.stderr  # two trainings do not mix
        assert (tmp_path / "run" / "run_identity.json").read_text() == before
        process.signal(signal.SIGTERM)
        status = process.wait()
    finally:
        process.kill_session()
    assert status == 128 + signal.SIGTERM
    assert "interrupted after iteration" in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr
    assert not WorkDir(tmp_path / "run").lock.exists()


def start_script(project: Path, work_dir: Path, **changes: object) -> Started:
    path = work_dir.parent / f"{work_dir.name}.config.json"
    config = config_of(project, **{"checkpoint_config.interval": 1, "data.workers_per_gpu": 1, **changes})
    path.write_text(json.dumps(config.to_dict(), default=list))
    folder = Path(tempfile.mkdtemp(dir=work_dir.parent, prefix="printed"))
    return server().start(folder, "tools/train.py", path, "--work-dir", work_dir, "--resume", "auto")


def wait_for(path: Path, process: Started) -> None:
    def there() -> bool:
        assert not process.ended(), process.stderr
        return path.exists()

    wait_until(there, 120)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_kill_9_at_random_moments(project, tmp_path, kills):
    """Whenever it is killed, the newest checkpoint is sound, none is lost, and the end is the same to the last bit."""
    iterations, rng, newest = 3 * kills, random.Random(0), 0
    work_dir = tmp_path / "run"
    changes = {"runner.max_iters": iterations, "checkpoint_config.max_keep_ckpts": 2}
    for _ in range(kills):
        process = start_script(project, work_dir, **changes)
        wait_for(work_dir / f"iter_{newest + 1}.pth", process)
        time.sleep(rng.uniform(0, 1.5))
        process.signal(signal.SIGKILL)
        process.wait(60)
        found = WorkDir(work_dir).checkpoints()
        assert all(map(has_right_checksums, found))
        last = int(found[-1].stem.removeprefix("iter_"))
        assert last > newest
        newest = last
        if newest == iterations:
            break
    process = start_script(project, work_dir, **changes)
    assert process.wait(600) == 0, process.stderr
    train(project, tmp_path / "whole", **changes)
    assert_same(tmp_path / "whole", work_dir, iterations)
    assert not list(work_dir.glob(".*.tmp*"))
    assert not WorkDir(work_dir).lock.exists()  # every kill left one


def test_a_damaged_checkpoint_is_passed_over(project, whole, tmp_path):
    work_dir = Path(shutil.copytree(whole, tmp_path / "run"))
    newest = work_dir / "iter_4.pth"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"iter_4\.pth is cut short or damaged.* the one before is .*iter_2\.pth"):
        train(project, work_dir, resume_from=str(newest), **{"runner.max_iters": 6})
    train(project, work_dir, resume_from="auto")
    assert "iter_4.pth in" in (work_dir / "run.log").read_text()
    assert_same(whole, work_dir)
    for path in WorkDir(work_dir).checkpoints():
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        CheckpointError, match=r"every checkpoint in .* is cut short or damaged \(iter_4.pth, iter_2.pth\)"
    ):
        train(project, work_dir, resume_from="auto")


def test_auto_starts_anew_without_a_checkpoint_and_rests_after_the_last(project, whole, tmp_path):
    train(project, tmp_path / "run", resume_from="auto")
    assert_same(whole, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    train(project, tmp_path / "run", resume_from="auto")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with pytest.raises(CheckpointError, match=r"iter_4\.pth is of another run, .*\(seed: 0 -> 5\)"):
        train(project, tmp_path / "run", resume_from="auto", seed=5)
    # of two runs in one folder, each is judged by its own checkpoints
    shutil.copy(tmp_path / "run" / "iter_4.pth", tmp_path / "run" / "iter_9.pth")
    train(project, tmp_path / "run")
    (tmp_path / "run" / "iter_4.pth").unlink()
    assert checkpoint_to_test(tmp_path / "run").name == "iter_2.pth"
    assert iterations_logged(tmp_path / "run") == [1, 2, 3, 4]
    train(project, tmp_path / "run", resume_from="auto")
    assert_same(whole, tmp_path / "run")
    text = (tmp_path / "run" / "run.log").read_text()
    assert "run.log.json.before_1, tensorboard.before_1" in text
    assert "iter_9.pth in" in text


def test_a_folder_to_resume_from(project, whole, tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no checkpoint iter_<n>\.pth to resume from"):
        train(project, tmp_path / "run", resume_from=str(tmp_path))
    with pytest.raises(CheckpointError, match=r"resume_from: .*nowhere does not exist"):
        train(project, tmp_path / "run", resume_from=str(tmp_path / "nowhere"))
    shutil.copytree(whole, tmp_path / "moved")
    (tmp_path / "moved" / "iter_4.pth").unlink()
    train(project, tmp_path / "run", resume_from=str(tmp_path / "moved"))
    assert_same(whole, tmp_path / "run")


def test_other_settings_are_said(project, whole, tmp_path):
    changes = {"seed": 5, "optimizer.lr": 1e-4, "log_config.interval": 2, "runner.max_iters": 5}
    train(project, tmp_path / "run", resume_from=str(whole / "iter_2.pth"), **changes)
    (line,) = (x for x in (tmp_path / "run" / "run.log").read_text().splitlines() if "other settings" in x)
    assert "optimizer.lr: 6e-05 -> 0.0001" in line
    assert "runner.max_iters: 4 -> 5" in line
    assert "seed: " in line
    assert "log_config" not in line


def test_a_full_disk_costs_no_checkpoint(project, whole, tmp_path):
    """A limit on the size of files stands for the disk; it lets the first checkpoint pass and no later one."""
    work_dir = tmp_path / "run"
    shutil.copytree(whole, work_dir)
    (work_dir / "iter_4.pth").unlink()
    before = (work_dir / "iter_2.pth").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"iter_4\.pth cannot be written .*free space there"):
            train(project, work_dir, resume_from="auto", **{"checkpoint_config.interval": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "iter_3.pth cannot be written" in (work_dir / "run.log").read_text()  # and the training went on
    assert [path.name for path in WorkDir(work_dir).checkpoints()] == ["iter_2.pth"]
    assert (work_dir / "iter_2.pth").read_bytes() == before
    assert not list(work_dir.glob(".*tmp*"))
    train(project, work_dir, resume_from="auto")
    assert_same(whole, work_dir)


def test_the_best_is_kept(project, tmp_path, monkeypatch):
    scores = iter([0.2, 0.5, 0.4])

    class Scores:
        iou, names = [0.5] * len(CLASSES), CLASSES

        def __init__(self):
            self.value = next(scores)

        def summary(self):
            return {"mIoU": self.value / 2, "mIoU_18": self.value}

    class Result:
        output, left_out = "fusion", ()

        def __init__(self):
            self.scores = Scores()

        def headline(self):
            return "scores"

    monkeypatch.setattr(validation, "evaluate", lambda *_args, **_options: Result())
    monkeypatch.setattr(validation, "score_table", lambda *_: "table")
    train(project, tmp_path / "run", **{"evaluation.interval": 1, "runner.max_iters": 3})
    assert [path.name for path in (tmp_path / "run").glob("best_*")] == ["best_mIoU_18_iter_2.pth"]
    content = load_file(WorkDir(tmp_path / "run").best_checkpoints()[-1])
    assert content["meta"]["mIoU_18"] == 0.5
    assert {name.split(".")[0] for name in content["state_dict"]} >= {"model", "ema_model"}
    assert "optimizer" not in content


def test_a_loss_that_is_not_finite_stops_with_its_batch(project, tmp_path, monkeypatch):
    step = DACS.train_step

    def broken(self, batch, draws, backward):
        result = step(self, batch, draws, backward)
        if draws.iteration == 1:
            result.logs["decode.loss_seg"] = result.logs["decode.loss_seg"] * float("nan")
        return result

    monkeypatch.setattr(DACS, "train_step", broken)
    with pytest.raises(CMDAError, match=r"stopped at iteration 2: decode.loss_seg nan.*nonfinite_iter_2\.pth"):
        train(project, tmp_path / "run", **{"checkpoint_config.interval": 1})
    assert [path.name for path in WorkDir(tmp_path / "run").checkpoints()] == ["iter_1.pth"]
    kept = load_file(tmp_path / "run" / "nonfinite_iter_2.pth")
    assert kept["iter"] == 2
    assert kept["batch"]["source"]["image"].shape == (2, 3, 64, 64)
    assert len(kept["samples"]) == 2
    assert "source " in kept["samples"][0]


def test_short_memory_names_the_remedies(project, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(DACS, "train_step", full)
    with pytest.raises(
        CMDAError, match=r"out of memory \(CUDA out of memory.*gradient_checkpointing=True, micro_batch=1"
    ):
        train(project, tmp_path / "run")


def test_skipped_samples_are_reported_at_the_end(project, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(project / "data" / "cityscapes", data / "cityscapes")
    images = sorted((data / "cityscapes" / "leftImg8bit" / "train").glob("*/*.png"))
    for image in images[:3]:
        image.write_bytes(image.read_bytes()[:2000])
    changes = {"data.train.on_bad_sample": "skip", "runner.max_iters": 5, "data.train.rare_class_sampling": "none"}
    changes["data.workers_per_gpu"] = 1
    config = config_of(project, **changes)
    config.data.train.source.dataset_path = str(data / "cityscapes")
    training.train(config, tmp_path / "run", Console(quiet=True))
    text = (tmp_path / "run" / "run.log").read_text()
    assert "left out a sample: " in text
    assert "samples were left out, for " in text
    assert " times: " in text
    assert (tmp_path / "run" / "iter_5.pth").is_file()


def test_a_crash_costs_no_more_than_the_time_since_the_last_evaluation():
    """The published configs write a checkpoint at the end alone."""
    intervals = Intervals.of_run(RunConfig.from_config(effective(load_config(ROOT / PUBLISHED))))
    assert (intervals.checkpoint, intervals.safety) == (40000, 4000)
    without = load_config(ROOT / PUBLISHED, {"checkpoint_config.max_keep_ckpts": None})
    assert Intervals.of_run(RunConfig.from_config(effective(without))).safety == 0


def test_the_launcher_goes_on_with_its_newest_run(project, tmp_path):
    arguments = ["--root_path", project, "--base_config", ROOT / PUBLISHED, "--name", "again", "--resume", "auto"]
    values = {**SMALL, **QUICK, "checkpoint_config.interval": 1, "runner.max_iters": 2}
    options = [f"{key}={value}" for key, value in values.items()]
    run("my_run_experiments.py", *arguments, "--cfg-options", *options, cwd=tmp_path)
    (work_dir,) = (tmp_path / "work_dirs" / "local-basic").iterdir()
    expected = (work_dir / "iter_2.pth").read_bytes()
    (work_dir / "iter_2.pth").unlink()
    result = run("my_run_experiments.py", *arguments, "--cfg-options", *options, cwd=tmp_path)
    assert "resumed after iteration 1" in result.stdout
    assert [path.name for path in (tmp_path / "work_dirs" / "local-basic").iterdir()] == [work_dir.name]
    assert len((work_dir / "iter_2.pth").read_bytes()) == len(expected)
    # other settings are another run
    run("my_run_experiments.py", *arguments, "--cfg-options", *options, "seed=3", cwd=tmp_path)
    assert len(list((tmp_path / "work_dirs" / "local-basic").iterdir())) == 2
