"""Time, remaining time and memory in the log and beside the bar, by a clock that the tests set."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from torch import nn

from mmseg.engine import training_loop
from mmseg.engine.progress import RECENT, WARM_UP, LogWindow, Pace, duration, log_line, remaining_text
from mmseg.engine.run_log import RunLog
from mmseg.engine.trainer import Trainer
from mmseg.engine.training_loop import Intervals, TrainingLoop
from mmseg.uda.cmda import StepResult
from mmseg.work_dir.layout import WorkDir


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        self.seconds += seconds


def test_nothing_is_foretold_from_the_first_iterations():
    clock = Clock()
    pace = Pace(clock=clock)
    for seconds in (90.0, 30.0):
        assert pace.remaining(100) is None
        clock.pass_(seconds)
        pace.tick()
    assert WARM_UP == 2
    assert pace.remaining(100) is None
    clock.pass_(2.0)
    pace.tick()
    assert pace.remaining(100) == pytest.approx(200)


def test_the_last_iterations_count():
    clock = Clock()
    pace = Pace(clock=clock)
    for number in range(10 + RECENT):
        clock.pass_(5.0 if number < 10 else 1.0)
        pace.tick()
    assert pace.seconds() == pytest.approx(1.0)


def test_a_metric_of_some_steps_is_averaged_over_these():
    window = LogWindow(Pace(clock=Clock()))
    for number in range(4):
        window.add({"loss": torch.tensor(1.0)} | ({"ce_fusion": torch.tensor(2.0)} if number % 2 else {}), 0.0)
    assert (window.means()["loss"], window.means()["ce_fusion"]) == (1.0, 2.0)


def test_pauses_are_part_of_what_remains_and_of_no_iteration():
    clock = Clock()
    pace = Pace(clock=clock)
    window = LogWindow(pace)
    for _ in range(10):
        clock.pass_(2.0)
        window.add({"loss": torch.tensor(1.0)}, 0.5)
        pace.tick()
    pace.hold()
    clock.pass_(30.0)
    assert window.means() == {"loss": 1.0, "time": 2.0, "data_time": 0.5}  # in a pause the clock is held
    pace.go_on()
    pace.go_on()
    assert window.means()["time"] == pytest.approx(2.0)
    assert pace.seconds() == pytest.approx(2.0)
    # an evaluation of 30 s every 10 iterations
    assert pace.remaining(20) == pytest.approx(20 * 2 + 2 * 30)


def test_a_pause_at_the_beginning_does_not_foretell_many():
    """The first iteration of every 500 draws a picture."""
    clock = Clock()
    pace = Pace(500, clock)
    for iteration in range(3):
        clock.pass_(0.5)
        pace.tick()
        if iteration == 0:
            pace.hold()
            clock.pass_(5.0)
            pace.go_on()
    assert pace.remaining(40_000) == pytest.approx(40_000 * 0.5 + 80 * 5.0)


def test_lines_for_people():
    assert log_line(1, 9, {"time": 30.0}, None) == "iteration 1/9: time 30"
    assert log_line(4, 9, {"time": 2.0, "lr": 1e-4}, 70.0) == "iteration 4/9: time 2, lr 0.0001, remaining 1 min 10 s"
    assert remaining_text(None) == ""
    assert [duration(s) for s in (0.4, 65, 7300, 90000)] == ["0 s", "1 min 5 s", "2 h 1 min", "1 d 1 h"]


class Timed(TrainingLoop):
    """A training whose iterations, checkpoints and evaluations take given times."""

    device = torch.device("cpu")

    def __init__(self, clock: Clock, seconds: list[float], intervals: Intervals, log: RunLog, folder: Path) -> None:
        self.clock, self.seconds = clock, seconds
        self.work_dir, self.log, self.intervals = WorkDir(folder), log, intervals
        self.batches, self.first, self.last = [None] * len(seconds), 0, len(seconds)

    def step(self, batch, iteration: int) -> StepResult:
        self.clock.pass_(self.seconds[iteration])
        return StepResult({"decode.loss_seg": torch.tensor(1.0)}, {})

    def write_checkpoint(self, done: int) -> None:
        self.clock.pass_(10.0)

    def evaluate(self, done: int) -> None:
        self.clock.pass_(100.0)

    def extra_metrics(self, done: int) -> dict[str, float]:
        return {}


class Bar:
    """Stands for the bar on a terminal, and keeps what it showed."""

    def __init__(self) -> None:
        self.shown: dict[int, str] = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def add_task(self, *args, **fields) -> int:
        return 0

    def update(self, task, completed=None, remaining=None, **fields) -> None:
        if completed is not None:
            self.shown[completed] = remaining


@pytest.fixture
def run(tmp_path, monkeypatch) -> SimpleNamespace:
    """Ten iterations, the first two slow, an evaluation of 100 s after 5 and 10, a checkpoint of 10 s after 4 and 8."""
    clock, bar = Clock(), Bar()
    monkeypatch.setattr(training_loop, "Pace", lambda period: Pace(period, clock))
    monkeypatch.setattr(training_loop, "progress_bar", lambda console: bar)
    log = RunLog(tmp_path, "run", Console(quiet=True), loggers=[])
    Timed(clock, [30.0, 10.0, *[2.0] * 8], Intervals(log=2, checkpoint=4, evaluation=5), log, tmp_path).run()
    log.close()
    lines = (tmp_path / "run.log").read_text().splitlines()
    records = [json.loads(line) for line in (tmp_path / "run.log.json").read_text().splitlines()]
    return SimpleNamespace(bar=bar.shown, lines=lines, records=records)


def test_time_of_a_training_is_that_of_its_iterations(run):
    assert {r["iter"]: r["time"] for r in run.records} == {1: 30.0, 2: 10.0, 4: 2.0, 6: 2.0, 8: 2.0, 10: 2.0}


def test_log_and_bar_show_one_remaining_time(run):
    logged = {r["iter"]: line for r, line in zip(run.records, (x for x in run.lines if "iteration " in x), strict=True)}
    assert "remaining" not in logged[1]
    assert "remaining" not in logged[2]
    assert [run.bar[done] for done in (1, 2)] == ["", ""]
    for done in (4, 6, 8):
        assert logged[done].endswith(run.bar[done])
    assert run.bar[4] == "remaining 12 s"
    # 4 iterations of 2 s, and after 6 iterations pauses of 110 s
    assert run.bar[6] == f"remaining {duration(4 * (2 + 110 / 6))}"


def test_memory_leaves_out_the_first_iteration(monkeypatch):
    """There cuDNN tries its algorithms."""
    peak = [34.0]
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: peak[0] * 2**30)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peak.__setitem__(0, 10.8))
    trainer = object.__new__(Trainer)
    trainer.device, trainer.first = torch.device("cuda"), 20
    trainer.optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.01)
    assert [trainer.extra_metrics(done).get("memory_gib") for done in (21, 30, 40)] == [None, 10.8, 10.8]
