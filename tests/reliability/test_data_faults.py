"""Damaged files: the message of a sample, and the effect of skipping."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN

from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.datasets.uda import SKIPPED, UDADataset
from mmseg.engine.data import batches, training_loader
from mmseg.errors import CMDAError, ConfigError, DataError
from mmseg.evaluation.evaluator import evaluate

LISTS = GOLDEN / "c10_dsec_txt"
CPU = torch.device("cpu")


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A copy of the mini data sets that a test may damage; its lists are relative to the working directory."""
    for name in ("cityscapes", "DSEC_Night"):
        shutil.copytree(GOLDEN / "mini" / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / "DSEC_Night")
    return tmp_path


def build(tree: Path, on_bad_sample: str = "raise", **target: object) -> UDADataset:
    outputs = {"warp_image", "events_vg", "warp_img_self_res"}
    night = DSECDataset(LISTS / "night_dataset_warp.txt", outputs, (400, 400), (64, 64), **target)
    day_outputs = {"image", "label", "img_time_res", "img_self_res"}
    day = CityscapesICDataset(str(tree / "cityscapes"), (256, 128), (64, 64), day_outputs)
    return UDADataset(day, night, seed=0, on_bad_sample=on_bad_sample)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def first(tree: Path, pattern: str) -> Path:
    return sorted(tree.glob(pattern))[0]


def cut_image(tree: Path) -> None:
    cut(first(tree, "cityscapes/leftImg8bit/train/*/*.png"))


def cut_warp_image(tree: Path) -> None:
    # the first of the train list
    cut(first(tree, "DSEC_Night/zurich_city_09_a/warp_images/000798.png"))


def remove_label(tree: Path) -> None:
    first(tree, "cityscapes/gtFine/train/*/*labelTrainIds.png").unlink()


def strange_label(tree: Path) -> None:
    shutil.copy(
        first(tree, "cityscapes/leftImg8bit_IC1/train/*/*.png"),
        first(tree, "cityscapes/gtFine/train/*/*labelTrainIds.png"),
    )


def folder_in_place_of_an_image(tree: Path) -> None:
    path = first(tree, "cityscapes/leftImg8bit_IC1/train/*/*.png")
    path.unlink()
    path.mkdir()


def pixels_outside(tree: Path) -> None:
    with h5py.File(tree / "DSEC_Night/zurich_city_09_a/events/left/events.h5", "r+") as file:
        file["events/x"][...] = 700


# damage during a training -> message
FAULTS = {
    cut_image: r"leftImg8bit/train/.*_leftImg8bit\.png is not a readable image",
    cut_warp_image: r"warp_images/000798\.png is not a readable image",
    remove_label: r"labelTrainIds\.png does not exist",
    strange_label: r"labelTrainIds\.png holds the values .* which are not train ids",
    folder_in_place_of_an_image: r"leftImg8bit_IC1/train/.*_leftImg8bit\.png is not a readable image",
    pixels_outside: r"events \d+\.\.\d+ of .*zurich_city_09_a/.*events\.h5 hold pixels outside 640x480",
}


@pytest.mark.parametrize("damage", FAULTS, ids=lambda f: f.__name__)
def test_a_bad_file_is_named(tree, damage):
    dataset = build(tree)
    damage(tree)
    with pytest.raises(DataError, match=FAULTS[damage]):
        list(map(dataset.__getitem__, range(60)))


@pytest.mark.parametrize("damage", FAULTS, ids=lambda f: f.__name__)
def test_a_bad_file_is_skipped_and_counted(tree, damage):
    """The replacement is also drawn from the number of the sample only."""
    whole, dataset, other = build(tree), build(tree, "skip"), build(tree, "skip")
    expected = [whole[number] for number in range(30)]
    for recording in whole.target.recordings.values():
        recording.close()
    damage(tree)
    found = [dataset[number] for number in range(30)]
    again = [other[number] for number in (29, 3)]
    skipped = [text for sample in found for text in sample[SKIPPED].splitlines()]
    assert skipped
    for text in skipped:
        assert re.search(FAULTS[damage], text)
    for sample, before in zip(found, expected, strict=True):
        if not sample[SKIPPED]:
            assert torch.equal(sample["source"]["image"], before["source"]["image"])
            assert torch.equal(sample["target"]["events_vg"], before["target"]["events_vg"])
    for number, sample in zip((29, 3), again, strict=True):
        assert torch.equal(sample["source"]["image"], found[number]["source"]["image"])
        assert torch.equal(sample["target"]["events_vg"], found[number]["target"]["events_vg"])


def test_skipping_ends_where_all_files_are_bad(tree):
    dataset = build(tree, "skip")
    for path in tree.glob("cityscapes/leftImg8bit/train/*/*.png"):
        cut(path)
    with pytest.raises(DataError, match=r"11 source samples in a row cannot be used, the last because: .*png is not a"):
        dataset[0]


def test_an_unknown_policy_is_refused(tree):
    with pytest.raises(ConfigError, match="on_bad_sample is 'ignore'; choose one of raise, skip"):
        build(tree, "ignore")


def test_damaged_h5_is_found_before_training(tree):
    cut(tree / "DSEC_Night/zurich_city_09_a/events/left/events.h5")
    with pytest.raises(DataError, match=r"zurich_city_09_a/.*events\.h5 is not a readable DSEC event file"):
        build(tree)


@pytest.mark.parametrize("damage", ["nan", "shape"])
def test_bad_rectify_map_is_found_before_training(tree, damage):
    path = tree / "DSEC_Night/zurich_city_09_b/events/left/rectify_map.h5"
    with h5py.File(path, "w" if damage != "nan" else "r+") as file:
        if damage == "nan":
            file["rectify_map"][7, 9, 1] = np.nan
        else:
            file["rectify_map"] = np.zeros((48, 64, 2), np.float32)
    message = {"nan": "1 of 307200 positions of rectify_map are not finite"}.get(
        damage, r"rectify_map has shape \(48, 64, 2\)"
    )
    with pytest.raises(DataError, match=rf"zurich_city_09_b/.*rectify_map\.h5: {message}"):
        build(tree)


def test_an_empty_window_is_left_out_and_said(tree):
    """Training skips frames whose window has no duration or no events; a test refuses them."""
    whole = build(tree).target
    start, finish = whole.windows[0]
    with h5py.File(tree / "DSEC_Night/zurich_city_09_a/events/left/events.h5", "r+") as file:
        file["events/t"][start : finish + 1] = file["events/t"][start]
    target = build(tree).target
    assert len(target) == len(whole) - 1
    assert "1 of 8 frames have no events to look back on (zurich_city_09_a frame" in target.left_out
    with pytest.raises(DataError, match="frames have no events"):
        DSECDataset(LISTS / "night_dataset_warp.txt", {"events_vg"})


def test_an_index_beyond_the_recording_is_refused(tree):
    text = (LISTS / "night_dataset_warp.txt").read_text().splitlines()
    path, _ = text[0].rsplit(" ", 1)
    (tree / "list.txt").write_text(f"{path} 999999999\n")
    with pytest.raises(DataError, match=r"events\.h5 ends before event 999999999, .*create_dsec_dataset_txt\.py"):
        DSECDataset(tree / "list.txt", {"events_vg"}, (400, 400))


@pytest.mark.parametrize("polarity", [0, 1])
def test_events_of_one_polarity_give_a_finite_sample(tree, polarity):
    for name in ("a", "b"):
        with h5py.File(tree / f"DSEC_Night/zurich_city_09_{name}/events/left/events.h5", "r+") as file:
            file["events/p"][...] = polarity
    sample = build(tree)[0]["target"]["events_vg"]
    assert sample.isfinite().all()
    assert sample.abs().max() <= 1
    assert sample.std() > 0


def test_what_is_not_finite_never_reaches_the_network(tree, monkeypatch):
    dataset = build(tree)
    sample = dataset.target.sample

    def broken(index, draw):
        result = sample(index, draw)
        result["events_vg"] = result["events_vg"] * float("inf")
        return result

    monkeypatch.setattr(dataset.target, "sample", broken)
    with pytest.raises(DataError, match=r"events_vg of target .*warp_images/.*\.png with events .* is not finite"):
        dataset[0]


class Deadly(UDADataset):
    """Kills the process that prepares sample 2, as the kernel does when out of memory."""

    def __getitem__(self, number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(number)


def test_a_worker_that_dies_names_what_it_read(tree):
    whole = build(tree)
    dataset = Deadly(whole.source, whole.target, seed=0)
    expected = dataset.describe(2)
    assert "source " in expected
    assert ".png, target " in expected
    with pytest.raises(CMDAError) as caught:
        for _ in batches(training_loader(dataset, 1, 2, range(6), CPU), CPU):
            pass
    assert f"it was reading {expected}." in str(caught.value)
    assert "lower data.workers_per_gpu" in str(caught.value)


def test_an_error_of_a_reader_is_no_traceback(tree, monkeypatch):
    dataset = build(tree)
    monkeypatch.setattr(dataset.source, "sample", lambda *_: 1 // 0)
    with pytest.raises(DataError, match=r"source .*png cannot be used \(ZeroDivisionError: .*replace the file"):
        dataset[0]


def test_skipped_files_are_told_of_with_workers(tree):
    dataset = build(tree, "skip")
    cut_image(tree)
    told = []
    count = sum(1 for _ in batches(training_loader(dataset, 2, 2, range(15), CPU), CPU, told.append))
    assert count == 15
    assert told
    assert all("is not a readable image" in text for text in told)


class RoadEverywhere:
    """A network that needs only the image."""

    def required_streams(self, output):
        return ("image",)

    def predict(self, inputs, output, size):
        return torch.zeros((1, *size), dtype=torch.int64)


def test_an_evaluation_leaves_out_what_it_is_allowed_to(tree):
    """If a training skips bad files, its evaluation does too; a separate test stops at them."""
    dataset = DSECDataset(LISTS / "night_test_dataset_warp.txt", {"warp_image", "label", "img_metas"})
    cut(dataset.frames[1].warp_image)
    out = tree / "out"
    with pytest.raises(DataError, match=r"\.png is not a readable image"):
        evaluate(RoadEverywhere(), dataset, "image", CPU, out)
    result = evaluate(RoadEverywhere(), dataset, "image", CPU, out, skip_bad_samples=True)
    assert (result.samples, len(result.left_out)) == (len(dataset) - 1, 1)
    assert f"on {len(dataset) - 1} images (1 left out)" in result.headline()
    assert "is not a readable image" in json.loads((out / "metrics.json").read_text())["left_out"][0]
    for frame in dataset.frames:
        frame.warp_image.unlink(missing_ok=True)
    message = "no frame of the test set is usable; the first: image .* does not exist"
    with pytest.raises(DataError, match=message):
        evaluate(RoadEverywhere(), dataset, "image", CPU, out, skip_bad_samples=True)
