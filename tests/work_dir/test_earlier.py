"""Results of an earlier run, or of iterations that a run repeats, are kept under another name."""

import json

import pytest

from mmseg.work_dir.earlier import put_later_aside, put_run_aside
from mmseg.work_dir.layout import WorkDir


@pytest.fixture
def run(tmp_path):
    """Evaluations after 4 and 8 iterations, and tests of both checkpoints and of weights of unknown origin."""
    run = WorkDir(tmp_path / "run")
    tests = {
        run.evaluation(4): {"iteration": 4},
        run.evaluation(8): {"iteration": 8},
        run.predictions(): {"checkpoint": "run/iter_8.pth"},
        run.predictions(("image",)): {"checkpoint": "run/iter_4.pth"},
        run.predictions(("teacher",)): {"checkpoint": "published.pth"},
    }
    for test, content in tests.items():
        test.path.mkdir(parents=True)
        test.metrics.write_text(json.dumps({**content, "scores": {}}))
    return run


def names(run):
    return [test.path.name for test in (*run.existing_evaluations(), *run.existing_predictions())]


def test_later_results(run):
    assert put_later_aside(run, 4) == ("evaluations.before_1", "preds.before_1")
    assert names(run) == ["iter_4", "preds_image", "preds_teacher"]
    assert (run.path / "evaluations.before_1" / "iter_8" / "metrics.json").is_file()
    assert put_later_aside(run, 4) == ()


def test_an_unreadable_test_stays(run):
    run.predictions().metrics.write_text("{")
    assert put_later_aside(run, 8) == ()
    assert len(names(run)) == 5


def test_results_of_an_earlier_run(run):
    run.json_log.touch()
    moved = {f"{name}.before_1" for name in (run.json_log.name, "evaluations", "preds", "preds_image", "preds_teacher")}
    assert set(put_run_aside(run)) == moved
    assert names(run) == []
