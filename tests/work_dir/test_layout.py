"""Names of runs and of the files in their folders: every name that is made can be parsed, and other names are not."""

import os
from pathlib import Path

import pytest

from mmseg.errors import ConfigError
from mmseg.work_dir.layout import (
    TestFolder,
    WorkDir,
    experiment_of,
    is_run_of,
    iteration_at_end,
    iteration_of,
    new_run_name,
)

RUN = "240131_0915_cs2dsec_b5_0a1bc"


@pytest.mark.parametrize("experiment", ["cmda", "cs2dsec_b5", "a b", "261122_1200_x_0a1b2"])
def test_a_new_name_can_be_parsed(experiment):
    name = new_run_name(experiment)
    assert experiment_of(name) == experiment
    assert experiment_of(f"{name}[best]") == experiment
    assert is_run_of(name, experiment)
    assert not is_run_of(f"{name}[best]", experiment)
    assert not is_run_of(name, f"{experiment}x")
    assert new_run_name(experiment) != name


@pytest.mark.parametrize("name", ["run", "24013_0915_x_0a1bc", "240131_0915_x_0a1bg", "240131_0915__0a1bc", f"{RUN}x"])
def test_other_names_stay(name):
    assert experiment_of(name) == name
    assert not is_run_of(name, "x")


@pytest.mark.parametrize(
    ("name", "iteration"),
    [("iter_0.pth", 0), ("iter_40000.pth", 40000), ("iter_4.pth.tmp", -1), ("best_mIoU_iter_4.pth", -1), ("x.pth", -1)],
)
def test_iteration_of_a_checkpoint(name, iteration):
    assert iteration_of(Path("run") / name) == iteration


@pytest.mark.parametrize(
    ("text", "iteration"),
    [("run/iter_40.pth", 40), ("best_mIoU_iter_40.pth", 40), ("run/iter_40/x.pth", None), ("", None), ("None", None)],
)
def test_iteration_at_the_end_of_a_path(text, iteration):
    assert iteration_at_end(text) == iteration


def test_paths_of_a_run():
    run = WorkDir(Path("runs") / RUN)
    assert os.fspath(run) == str(run) == f"runs/{RUN}"
    assert run.new_config == Path(f"runs/{RUN}/{RUN}.json")
    assert [run.text_log.name, run.json_log.name] == [f"{RUN}.log", f"{RUN}.log.json"]
    assert run.checkpoint(40000).name == "iter_40000.pth"
    assert run.best_checkpoint("mIoU_18", 40).name == "best_mIoU_18_iter_40.pth"
    assert [run.broken_batch(7).name, run.broken_batch(7, 2).name] == [
        "nonfinite_iter_7.pth",
        "nonfinite_iter_7_rank2.pth",
    ]
    assert run.picture(400) == Path(f"runs/{RUN}/pictures/iter_000400.png")
    assert run.evaluation(400).metrics == Path(f"runs/{RUN}/evaluations/iter_400/metrics.json")
    assert run.predictions().path == Path(f"runs/{RUN}/preds")
    assert run.predictions(("teacher", "image")).path.name == "preds_teacher_image"
    assert WorkDir("runs/x", "style_transfer").json_log == Path("runs/x/style_transfer.log.json")


def test_existing_files_are_found_in_order(tmp_path):
    run = WorkDir(tmp_path / "run")
    assert run.checkpoints() == run.best_checkpoints() == run.existing_evaluations() == run.existing_predictions() == []
    for path in (run.checkpoint(10), run.checkpoint(9), run.best_checkpoint("mIoU", 9), run.broken_batch(3)):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    run.checkpoint(11).mkdir()
    (run.path / "iter_x.pth").touch()
    for folder in (run.evaluation(10), run.evaluation(9), run.predictions(("image",)), run.predictions()):
        folder.path.mkdir(parents=True)
        folder.metrics.touch()
    run.evaluation(8).path.mkdir()
    assert [path.name for path in run.checkpoints()] == ["iter_9.pth", "iter_10.pth"]
    assert [path.name for path in run.best_checkpoints()] == ["best_mIoU_iter_9.pth"]
    assert [folder.path.name for folder in run.existing_evaluations()] == ["iter_9", "iter_10"]
    assert [folder.path.name for folder in run.existing_predictions()] == ["preds", "preds_image"]


@pytest.mark.parametrize("folder", [RUN, f"{RUN}[best]"])
def test_config_of_a_folder_that_got_a_note(tmp_path, folder):
    run = WorkDir(tmp_path / folder)
    run.path.mkdir()
    assert run.find_config() is None
    assert not run.holds_run()
    (run.path / f"{RUN}.json").write_text("{}")
    assert run.find_config() == run.config == run.path / f"{RUN}.json"
    assert run.holds_run()
    # a file with the whole name counts first
    run.new_config.write_text("{}")
    assert run.config == run.new_config


def test_work_dir_that_is_not_a_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"work dir .*nowhere does not exist"):
        WorkDir(tmp_path / "nowhere").find_config()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file; give its folder"):
        WorkDir(tmp_path / "file").find_config()


def test_results_of_a_test(tmp_path):
    folder = TestFolder(tmp_path)
    written = [folder.metrics, folder.details, folder.report, folder.archive, folder.prediction("night_1.2")]
    assert all(map(folder.holds_result, written))
    assert folder.panel("night_1.2") == tmp_path / "panels" / "night_1.2.png"
    folder.color.mkdir()
    assert folder.holds_result(folder.color)
    assert not folder.holds_result(tmp_path / "notes.txt")
    (tmp_path / "mine").mkdir()
    assert not folder.holds_result(tmp_path / "mine")
    (tmp_path / "linked").mkdir()
    folder.panels.symlink_to(tmp_path / "linked")
    assert not folder.holds_result(folder.panels)
