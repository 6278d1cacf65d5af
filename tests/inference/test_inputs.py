"""Inputs that inference makes are, bit for bit, those of the test set of the same config."""

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
