"""Caches of voxel grids and resized images: samples are equal; stale, unfinished or foreign caches are refused."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN
from PIL import Image

from mmseg.datasets.cache import BLOCK_BYTES, RECORD, ArrayCache, build_cache, file_mark
from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.dark_zurich import DarkZurichICDataset
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.errors import ConfigError, DataError

MINI = GOLDEN / "mini"
ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = {"warp_image", "events_vg", "warp_img_self_res"}


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A copy of the mini trees that a test may damage, in which the lists' relative paths can be resolved."""
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
        recording.window = None  # must not be used
    assert_same_samples(plain, cached)
    for changes in ({"events_clip_range": (0.5, 2)}, {"outputs": {"events_vg"}}, {"shift_type": "random"}):
        assert_same_samples(dsec(**changes), dsec(**changes, cache=tmp_path / "c"))


def test_five_bins_in_sixteen_bits(data, tmp_path):
    """Values are rounded to 11 bits."""
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
    # The cache also serves a config that needs less.
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
    assert len(sent) < 100_000  # without the arrays
    assert (np.asarray(pickle.loads(sent).load_label(0)) == np.asarray(cached.load_label(0))).all()


def test_making_it_anew_leaves_a_training_that_reads_it_alone(data, tmp_path):
    build_cache(tmp_path / "c", cityscapes(data))
    plain, cached = cityscapes(data), cityscapes(data, cache=tmp_path / "c")
    cached.load_label(0)
    (tmp_path / "target").write_text("dear")
    (tmp_path / "c" / "image.npy").unlink()
    (tmp_path / "c" / "image.npy").symlink_to(tmp_path / "target")
    assert build_cache(tmp_path / "c", cityscapes(data), force=True) == "written"
    assert (tmp_path / "target").read_text() == "dear"
    assert (np.asarray(cached.load_label(1)) == np.asarray(plain.load_label(1))).all()


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


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3_000_001])
def test_a_change_anywhere_in_a_file_is_seen(tmp_path, size):
    """As when one column of an uncompressed recording is rewritten; times do not matter."""
    content = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    path = tmp_path / "events.h5"
    path.write_bytes(content.tobytes())
    mark = file_mark(path)
    assert mark[0] == size
    for first in range(0, size, max(1, size // 5)):
        changed = content.copy()
        changed[first : first + max(1, size // 5)] ^= 1
        path.write_bytes(changed.tobytes())
        assert file_mark(path)[2] != mark[2]


def test_another_window_of_events_is_stale(data, tmp_path):
    build_cache(tmp_path / "c", dsec())
    with pytest.raises(ConfigError, match=r"stale: it has . samples, the config ."):
        dsec(events_num=100, cache=tmp_path / "c")
    with pytest.raises(ConfigError, match=r"made with bins=1, the config says bins=5"):
        dsec(events_bins_5_avg_1=True, cache=tmp_path / "c")


def test_interrupted_work_is_refused_and_taken_up(data, tmp_path, monkeypatch):
    monkeypatch.setattr("mmseg.datasets.cache.ROWS_PER_RECORD", 1)
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
    with pytest.raises(DataError, match=r"needs 0\.\d GB, 0.0 GB are free: free space, or give another folder"):
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


def test_a_cache_that_is_replaced_under_a_reader_stays_what_it_was(data, tmp_path):
    """Arrays that a training has open are not overwritten; it stops when it would have to open others."""
    build_cache(tmp_path / "c", dsec())
    cached = dsec(cache=tmp_path / "c")
    before = [np.array(cached.cache.row("events", i)) for i in range(len(cached))]
    sent = pickle.dumps(cached)
    files = {path.name: path.stat().st_ino for path in (tmp_path / "c").iterdir()}
    assert build_cache(tmp_path / "c", dsec(events_bins_5_avg_1=True), force=True) == "written"
    assert {path.name for path in (tmp_path / "c").iterdir()} == files.keys()
    for i, expected in enumerate(before):
        np.testing.assert_array_equal(cached.cache.row("events", i), expected)
    with pytest.raises(DataError, match=r"was replaced while in use: start again|unlike cache.json"):
        pickle.loads(sent).cache.row("events", 0)
    assert_same_samples(dsec(events_bins_5_avg_1=True), dsec(events_bins_5_avg_1=True, cache=tmp_path / "c"))


def test_a_process_reads_on_while_its_cache_is_replaced(data, tmp_path):
    """In a real process: maps opened before the replacement neither cause SIGBUS nor show zeros."""
    build_cache(tmp_path / "c", cityscapes(data))
    program = (
        "import sys, pickle\nimport numpy as np\ndataset = pickle.load(open(sys.argv[1], 'rb'))\n"
        "first = dataset.cache.row('image', 0).sum()\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "assert dataset.cache.row('image', 0).sum() == first > 0\n"
        "assert all(dataset.cache.row('image', i).any() for i in range(len(dataset)))\n"
    )
    (tmp_path / "dataset").write_bytes(pickle.dumps(cityscapes(data, cache=tmp_path / "c")))
    command = [sys.executable, "-c", program, str(tmp_path / "dataset")]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert reader.stdout.readline() == "ready\n"
    seen = []
    plain = cityscapes(data)
    row = plain.cache_row
    # What a reader would find at any moment.
    plain.cache_row = lambda i: seen.append((tmp_path / "c" / "image.npy").stat().st_ino) or row(i)
    assert build_cache(tmp_path / "c", plain, force=True) == "written"
    assert len(set(seen)) == 1
    assert (tmp_path / "c" / "image.npy").stat().st_ino != seen[0]
    reader.communicate("\n", timeout=60)
    assert reader.returncode == 0


def test_an_interrupted_replacement_leaves_the_old_cache_and_is_taken_up(data, tmp_path, monkeypatch):
    monkeypatch.setattr("mmseg.datasets.cache.ROWS_PER_RECORD", 1)
    build_cache(tmp_path / "c", cityscapes(data))
    plain = cityscapes(data, return_GI_or_IC="gray_image")
    real, done = plain.cache_row, []

    def interrupted(index):
        if index == 2 and done.count(0) == 1 and 2 not in done:
            done.append(index)
            raise KeyboardInterrupt
        done.append(index)
        return real(index)

    plain.cache_row = interrupted
    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path / "c", plain, force=True)
    assert_same_samples(cityscapes(data), cityscapes(data, cache=tmp_path / "c"))
    assert build_cache(tmp_path / "c", plain, force=True) == "written"
    assert done == [0, 1, 2, *range(2, len(plain))]
    assert_same_samples(plain, cityscapes(data, return_GI_or_IC="gray_image", cache=tmp_path / "c"))
    assert not (tmp_path / "c" / "replacement").exists()


def test_a_replacement_needs_room_beside_the_old_cache(data, tmp_path, monkeypatch):
    build_cache(tmp_path / "c", cityscapes(data))
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(DataError, match=r"in addition to the cache that it replaces: free space, or remove the old"):
        build_cache(tmp_path / "c", cityscapes(data), force=True)
    assert_same_samples(cityscapes(data), cityscapes(data, cache=tmp_path / "c"))


RECORD_FAULTS = {
    "list": lambda record: [],
    "deep": lambda record: "[" * 200_000,
    "parameters": lambda record: record | {"parameters": [1]},
    "arrays": lambda record: record | {"arrays": {"image": 3}},
    "shape": lambda record: record | {"arrays": {"image": [["a"], "uint8"]}},
    "rows": lambda record: record | {"rows": {"a": 1}},
    "finished": lambda record: record | {"finished": -1},
    "beyond": lambda record: record | {"finished": 10**30},
    "text": lambda record: record | {"finished": "9"},
    "marks": lambda record: record | {"sources": {key: [1] for key in record["sources"]}},
    "format": lambda record: record | {"format": [1]},
    "huge number": lambda record: '{"format": ' + "9" * 5000 + "}",
}


@pytest.mark.parametrize("fault", RECORD_FAULTS)
def test_a_hostile_record_is_refused_in_one_line(data, tmp_path, fault):
    build_cache(tmp_path / "c", cityscapes(data))
    path = tmp_path / "c" / RECORD
    content = RECORD_FAULTS[fault](json.loads(path.read_text()))
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    for use in (lambda: cityscapes(data, cache=tmp_path / "c"), lambda: build_cache(tmp_path / "c", cityscapes(data))):
        with pytest.raises(DataError, match=r"cache\.json.*make the cache again") as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["archive", "pickle", "shape", "order", "none"])
def test_hostile_arrays_are_refused(data, tmp_path, kind):
    build_cache(tmp_path / "c", cityscapes(data))
    path = tmp_path / "c" / "image.npy"
    array = np.load(path)
    path.unlink()
    if kind == "archive":
        np.savez(tmp_path / "a.npz", array)
        (tmp_path / "a.npz").rename(path)
    elif kind == "pickle":
        np.save(path, np.array([{}], object))
    elif kind == "shape":
        with open(path, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (10**9, *array.shape[1:])}
            np.lib.format.write_array_header_1_0(file, header)
    elif kind == "order":
        np.save(path, np.asfortranarray(array))
    with pytest.raises(DataError, match=r"image\.npy .*--force"):
        cityscapes(data, cache=tmp_path / "c")
