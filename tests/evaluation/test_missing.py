"""Tests without a modality: zeros at the input of the network, their folders, and how they are compared."""

from types import SimpleNamespace

import pytest
import torch
from helpers.golden_tools import GOLDEN
from helpers.network_tools import make_network, write_list
from helpers.run_tools import make_run, metrics, write

from mmseg.apis import testing
from mmseg.errors import ConfigError
from mmseg.evaluation.missing import falls, missing_streams, with_zeros
from mmseg.models.segmentors.fusion_encoder_decoder import OUTPUT_STREAMS
from mmseg.report.comparison import comma_separated, compare, markdown, read_run
from mmseg.work_dir.metrics_file import read_metrics
from mmseg.work_dir.results import TestChoices, results_folder

DSEC = {"image": "warp_image", "events": "events_vg", "img_self_res": "warp_img_self_res"}
ZURICH = {"image": "image", "events": "night_isr", "img_self_res": "night_isr"}
MODEL = SimpleNamespace(required_streams=OUTPUT_STREAMS.__getitem__)


@pytest.mark.parametrize(
    ("streams", "output", "without", "missing"),
    [
        (DSEC, "fusion", "", set()),
        (DSEC, "fusion", "events", {"events"}),
        (DSEC, "fusion", "image", {"image"}),
        # a content map is made from the image
        (DSEC, "fusion_all", "image", {"image", "img_self_res"}),
        (DSEC, "fusion_all", "events", {"events"}),
        (DSEC, "image", "events", None),
        (DSEC, "image", "image", None),
        (DSEC, "events", "events", None),
        (DSEC, "fusion_isr", "image", None),
        (ZURICH, "fusion", "events", None),
        (ZURICH, "fusion", "image", None),
        (DSEC, "fusion", "lidar", None),
    ],
)
def test_which_inputs_fail(streams, output, without, missing):
    dataset = SimpleNamespace(TEST_STREAMS=streams)
    if missing is None:
        with pytest.raises(ConfigError, match=f"--without {without}"):
            missing_streams(without, MODEL, dataset, output)
    else:
        assert missing_streams(without, MODEL, dataset, output) == missing


def test_zeros_take_the_place_of_an_input():
    streams = {"image": torch.ones(1, 3, 4, 4), "events": torch.ones(1, 3, 4, 4)}
    given = with_zeros(streams, frozenset({"events"}))
    assert given["image"] is streams["image"]
    assert not given["events"].any()
    assert streams["events"].all()


def test_folders():
    assert results_folder("run", TestChoices(without="events")).name == "preds_without_events"
    chosen = TestChoices(output="fusion", without="image", tta="flip,0.75,1")
    assert results_folder("run", chosen).name == "preds_fusion_without_image_tta_flip_0.75_1"


def test_fall_of_scores():
    complete = {"mIoU": 0.5, "mIoU_18": None, "mDice": 0.7, "aAcc": 0.9}
    assert falls(complete, {"mIoU": 0.3, "mIoU_18": 0.2, "mDice": 0.1, "aAcc": None}) == {"mIoU": (0.5, 0.3)}


def test_comparison_has_a_column_for_each_modality(tmp_path):
    runs = [make_run(tmp_path, "cmda", seed, last=0.5) for seed in (0, 1)]
    for run, value in zip(runs, (0.3, 0.4), strict=True):
        of = metrics(value - 0.01, 0.5, iteration=4, without="events", complete={"mIoU": 0.5})
        write(run / "preds_without_events" / "metrics.json", of)
    write(runs[0] / "preds_image_x" / "metrics.json", metrics(0.1, 0.1, "image", iteration=4, without="image"))
    rows = compare([read_run(run) for run in runs])
    assert [(row.output, row.missing) for row in rows] == [
        ("fusion", {"events": pytest.approx([30, 40])}),
        ("image", {"image": pytest.approx([11])}),
    ]
    # the scores with all inputs are not those without
    assert rows[0].final["mIoU"] == [50.0, 50.0]
    first = markdown(rows).splitlines()[0]
    assert first.endswith("| best mIoU of 18 | mIoU without events | mIoU without image |")
    assert "35.00 ± 7.07 | - |" in markdown(rows)
    assert "mIoU without events,mIoU without events sd" in comma_separated(rows).splitlines()[0]
    (row,) = compare([read_run(make_run(tmp_path, "other"))])
    assert "without" not in markdown([row])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Work dir of a network with random weights."""
    small = {"data.test.test_resize_size": (64, 96)}
    return make_network(tmp_path_factory.mktemp("networks") / "dsec", "cmda_toy_city", **small)["config"].parent


def test_scores_fall_without_a_modality(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(GOLDEN / "mini" / "DSEC_Night")
    write_list(tmp_path / "list.txt", "000797")
    seen = []
    start = testing.Predictor.begin

    def begin(self, streams, *arguments):
        seen.append([name for name, stream in streams.items() if stream.any()])
        return start(self, streams, *arguments)

    monkeypatch.setattr(testing.Predictor, "begin", begin)
    monkeypatch.setattr(testing, "report_of_test", str)
    options = {"cfg_options": {"data.test.dataset_txt_path": str(tmp_path / "list.txt")}, "panels": False}
    testing.test_work_dir(run_folder, without="events", out_dir=tmp_path / "own", **options)
    assert [sorted(each) for each in seen] == [["events", "image"], ["image"]]
    complete, without = (read_metrics(tmp_path / name / "metrics.json") for name in ("own_complete", "own"))
    assert (complete["without"], without["without"]) == ("", "events")
    assert without["complete"] == complete["scores"]
    assert without["scores"] != complete["scores"]
    out = capsys.readouterr().out
    assert f"the test with all inputs comes first, into {tmp_path / 'own_complete'}" in out
    assert "without events: how far scores fall" in out
    # now its results are there
    seen.clear()
    monkeypatch.setattr(testing, "results_folder", lambda _, choices: tmp_path / (choices.without or "own_complete"))
    testing.test_work_dir(run_folder, without="image", **options)
    assert seen == [["events"]]
    assert "without the image: how far scores fall" in capsys.readouterr().out
