"""Caches of voxel grids and resized images: the same samples, and nothing stale, unfinished or foreign is read."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_tools import GOLDEN
from PIL import Image

from mmseg.datasets.cache import RECORD, ArrayCache, build_cache
from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.dark_zurich import DarkZurichICDataset
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.errors import ConfigError, DataError

MINI = GOLDEN / "mini"
OUTPUTS = {"warp_image", "events_vg", "warp_img_self_res"}


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A copy of the mini trees that a test may damage, with the lists' relative paths resolved in it."""
    shutil.copytree(MINI, tmp_path / "mini")
    monkeypatch.chdir(tmp_path / "mini" / "DSEC_Night")
    return tmp_path / "mini"


def dsec(**changes):
    cfg = dict(dataset_txt_path=GOLDEN / "c10_dsec_txt" / "night_dataset_warp.txt", outputs=OUTPUTS)
    return DSECDataset(**cfg | dict(crop_size=(400, 400), after_crop_resize_size=(96, 96)) | changes)


def cityscapes(data, **changes):
    outputs = {"image", "label", "img_time_res", "img_self_res"}
    return CityscapesICDataset(**dict(dataset_path=data / "cityscapes", outputs=outputs, shift_type="random") | changes)


def dark_zurich(data, **changes):
    return DarkZurichICDataset(**dict(dataset_path=data / "dark_zurich", image_crop_size=(64, 64)) | changes)


def assert_same_samples(plain, cached, atol=0.0):
    for number in range(4):
        draws = [dataset.draw(np.random.default_rng(number)) for dataset in (plain, cached)]
        index = number % len(plain)
        expected, found = plain.sample(index, draws[0]), cached.sample(index, draws[1])
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(found[name], value, rtol=0, atol=atol)


def test_dsec(data, tmp_path):
    plain = dsec()
    assert build_cache(tmp_path / "c", plain) == "written"
    assert build_cache(tmp_path / "c", plain) == "kept"
    cached = dsec(cache=tmp_path / "c")
    for recording in cached.recordings.values():
        recording.window = None  # it must not be asked
    assert_same_samples(plain, cached)
    for changes in ({"events_clip_range": (0.5, 2)}, {"outputs": {"events_vg"}}, {"shift_type": "random"}):
        assert_same_samples(dsec(**changes), dsec(**changes, cache=tmp_path / "c"))


def test_five_bins_in_sixteen_bits(data, tmp_path):
    """Rounding to 11 bits is what it costs."""
    plain = dsec(events_bins_5_avg_1=True)
    build_cache(tmp_path / "c", plain, float16=True)
    assert np.load(tmp_path / "c" / "events.npy", mmap_mode="r").dtype == np.float16
    assert_same_samples(plain, dsec(events_bins_5_avg_1=True, cache=tmp_path / "c"), atol=2**-10)
    with pytest.raises(ConfigError, match=r"it holds .*float16"):
        build_cache(tmp_path / "c", plain)


@pytest.mark.parametrize(
    "changes", [{}, {"return_GI_or_IC": "gray_image"}, {"high_resolution_isr": True}, {"outputs": {"image"}}], ids=str
)
def test_cityscapes(data, tmp_path, changes):
    plain = cityscapes(data, **changes)
    build_cache(tmp_path / "c", plain)
    cached = cityscapes(data, **changes, cache=tmp_path / "c")
    assert_same_samples(plain, cached)
    # it serves a config that needs less
    assert_same_samples(cityscapes(data, outputs={"image"}), cityscapes(data, outputs={"image"}, cache=tmp_path / "c"))
    assert (np.asarray(plain.load_label(0)) == np.asarray(cached.load_label(0))).all()


def test_dark_zurich(data, tmp_path):
    plain = dark_zurich(data)
    build_cache(tmp_path / "c", plain)
    assert_same_samples(plain, dark_zurich(data, cache=tmp_path / "c"))


def test_it_moves_with_the_data_and_into_workers(data, tmp_path):
    build_cache(tmp_path / "c", cityscapes(data))
    shutil.copytree(data, tmp_path / "elsewhere", copy_function=shutil.copyfile)  # new times, same content
    cached = cityscapes(tmp_path / "elsewhere", cache=tmp_path / "c")
    cached.load_label(0)
    sent = pickle.dumps(cached)
    assert len(sent) < 100_000  # and not the arrays
    assert (np.asarray(pickle.loads(sent).load_label(0)) == np.asarray(cached.load_label(0))).all()


def test_making_it_anew_leaves_a_training_that_reads_it_alone(data, tmp_path):
    build_cache(tmp_path / "c", cityscapes(data))
    plain, cached = cityscapes(data), cityscapes(data, cache=tmp_path / "c")
    cached.load_label(0)
    worker = pickle.dumps(cached)
    (tmp_path / "target").write_text("dear")
    os.link(tmp_path / "c" / "image.npy", tmp_path / "kept")
    (tmp_path / "c" / "image.npy").unlink()
    (tmp_path / "c" / "image.npy").symlink_to(tmp_path / "target")
    assert build_cache(tmp_path / "c", cityscapes(data), force=True) == "written"
    assert (tmp_path / "target").read_text() == "dear"
    assert (np.asarray(cached.load_label(1)) == np.asarray(plain.load_label(1))).all()
    with pytest.raises(DataError, match=r"label\.npy was made anew while this training reads it"):
        pickle.loads(worker).load_label(0)


def change_image(data):
    path = next((data / "cityscapes" / "leftImg8bit").rglob("*.png"))
    Image.new("RGB", Image.open(path).size, (9, 9, 9)).save(path)


def add_image(data):
    path = next((data / "cityscapes" / "leftImg8bit" / "train").rglob("*.png"))
    for folder, end in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelTrainIds"), ("leftImg8bit_IC1", "")):
        end = end or "leftImg8bit"
        old = data / "cityscapes" / folder / "train" / path.parent.name / path.name.replace("leftImg8bit", end)
        shutil.copy(old, old.with_name(f"new_000000_000019_{end}.png"))


@pytest.mark.parametrize(
    ("damage", "changes", "message"),
    [
        (change_image, {}, "1 of its source files have changed, the first is .*leftImg8bit"),
        (add_image, {}, r"samples, the config .*new_000000_000019"),
        (None, {"image_resize_size": (640, 512)}, "it holds image="),
        (None, {"return_GI_or_IC": "gray_image"}, "made with motion=leftImg8bit_IC1, the config says motion=leftImg8b"),
    ],
)
def test_stale_caches_are_refused(data, tmp_path, damage, changes, message):
    build_cache(tmp_path / "c", cityscapes(data))
    if damage:
        damage(data)
    with pytest.raises(ConfigError, match=f"data.train.source.cache=.* is stale: .*{message}.*--force"):
        cityscapes(data, **changes, cache=tmp_path / "c")
    with pytest.raises(ConfigError, match=f"is stale: .*{message}.*--force"):
        build_cache(tmp_path / "c", cityscapes(data, **changes))
    assert build_cache(tmp_path / "c", cityscapes(data, **changes), force=True) == "written"
    assert_same_samples(cityscapes(data, **changes), cityscapes(data, **changes, cache=tmp_path / "c"))


def test_another_window_of_events_is_stale(data, tmp_path):
    build_cache(tmp_path / "c", dsec())
    with pytest.raises(ConfigError, match=r"stale: it has . samples, the config ."):
        dsec(events_num=100, cache=tmp_path / "c")
    with pytest.raises(ConfigError, match=r"made with bins=1, the config says bins=5"):
        dsec(events_bins_5_avg_1=True, cache=tmp_path / "c")


def test_interrupted_work_is_refused_and_taken_up(data, tmp_path, monkeypatch):
    monkeypatch.setattr("mmseg.datasets.cache.ROWS_A_NOTE", 1)
    plain = cityscapes(data)
    real, done, interruptions = plain.cache_row, [], []

    def interrupted(index):
        if index == 1 and len(interruptions) == 0:
            interruptions.append(index)
            raise KeyboardInterrupt
        done.append(index)
        return real(index)

    plain.cache_row = interrupted
    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path / "c", plain)
    with pytest.raises(ConfigError, match=r"is unfinished, 1 of . samples"):
        cityscapes(data, cache=tmp_path / "c")
    assert build_cache(tmp_path / "c", plain) == "written"
    assert done == list(range(len(plain)))
    assert_same_samples(cityscapes(data), cityscapes(data, cache=tmp_path / "c"))


def test_full_disk(data, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(DataError, match=r"needs 0\.\d GB, 0.0 GB are free: make room, or give another folder"):
        build_cache(tmp_path / "c", cityscapes(data))
    assert not list((tmp_path / "c").iterdir())


def test_damaged_and_foreign_folders(data, tmp_path):
    with pytest.raises(ConfigError, match=r"there is no cache; make it with python tools/cache_events.py"):
        cityscapes(data, cache=tmp_path / "nothing")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(ConfigError, match=r"is not empty and holds no cache"):
        build_cache(tmp_path / "mine", cityscapes(data), force=True)
    build_cache(tmp_path / "c", cityscapes(data))
    os.truncate(tmp_path / "c" / "image.npy", 1000)
    with pytest.raises(DataError, match=r"image.npy cannot be read .*--force"):
        cityscapes(data, cache=tmp_path / "c")
    for text in ("{", json.dumps({"format": 1})):
        (tmp_path / "c" / RECORD).write_text(text)
        with pytest.raises(DataError, match=r"cache.json .*make the cache again"):
            ArrayCache(tmp_path / "c", cityscapes(data).cache_layout())


def test_damaged_source_is_named(data, tmp_path):
    path = next((data / "cityscapes" / "leftImg8bit_IC1").rglob("*.png"))
    plain = cityscapes(data)
    os.truncate(path, 200)
    with pytest.raises(DataError, match=re.escape(path.name)):
        build_cache(tmp_path / "c", plain)
    with pytest.raises(ConfigError, match=r"unfinished|stale"):
        cityscapes(data, cache=tmp_path / "c")
