"""Where the results of a test go, and that those of another test are kept."""

import json
from pathlib import Path

import pytest

from mmseg.errors import ConfigError
from mmseg.report.comparison import read_run
from mmseg.work_dir.results import TestChoices, results_folder, set_aside

TESTED = {
    "checkpoint": "run/iter_4000.pth",
    "model": "student",
    "config": "run/run.json",
    "options": {},
    "mode": "whole",
    "test_set": {"type": "DSECDataset", "dataset_txt_path": "list.txt", "outputs": {"warp_image", "events_vg"}},
}


def write(folder: Path, **changes) -> Path:
    folder.mkdir()
    content = {**TESTED, "output": "fusion", "scores": {"mIoU": 0.5}, **changes}
    content["test_set"] = {**content["test_set"], "outputs": ["events_vg", "warp_image"]}
    (folder / "metrics.json").write_text(json.dumps(content))
    (folder / "frame.png").touch()
    (folder / "color").mkdir()
    return folder


def test_default_folder_is_named_by_what_was_chosen():
    assert results_folder("run", TestChoices()) == Path("run/preds")
    assert results_folder("run", TestChoices("teacher", "image")) == Path("run/preds_teacher_image")
    named = results_folder("run", TestChoices(image_isr=True, train_isr_parms=True, split="test"))
    assert named == Path("run/preds_image_isr_train_isr_parms_test")
    assert results_folder("run", TestChoices(cfg_options={})) == Path("run/preds")


def test_options_have_a_folder_each():
    options = [
        {"data.test.events_clip_range": (0.1, 0.2)},
        {"data.test.events_clip_range": (0.1, 0.3)},
        {"data.test.image_change_range": 2},
        {"model.test_cfg.mode": "slide", "model.test_cfg.stride": (10, 10)},
    ]
    folders = {results_folder("run", TestChoices(cfg_options=given)) for given in options}
    assert len(folders) == 4
    assert all(folder.name.startswith("preds_options_") for folder in folders)
    # The order on the command line does not matter.
    assert results_folder("run", TestChoices(cfg_options=dict(reversed(options[3].items())))) in folders


def test_the_same_test_again_takes_its_place(tmp_path):
    assert set_aside(write(tmp_path / "preds"), TESTED, "fusion") is None
    assert [path.name for path in tmp_path.iterdir()] == ["preds"]


@pytest.mark.parametrize(
    ("changes", "output"),
    [
        ({"checkpoint": "run/iter_8000.pth"}, "fusion"),
        ({"options": {"data.test.image_change_range": 2}}, "fusion"),
        ({"mode": "slide"}, "fusion"),
        ({"windows": {"crop_size": (64, 64), "stride": (32, 32)}}, "fusion"),
        ({"model": "teacher"}, "fusion"),
        ({"test_set": {**TESTED["test_set"], "dataset_txt_path": "other/list.txt"}}, "fusion"),
        ({"test_set": {**TESTED["test_set"], "root_path": "other"}}, "fusion"),
        ({}, "image"),
    ],
)
def test_results_of_another_test_are_kept(tmp_path, changes, output):
    before = (write(tmp_path / "preds") / "metrics.json").read_bytes()
    (tmp_path / "preds_iter_4000").mkdir()
    kept = set_aside(tmp_path / "preds", {**TESTED, **changes}, output)
    assert kept == tmp_path / "preds_iter_4000_2"
    assert (kept / "metrics.json").read_bytes() == before
    assert not (tmp_path / "preds").exists()


def test_the_same_checkpoint_by_another_path_is_the_same(tmp_path):
    write(tmp_path / "preds")
    assert set_aside(tmp_path / "preds", {**TESTED, "checkpoint": "/data/run/iter_4000.pth"}, "fusion") is None


def test_results_of_earlier_versions_had_no_options(tmp_path):
    folder = write(tmp_path / "preds")
    content = json.loads((folder / "metrics.json").read_text())
    del content["options"], content["mode"]
    (folder / "metrics.json").write_text(json.dumps(content))
    assert set_aside(folder, TESTED, "fusion") is None
    assert set_aside(folder, {**TESTED, "mode": "slide"}, "fusion") is not None


def test_files_of_the_user_are_not_moved(tmp_path):
    write(tmp_path / "preds")
    (tmp_path / "preds" / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"preds holds the results of another test, and notes\.txt; choose another"):
        set_aside(tmp_path / "preds", TESTED, "image")
    assert (tmp_path / "preds" / "metrics.json").is_file()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", '{"checkpoint": 3}'])
def test_odd_metrics_do_not_stop_a_test(tmp_path, content):
    (tmp_path / "preds").mkdir()
    (tmp_path / "preds" / "metrics.json").write_text(content)
    set_aside(tmp_path / "preds", TESTED, "fusion")


def test_comparison_tells_options_apart_and_takes_the_later_of_two(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    write(run / "preds_iter_4000", scores={"mIoU": 0.1}, per_class={})
    write(run / "preds", scores={"mIoU": 0.2}, per_class={})
    write(run / "preds_options_123456", options={"data.test.image_change_range": 2}, scores={"mIoU": 0.3}, per_class={})
    scores = read_run(run).scores
    assert {key: [score.means["mIoU"] for score in found] for key, found in scores.items()} == {
        ("student", "fusion"): [20.0],
        ("student", "fusion (data.test.image_change_range=2)"): [30.0],
    }
