"""Inputs that inference makes are, bit for bit, those of the test set of the same config."""

import json

import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN
from mmengine.config import Config
from PIL import Image

from mmseg.events.files import open_events
from mmseg.inference.input_recipe import InputRecipe
from mmseg.inference.inputs import make_inputs
from mmseg.inference.pictures import read_image
from mmseg.registry import DATASETS

MINI = GOLDEN / "mini"
PARAMS = dict(val_range=[1, 100], _threshold=0.01, _clip_range=0.1, shift_pixel=3)


@pytest.mark.parametrize("size", [None, (176, 256)])
@pytest.mark.parametrize("changes", [{}, {"events_bins_5_avg_1": True, "shift_type": "all", "isr_parms": PARAMS}])
def test_inputs_of_dsec(monkeypatch, size, changes):
    monkeypatch.chdir(MINI / "DSEC_Night")
    section = {
        "type": "DSECDataset",
        "dataset_txt_path": str(GOLDEN / "c10_dsec_txt" / "night_test_dataset_warp.txt"),
        "outputs": ["warp_image", "events_vg", "warp_img_self_res"],
        "test_resize_size": size,
    } | changes
    dataset = DATASETS.build(dict(section))
    recipe = InputRecipe(Config({"data": {"test": section}}))
    frame, window = dataset.frames[0], dataset.windows[0]
    recording = open_events(frame.events_file, frame.rectify_map_file)
    streams = ("image", "events", "img_self_res")
    image = read_image(frame.warp_image)
    made = make_inputs(recipe, streams, image, recording.events(*window), size or (440, 640), 440)
    expected = dataset[0]
    for stream in streams:
        assert torch.equal(made[stream], expected[dataset.TEST_STREAMS[stream]]), stream


@pytest.mark.parametrize("from_original", [False, True])
@pytest.mark.parametrize("changes", [{"isr_parms": PARAMS}, {"dz_isr_data_type": "new_night", "shift_type": "random"}])
def test_inputs_of_dark_zurich(from_original, changes):
    section = {
        "type": "DarkZurichICDataset",
        "dataset_path": str(MINI / "dark_zurich"),
        "test_mode": True,
        "outputs": ["image", "night_isr"],
        "image_resize_size": [288, 162],
        "high_resolution_isr": from_original,
    } | changes
    dataset = DATASETS.build(dict(section))
    recipe = InputRecipe(Config({"data": {"test": section}}))
    image = np.array(Image.open(dataset.image_path(dataset.names[0])))
    made = make_inputs(recipe, ("image", "events"), image, None, (162, 288), image.shape[0])
    expected = dataset[0]
    assert torch.equal(made["image"], expected["image"])
    assert torch.equal(made["events"], expected["night_isr"])


@pytest.mark.parametrize("with_events", [True, False])
def test_inputs_of_a_manifest(tmp_path, with_events):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (96, 128, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    count = 4000
    columns = dict(t=np.arange(count), x=rng.integers(0, 128, count), y=rng.integers(0, 96, count))
    np.savez(tmp_path / "a.npz", **columns, p=rng.integers(0, 2, count), height=96, width=128)
    line = {"image": "a.png", "events": "a.npz", "time": 3500, "window": {"duration": 2000}}
    lines = [{"format": 1, "class_set": "cityscapes19"}, line if with_events else {"image": "a.png"}]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    outputs = ["warp_image", "events_vg", "warp_img_self_res"] if with_events else ["image", "night_isr"]
    section = {
        "type": "FramesDataset",
        "manifest": str(tmp_path / "own.jsonl"),
        "image_resize_size": [96, 72],
        "outputs": outputs,
    }
    dataset = DATASETS.build(dict(section))
    recipe = InputRecipe(Config({"data": {"test": section}}))
    assert (recipe.is_dsec, recipe.input_size) == (with_events, (72, 96))
    events = open_events(tmp_path / "a.npz").events(*dataset.windows[0]) if with_events else None
    streams = ("image", "events", "img_self_res") if with_events else ("image", "events")
    made = make_inputs(recipe, streams, read_image(tmp_path / "a.png"), events, (72, 96), 96)
    for stream in streams:
        assert torch.equal(made[stream], dataset[0][dataset.TEST_STREAMS[stream]]), stream
    assert recipe.steps("image", (72, 96))["steps"][0].startswith("camera image, resized to 72x96")
