"""The object that ``mmseg.apis.load`` gives: every kind of source, picture and events."""

import copy
import logging
import shutil

import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN
from helpers.network_tools import make_network
from PIL import Image

from mmseg.apis import inference_model, load
from mmseg.classes import PALETTE
from mmseg.errors import CMDAError, ConfigError
from mmseg.events.files import FrameEvents, find_windows, open_events
from mmseg.inference.loaded import _events_of_images

SEQUENCE = GOLDEN / "mini" / "DSEC_Night" / "zurich_city_09_a"
RECORDING = SEQUENCE / "events" / "left" / "events.h5"
MAP = SEQUENCE / "events" / "left" / "rectify_map.h5"
SIZE = (64, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A work dir."""
    return make_network(tmp_path_factory.mktemp("networks") / "dsec", "cmda_toy_city")["config"].parent


@pytest.fixture(scope="module")
def network(folder):
    return load(folder, device="cpu")


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def columns(count: int = 500) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    t = np.sort(rng.integers(1000, 41_000, count))
    return {"t": t, "x": rng.integers(0, SIZE[1], count), "y": rng.integers(0, SIZE[0], count), "p": t % 2}


def test_one_picture_in_any_form(network, picture, tmp_path):
    expected = inference_model(network.model, picture)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    for given in (picture, tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(picture)):
        found = network.predict(given)
        assert (found.label == expected.label).all()
        assert found.output == "image"
    assert found.label.shape == found.confidence.shape == SIZE
    assert (found.picture() == np.array(PALETTE, np.uint8)[found.label]).all()
    assert (found.overlay(picture, 0) == picture).all()
    assert (found.overlay(picture, 1) == found.picture()).all()
    assert network.classes.palette == PALETTE
    assert network.takes_events
    assert network.device == torch.device("cpu")


def test_a_list_of_pictures(network, picture):
    found = network.predict([picture, Image.fromarray(picture[:, ::-1])], batch=2)
    assert [one.label.tolist() for one in found] == [
        network.predict(picture).label.tolist(),
        network.predict(np.ascontiguousarray(picture[:, ::-1])).label.tolist(),
    ]
    assert network.predict([]) == []


def test_events_in_any_form(network, picture, tmp_path):
    parts = columns()
    expected = inference_model(network.model, picture, FrameEvents(**{key: parts[key] for key in "txyp"}))
    np.savez(tmp_path / "events.npz", **parts)
    table = np.stack([parts[key] for key in "txyp"], axis=1)
    for given in (parts, table, tmp_path / "events.npz", FrameEvents(**{key: parts[key] for key in "txyp"})):
        found = network.predict(picture, given)
        assert found.output == "fusion"
        assert (found.label == expected.label).all()
    first, second = network.predict([picture, picture], [None, parts])
    assert (first.output, second.output) == ("image", "fusion")
    assert (second.label == expected.label).all()


def test_a_recording_with_times(network):
    names = sorted((SEQUENCE / "warp_images").glob("*.png"))
    times = [int(line) for line in (SEQUENCE / "images" / "timestamps.txt").read_text().split()]
    source = open_events(RECORDING, MAP)
    numbers = [number for number, window in enumerate(find_windows(source, times, [None] * len(times))) if window][:2]
    chosen = [next(path for path in names if int(path.stem) == number) for number in numbers]
    found = network.predict(chosen, RECORDING, time=[times[number] for number in numbers], rectify_map=MAP, rows=440)
    windows = find_windows(source, [times[number] for number in numbers], [None] * len(numbers))
    for path, window, one in zip(chosen, windows, found, strict=True):
        expected = inference_model(network.model, path, source.events(*window), rows=440)
        assert (one.label == expected.label).all()
    with pytest.raises(CMDAError, match=r"events\.h5 lasts \d\.\d\d s; give the time of the image in µs, time="):
        network.predict(chosen[0], RECORDING, rectify_map=MAP)
    with pytest.raises(CMDAError, match="does not hold the 50 ms before 5 µs"):
        network.predict(chosen[0], RECORDING, time=5, rectify_map=MAP)


@pytest.mark.parametrize(("settings", "wanted"), [({}, 50), ({"image_change_range": 3}, 150), ({"events_num": 20}, 20)])
def test_the_window_is_that_of_the_training(network, settings, wanted):
    recipe = copy.copy(network.model.recipe)
    vars(recipe).update(settings)
    at = np.arange(1000)  # an event per ms
    events = {"t": at * 1000, "x": at % SIZE[1], "y": at % SIZE[0], "p": at % 2}
    for time in (500_000, np.float64(500_000), np.int32(500_000)):
        (found,) = _events_of_images(recipe, events, time, 1, None)
        assert wanted - 1 <= len(found.t) <= wanted + 1


def test_sources(network, folder, picture, tmp_path, monkeypatch, caplog):
    expected = network.predict(picture).label
    # without a config of its own, but next to one
    assert (load(str(folder / "iter_1.pth"), device="cpu").predict(picture).label == expected).all()
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "iter_1.pth", "weights.pth")
    named = load("weights.pth", config="cmda_toy_city", device="cpu")
    assert (named.predict(picture).label == expected).all()
    assert named.source == "weights.pth"
    with caplog.at_level(logging.WARNING):
        empty = load("cmda_toy_city", device="cpu")
    assert "cmda_toy_city: the weights are random" in caplog.text
    assert empty.predict(picture).label.shape == SIZE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(events=np.zeros((3, 3))), r"array of \(3, 3\); give \(N, 4\) with the columns t, x, y, p"),
        (dict(events={"t": np.zeros(3)}), "events have no x, y, p"),
        (dict(time=5), "a time or a rectify map was given, but no events"),
        (dict(events=[None, None]), "1 images, and events of 2"),
        (dict(events=np.zeros((3, 4)), rectify_map=str(MAP)), "a rectify map is for a recording given by its path"),
        (dict(events="nowhere.h5"), "nowhere.h5 does not exist"),
        (dict(events=str(RECORDING), time=[1, 2]), "1 images, and times of 2"),
        (dict(events=str(RECORDING), time=0.5), "time is 0.5; give whole microseconds"),
        (dict(events=str(RECORDING), time="5"), "time is '5'; give whole microseconds"),
        (dict(rows=0), "rows is 0; give a whole number of at least 1"),
        (dict(rows=-5), "rows is -5; give"),
        (dict(batch=0), "batch is 0; give"),
        (dict(size=64), r"size is 64; give \(height, width\)"),
        (dict(size=(64.5, 64)), r"size is \(64.5, 64\); give"),
    ],
)
def test_bad_arguments(network, picture, arguments, message):
    with pytest.raises(CMDAError, match=message):
        network.predict(picture, **arguments)


def test_bad_sources(folder, tmp_path):
    with pytest.raises(ConfigError, match="is a work dir, which holds its config"):
        load(folder, config="cs2dsec")
    for source in (tmp_path, tmp_path / "none.pth", "cs2dsce"):
        with pytest.raises(CMDAError, match=r"holds no checkpoint|does not exist|no such"):
            load(source)
