"""Pseudo-labels on disk: files of every image, runs that go on, and results that are never mixed."""

import json

import cv2
import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN
from helpers.network_tools import ROOT, make_network, write_list
from helpers.report_tools import HEIGHT, WIDTH, Streets
from PIL import Image

from mmseg.apis import testing
from mmseg.config.load import load_config
from mmseg.engine.prediction import Predictor
from mmseg.errors import ConfigError, DataError
from mmseg.evaluation.pseudo_labels import identity, write_pseudo_labels
from mmseg.evaluation.test_set import choose_test_set
from mmseg.registry import DATASETS
from mmseg.work_dir.layout import TestFolder
from mmseg.work_dir.results import TestChoices, results_folder, set_aside, set_aside_pseudo_labels

CPU = torch.device("cpu")
SIZE = (HEIGHT, WIDTH)
MINI = GOLDEN / "mini"
DSEC = "configs/fusion/cs2dsec_image+events_together_b5.py"
RECORD = {"checkpoint": "run/iter_4.pth", "config": "a.json", "output": "fusion", "weights": "12", "images": "34"}


class Night(Streets):
    """Unlabelled frames; one of them may be unusable."""

    broken = None

    def __init__(self):
        super().__init__(4, labelled=False)
        self.read = []

    def describe(self, index):
        return f"night_{index:02d}"

    def __getitem__(self, index):
        if index == self.broken:
            raise DataError(f"night_{index:02d}.png cannot be read")
        self.read.append(index)
        return super().__getitem__(index)


class Constant:
    """Stands for a segmentor: one class, with a probability of 0.6."""

    def __init__(self, label):
        self.label = label

    def required_streams(self, _):
        return ("image", "events")

    def predict_with_confidence(self, streams, _output, size):
        return torch.full((1, *size), self.label), torch.full((1, *size), 0.6)


def write(folder, night, label=3):
    return write_pseudo_labels(Predictor(Constant(label), CPU), night, "fusion", folder)


def labels(folder):
    return {path.stem: int(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).max()) for path in folder.glob("*.png")}


def test_files_of_every_image(tmp_path):
    result = write(tmp_path, Night())
    assert (result.samples, result.before, result.confidence) == (4, 0, pytest.approx(0.6))
    for name in (f"night_0{number}" for number in range(4)):
        label, confidence, overlay = (np.array(Image.open(path)) for path in TestFolder(tmp_path).pseudo_label(name))
        assert (label.shape, label.dtype, np.unique(label).tolist()) == (SIZE, np.uint8, [3])
        assert (confidence.shape, np.unique(confidence).tolist()) == (SIZE, [153])
        assert overlay.shape == (*SIZE, 3)
    lines = [json.loads(line) for line in (tmp_path / "frames.jsonl").read_text().splitlines()]
    assert sorted((line["index"], line["name"]) for line in lines) == [(i, f"night_0{i}") for i in range(4)]
    assert not list(tmp_path.rglob("*tmp*"))


def test_run_goes_on_where_it_stopped(tmp_path):
    night = Night()
    night.broken = 2
    with pytest.raises(DataError, match="night_02"):
        write(tmp_path, night)
    assert "night_02" not in labels(tmp_path)
    # the line of one image was cut off, the overlay of another removed
    frames = tmp_path / "frames.jsonl"
    frames.write_text(frames.read_text() + '{"index": 3, "na')
    complete = {json.loads(line)["index"] for line in frames.read_text().splitlines()[:-1]}
    assert complete <= {0, 1}
    (tmp_path / "overlay" / "night_00.png").unlink()
    night.broken, night.read = None, []
    result = write(tmp_path, night, label=5)
    assert result.before == len(complete - {0})
    assert night.read == [index for index in range(4) if index not in complete - {0}]
    assert labels(tmp_path) == {f"night_0{i}": 3 if i in complete - {0} else 5 for i in range(4)}
    assert len(frames.read_text().splitlines()) == 4
    # nothing is left to do
    night.read = []
    assert (write(tmp_path, night).before, night.read) == (4, [])


def test_images_and_content_of_the_checkpoint_decide(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"1")
    first = identity(Night(), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(b"1")
    assert identity(Night(), tmp_path / "b.pth") == first
    (tmp_path / "b.pth").write_bytes(b"2")
    assert identity(Night(), tmp_path / "b.pth")["weights"] != first["weights"]
    with pytest.raises(ConfigError, match="cannot be read"):
        identity(Night(), tmp_path / "none.pth")


def test_results_are_never_mixed(tmp_path):
    folder = tmp_path / "labels"
    assert set_aside_pseudo_labels(folder, RECORD) is None
    (folder / "a.png").touch()
    # the same checkpoint by another path
    assert set_aside_pseudo_labels(folder, {**RECORD, "checkpoint": "/x/run/iter_4.pth"}) is None
    for changes in ({"weights": "13"}, {"images": "35"}, {"output": "image"}, {"tta": "flip"}):
        (folder / "a.png").touch()
        kept = set_aside_pseudo_labels(folder, {**RECORD, **changes})
        assert (kept / "a.png").is_file()
        assert [path.name for path in folder.iterdir()] == ["pseudo_labels.json"]
    # a test in their place, and pseudo-labels in place of a test
    assert set_aside(folder, {"checkpoint": "iter_4.pth"}, "fusion").is_dir()
    folder.mkdir()
    (folder / "metrics.json").write_text("{}")
    assert set_aside_pseudo_labels(folder, RECORD) == tmp_path / "labels_before"
    (folder / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"notes\.txt; choose another folder"):
        set_aside_pseudo_labels(folder, {**RECORD, "weights": "13"})
    (folder / "notes.txt").unlink()
    for broken in ("", "[]", '{"checkpoint": 7}'):
        (folder / "pseudo_labels.json").write_text(broken)
        assert set_aside_pseudo_labels(folder, RECORD) is not None


def chosen(config, **choices):
    config = load_config(ROOT / config)
    choose_test_set(config, TestChoices(pseudo_labels=True, **choices))
    return config.data.test


def test_the_target_of_the_training(tmp_path):
    test_set = chosen(DSEC, split="train")
    assert (test_set.dataset_txt_path, test_set.skip_frames_without_events) == ("./night_dataset_warp.txt", True)
    assert "label" not in test_set.outputs
    assert "crop_size" not in test_set
    test_set = chosen("configs/fusion/cs2dz_image+raw-isr_b5.py", split="train")
    assert (test_set.split, test_set.test_mode) == ("train", True)
    config = load_config(ROOT / DSEC)
    config.data.train.target.type = "DarkZurichICDataset"
    with pytest.raises(ConfigError, match=r"--split train: data.train.target.type is 'DarkZurichICDataset' and"):
        choose_test_set(config, TestChoices(split="train", pseudo_labels=True))
    del config.data.train.target
    with pytest.raises(ConfigError, match=r"no section 'data.train.target'"):
        choose_test_set(config, TestChoices(split="train", pseudo_labels=True))
    folder = results_folder("run", TestChoices(model="teacher", split="train", pseudo_labels=True))
    assert folder.name == "preds_teacher_train_pseudo_labels"


def test_target_of_a_manifest(tmp_path):
    Image.new("RGB", (80, 40)).save(tmp_path / "a.png")
    lines = ({"format": 1, "class_set": "cityscapes19"}, {"image": "a.png"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = load_config(ROOT / "configs/own/cs2own_images.py")
    config.data.train.target.manifest = str(tmp_path / "m.jsonl")
    choose_test_set(config, TestChoices(split="train", pseudo_labels=True))
    assert (config.data.test.type, config.data.test.manifest) == ("FramesDataset", str(tmp_path / "m.jsonl"))
    dataset = DATASETS.build(config.data.test.to_dict())
    assert {"warp_image", "image"} & dataset[0].keys()
    assert "label" not in dataset.outputs


def test_frames_without_events_are_left_out(tmp_path, monkeypatch):
    """The recording starts one image before the first."""
    monkeypatch.chdir(MINI / "DSEC_Night")
    write_list(tmp_path / "list.txt", "000797", "000801")
    options = {"type": "DSECDataset", "dataset_txt_path": tmp_path / "list.txt", "image_change_range": 2}
    with pytest.raises(DataError, match="have no events to look back on"):
        DATASETS.build(options)
    dataset = DATASETS.build({**options, "skip_frames_without_events": True})
    assert len(dataset) == 1
    assert dataset.left_out.endswith("; they are left out")


def test_command(tmp_path, monkeypatch, capsys):
    """Unlabelled frames of the target, twice."""
    monkeypatch.chdir(MINI / "DSEC_Night")
    write_list(tmp_path / "list.txt", "000797")
    listed = str(tmp_path / "list.txt")
    small = {"data.test.test_resize_size": (64, 96), "data.train.target.dataset_txt_path": listed}
    run = make_network(tmp_path / "run", "cmda_toy_city", **small)["config"].parent
    result = testing.test_work_dir(run, split="train")
    assert (result.samples, result.scores) == (1, None)
    folder = run / "preds_train_pseudo_labels"
    (label,) = folder.glob("*.png")
    assert np.array(Image.open(label)).shape == (440, 640)
    assert not (folder / "metrics.json").exists()
    before = label.stat().st_mtime_ns
    testing.test_work_dir(run, split="train")
    assert "1 images predicted, 1 of them before" in capsys.readouterr().out
    assert label.stat().st_mtime_ns == before
    assert (folder / "overlay" / label.name).is_file()
