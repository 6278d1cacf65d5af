"""Samples from manifests: equal to those of the published data sets, and errors that name manifest and line."""

import json
import pickle

import h5py
import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN
from mmengine.config import Config
from PIL import Image

from mmseg.checks.run import check_data
from mmseg.classes import CITYSCAPES_19, DSEC_11, PALETTE, ClassSet
from mmseg.datasets.cache import build_cache
from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.class_statistics import read_class_pixels
from mmseg.datasets.dark_zurich import DarkZurichICDataset
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.datasets.frame_events import position_map
from mmseg.datasets.frames import FrameDraw, FramesDataset
from mmseg.datasets.labels import stored_classes
from mmseg.datasets.manifest import Alignment, read_manifest
from mmseg.datasets.rare_classes import RareClassSampler
from mmseg.errors import ConfigError, DataError
from mmseg.preparation.cityscapes import write_statistics
from mmseg.preparation.manifests import count_classes

ISR = dict(val_range=[0.01, 1.01], _threshold=0.005, _clip_range=0.1, shift_pixel=1)
HEADER = {"format": 1, "class_set": "cityscapes19"}
LISTS = GOLDEN / "c10_dsec_txt"
MUSES = json.loads((GOLDEN / "muses_projection.json").read_text())
RAMP = np.arange(2000)


def write(path, header, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]), encoding="utf-8")
    return path


def assert_equal(found, wanted):
    for key, value in wanted.items():
        if isinstance(value, torch.Tensor):
            same = found[key].reshape(value.shape)
            assert same.dtype == value.dtype
            assert torch.equal(same, value), key
        else:
            assert found[key] == {k: value[k] for k in found[key]}


@pytest.fixture
def in_mini(monkeypatch):
    monkeypatch.chdir(GOLDEN / "mini" / "DSEC_Night")


def dsec_manifest(path, frames, with_labels):
    """The frames of a DSEC data set; times are those of the images, windows begin with the image before."""
    lines = []
    for frame in frames:
        times = np.loadtxt(frame.sequence_dir / "images" / "timestamps.txt", dtype=np.int64)
        line = {
            "image": str(frame.warp_image.absolute()),
            "events": str(frame.events_file.absolute()),
            "rectify_map": str(frame.rectify_map_file.absolute()),
            "time": int(times[frame.frame]),
            "window": {"since": int(times[frame.frame - 1])},
            "sequence": frame.sequence,
        }
        lines.append(line | ({"label": str(frame.label.absolute())} if with_labels else {}))
    return write(path, HEADER | {"events": {"mapping": "rectify_map"}}, lines)


@pytest.mark.parametrize("five_bins", [False, True])
def test_dsec_training_samples(in_mini, tmp_path, five_bins):
    shared = dict(shift_type="random", isr_parms=ISR, events_clip_range=(0.05, 0.5), events_bins_5_avg_1=five_bins)
    outputs = {"warp_image", "events_vg", "warp_img_self_res"}
    dsec = DSECDataset(LISTS / "night_dataset_warp.txt", outputs, (400, 400), (512, 512), **shared)
    manifest = dsec_manifest(tmp_path / "night.jsonl", dsec.frames, with_labels=False)
    own = FramesDataset(manifest, (640, 480), outputs, (400, 400), (512, 512), **shared)
    assert own.windows == dsec.windows
    assert own.sample_size == dsec.sample_size
    for index in range(len(dsec)):
        draw = own.draw(np.random.default_rng(index))
        wanted = dsec.draw(np.random.default_rng(index))
        assert draw == FrameDraw(wanted.crop.x, wanted.crop.y, wanted.crop.flip, wanted.clip_range)
        assert_equal(own.sample(index, draw), dsec.sample(index, wanted))


def test_dsec_test_samples(in_mini, tmp_path):
    outputs = {"warp_image", "events_vg", "warp_img_self_res", "label", "img_metas"}
    dsec = DSECDataset(LISTS / "night_test_dataset_warp.txt", outputs)
    manifest = dsec_manifest(tmp_path / "night.jsonl", dsec.frames, with_labels=True)
    own = FramesDataset(manifest, (640, 480), outputs, ignored_bottom_rows=40)
    assert (own.TEST_STREAMS, own.prediction_size) == (dsec.TEST_STREAMS, dsec.prediction_size)
    assert len(own) == len(dsec) == 5
    for index in range(len(dsec)):
        assert_equal(own[index], dsec[index])
    build_cache(tmp_path / "cache", own)
    cached = FramesDataset(manifest, (640, 480), outputs, ignored_bottom_rows=40, cache=tmp_path / "cache")
    assert_equal(pickle.loads(pickle.dumps(cached))[1], dsec[1])
    assert_equal(pickle.loads(pickle.dumps(own))[1], dsec[1])


def test_cityscapes_samples(tmp_path):
    outputs = ("image", "label", "img_time_res", "img_self_res")
    root = GOLDEN / "mini" / "cityscapes"
    city = CityscapesICDataset(root, (256, 128), (64, 96), outputs, shift_type="random")
    lines = [
        {
            "image": str(city.image_path(name)),
            "label": str(city.label_path(name)),
            "image_change": str(city.motion_path(name)),
        }
        for name in city.names
    ]
    own = FramesDataset(
        write(tmp_path / "day.jsonl", HEADER, lines), (256, 128), outputs, (64, 96), shift_type="random"
    )
    for index in range(len(city)):
        draw = city.draw(np.random.default_rng(index))
        assert_equal(own.sample(index, draw), city.sample(index, draw))


def make_images(folder, names, size=(64, 48), label=False):
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        if label:
            Image.fromarray(rng.integers(0, 19, size[::-1]).astype(np.uint8)).save(folder / name)
        else:
            Image.fromarray(rng.integers(0, 256, (*size[::-1], 3)).astype(np.uint8)).save(folder / name)


def test_dark_zurich_samples(tmp_path):
    for kind, suffix in (("rgb_anon", "_rgb_anon"), ("gt", "_gt_labelTrainIds")):
        for split in ("train", "val"):
            folder = tmp_path / kind / split / "night" / "GP1"
            folder.mkdir(parents=True)
            make_images(folder, [f"{n}{suffix}.png" for n in "ab"], (128, 96), kind == "gt")
    outputs = {"image", "night_isr"}
    for test_mode in (False, True):
        zurich = DarkZurichICDataset(tmp_path, test_mode, outputs, (96, 72), (64, 64), shift_type="random")
        lines = [{"image": str(zurich.image_path(name)), "sequence": "GP1"} for name in zurich.names]
        manifest = write(tmp_path / "night.jsonl", HEADER, lines)
        own = FramesDataset(manifest, (96, 72), outputs, None if test_mode else (64, 64), shift_type="random")
        for index in range(2):
            draw = None if test_mode else zurich.draw(np.random.default_rng(index))
            found, wanted = own.sample(index, draw), zurich.sample(index, draw)
            wanted.pop("img_metas", None)
            assert_equal(found, wanted)
        assert own.TEST_STREAMS == zurich.TEST_STREAMS


# ------------------------------------------------------------------------------------------ own footage


def recording(path, size=(48, 64), unknown_size=False):
    """An event every millisecond for two seconds, spread over the sensor (height, width)."""
    height, width = size
    columns = dict(t=RAMP * 1000, x=RAMP * 7 % width, y=RAMP * 5 % height, p=RAMP % 2)
    np.savez(path, **columns, **({} if unknown_size else dict(height=height, width=width)))
    return path


LINE = {"image": "images/a.png", "events": "events.npz", "time": 1_000_000, "window": {"duration": 50_000}}


@pytest.fixture
def footage(tmp_path):
    make_images(tmp_path / "images", ["a.png", "b.png"])
    make_images(tmp_path / "labels", ["a.png"], label=True)
    recording(tmp_path / "events.npz")
    return tmp_path


def night(folder, *lines, header=HEADER, outputs=("warp_image", "events_vg"), **changes):
    manifest = write(folder / "night.jsonl", header, lines)
    return FramesDataset(manifest, **dict(image_resize_size=(64, 48), outputs=outputs) | changes)


@pytest.mark.parametrize(
    ("window", "events"),
    [({"duration": 50_000}, (950, 1000)), ({"count": 20}, (981, 1000)), ({"since": 900_000}, (900, 1000))],
)
def test_windows(footage, window, events):
    assert night(footage, LINE | {"window": window}).windows == [events]


def test_window_since_the_frame_before(footage):
    lines = [LINE, LINE | {"image": "images/b.png", "time": 1_100_000, "window": "previous"}]
    assert night(footage, *lines).windows == [(950, 1000), (1000, 1100)]


def test_the_identity_is_aligned(footage):
    identity = np.eye(3).tolist()
    camera = [[50, 0, 32], [0, 50, 24], [0, 0, 1]]
    wanted = night(footage, LINE)[0]["events_vg"]
    assert wanted.abs().sum() > 0
    for events in (
        {"mapping": "homography", "matrix": identity},
        {"mapping": "homography", "matrix": (-np.eye(3)).tolist()},
        {"mapping": "calibration", "image": camera, "events": camera, "rotation": identity},
    ):
        assert torch.equal(night(footage, LINE, header=HEADER | {"events": events})[0]["events_vg"], wanted)


def test_homography_moves_events(footage):
    shift = {"mapping": "homography", "matrix": [[1, 0, 3], [0, 1, 0], [0, 0, 1]]}
    moved = night(footage, LINE, header=HEADER | {"events": shift})[0]["events_vg"]
    aligned = night(footage, LINE)[0]["events_vg"]
    assert torch.equal(moved[..., 3:].abs() > 0.01, aligned[..., :-3].abs() > 0.01)
    assert moved[..., :3].abs().max() < 0.01 < moved.abs().max()


@pytest.mark.parametrize("sensor", [(720, 1280), (480, 640), (260, 346)])
def test_any_sensor(tmp_path, sensor):
    """Images are larger than the sensor, and the network's input is smaller."""
    make_images(tmp_path / "images", ["a.png"], (2 * sensor[1], 2 * sensor[0]))
    recording(tmp_path / "events.npz", sensor)
    size = (sensor[1] // 2, sensor[0] // 2)
    test = night(tmp_path, LINE, image_resize_size=size, ignored_bottom_rows=10)
    assert test[0]["events_vg"].shape == test[0]["warp_image"].shape == (3, size[1] - 10, size[0])
    train = night(tmp_path, LINE, image_resize_size=size, image_crop_size=(64, 64), crop_resize_size=(96, 96))
    sample = train.sample(0, train.draw(np.random.default_rng(0)))
    assert sample["events_vg"].shape == sample["warp_image"].shape == (3, 96, 96)


def h5_recording(folder, width, height):
    """The events of a ramp over a sensor, in the format of DSEC."""
    with h5py.File(folder / "events.h5", "w") as file:
        for key, values in dict(t=RAMP * 1000, x=RAMP % width, y=RAMP % height, p=RAMP % 2).items():
            file[f"events/{key}"] = values
        file["t_offset"] = 0


@pytest.mark.parametrize("header", [HEADER | {"sensor": [1280, 720]}, HEADER | {"events": {"mapping": "rectify_map"}}])
def test_a_large_sensor_in_the_format_of_dsec(tmp_path, header):
    """The size comes from the first line, or from the rectify map."""
    make_images(tmp_path / "images", ["a.png"], (1280, 720))
    h5_recording(tmp_path, 1280, 720)
    line = LINE | {"events": "events.h5"}
    if "events" in header:
        with h5py.File(tmp_path / "map.h5", "w") as file:
            file["rectify_map"] = np.stack(np.meshgrid(np.arange(1280), np.arange(720)), -1).astype(np.float32)
        line["rectify_map"] = "map.h5"
    sample = night(tmp_path, line, header=header, image_resize_size=(1280, 720))[0]["events_vg"]
    np.savez(tmp_path / "events.npz", t=RAMP * 1000, x=RAMP % 1280, y=RAMP % 720, p=RAMP % 2, height=720, width=1280)
    assert torch.equal(sample, night(tmp_path, LINE, image_resize_size=(1280, 720))[0]["events_vg"])


def test_another_camera_in_the_format_of_dsec(tmp_path):
    """Its files do not say the size of the sensor, which is not DSEC's."""
    make_images(tmp_path / "images", ["a.png"], (346, 260))
    h5_recording(tmp_path, 346, 260)
    line = LINE | {"events": "events.h5"}
    with pytest.raises(DataError, match=r'does not say the size of its sensor; add "sensor": \[width, height\]'):
        night(tmp_path, line, image_resize_size=(346, 260))
    sample = night(tmp_path, line, header=HEADER | {"sensor": [346, 260]}, image_resize_size=(346, 260))[0]
    assert sample["events_vg"].abs().amax(dim=(0, 1))[300:].max() > 0


def test_image_change(footage):
    line = {"image": "images/b.png", "previous_image": "images/a.png", "label": "labels/a.png"}
    source = night(footage, line, outputs=("image", "label", "img_time_res", "img_self_res"), image_crop_size=(32, 32))
    sample = source.sample(0, FrameDraw(0, 0, False))
    assert sample["img_time_res"].shape == (3, 32, 32)
    assert sample["img_time_res"].abs().max() > 0.5
    assert sample["label"].shape == (1, 32, 32)


def test_a_test_set_without_labels(footage):
    dataset = night(footage, {"image": "images/a.png"}, outputs=("image", "label"))
    assert dataset.outputs == {"image", "img_metas"}
    assert dataset[0]["img_metas"] == {"name": "a", "sequence": ""}


# --------------------------------------------------------------------------------------------- bad input

B = LINE | {"image": "images/b.png"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({}, "the key 'image' is missing"),
        ({"image": "images/c.png"}, r"image .*c\.png does not exist"),
        ({"imege": "images/b.png"}, "unknown key 'imege', did you mean 'image'"),
        ({"image": 3}, "image is 3; give a printable text"),
        (LINE | {"label": "labels/a.png"}, "the name 'a' is that of line 2"),
        (B | {"time": None}, "the key 'time' is missing"),
        (B | {"time": -1}, "time is -1; give a whole number from 0"),
        (B | {"time": 2.5}, "time is 2.5; give a whole number"),
        (B | {"time": 9_000_000}, r"no events for the window that ends at 9000000 µs \(50000 µs\)"),
        (B | {"time": 10_000}, "no events for the window that ends at 10000"),
        (B | {"window": {"count": 1}}, "window.count is 1; give a whole number from 2"),
        (B | {"window": {"duration": 5, "count": 7}}, 'window is .* give "previous" or an object'),
        (B | {"window": {"since": 1_000_000}}, "window.since is 1000000; the frame is at 1000000"),
        (B | {"window": "previous"}, "the line before it with this recording is at 1000000 µs, not before"),
        (B | {"events": "none.npz"}, r"event recording .*none\.npz does not exist"),
        (B | {"events": "images/a.png"}, "does not have the suffix of an event recording"),
        ({"image": "images/b.png"}, r"output 'events_vg' \(events\) needs events, which it lacks; add events, time"),
        ({"image": "images/b.png", "window": "previous"}, "window without events"),
        (B | {"sequence": "a/b"}, "sequence is 'a/b'; give text that can be the name of a file"),
    ],
)
def test_lines_are_checked(footage, line, message):
    with pytest.raises(DataError, match=f"night.jsonl, line 3: .*{message}"):
        night(footage, LINE, line)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "the key 'format' is missing"),
        ({"format": 2, "class_set": "cityscapes19"}, "format is 2; this program reads 1"),
        ({"format": 1, "class_set": 19}, "class_set is 19; give a printable text"),
        (HEADER | {"label_rows": 0}, "label_rows is 0; give a whole number from 1"),
        (HEADER | {"sensor": [0, 5]}, r"sensor is \[0, 5\]; give \[width, height\]"),
        (HEADER | {"events": {"mapping": "map"}}, "events.mapping is 'map'; give one of aligned"),
        (HEADER | {"events": {"mapping": "aligned", "file": "x"}}, "events.file is 'x'; 'aligned' takes mapping"),
        (HEADER | {"events": {"mapping": "homography", "matrix": [[1, 2], [3, 4]]}}, "give three rows of three"),
        (HEADER | {"events": {"mapping": "homography", "matrix": [[1, 0, 0]] * 3}}, "a matrix with an inverse"),
    ],
)
def test_the_first_line_is_checked(footage, header, message):
    with pytest.raises(DataError, match=f"night.jsonl, line 1: .*{message}"):
        night(footage, LINE, header=header)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[1]\n", "line 1: the line does not hold a JSON object"),
        ('{"format": 1, "format": 1}\n', "line 1: the line is not valid JSON .*the key 'format' occurs twice"),
        (json.dumps(HEADER), "names no images"),
        ('{"format": 1' + "[" * 100_000, "line 1: the line (nests deeper|is not valid)"),
    ],
)
def test_text_that_is_no_manifest(tmp_path, text, message):
    path = tmp_path / "night.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_manifest(path)


def test_files_that_do_not_fit(footage):
    make_images(footage / "labels", ["b.png"], (32, 24), label=True)
    lines = [{"image": f"images/{n}.png", "label": f"labels/{n}.png"} for n in "ab"]
    with pytest.raises(DataError, match=r"line 3: label .*b\.png is 32x24, its image 64x48"):
        night(footage, *lines, outputs=("image", "label"))
    make_images(footage / "images", ["b.png"], (32, 24))
    with pytest.raises(DataError, match="line 3: image size or rectify map differ from those of line 2"):
        night(footage, LINE, B)
    make_images(footage / "images", ["a.png"], (64, 24))
    with pytest.raises(DataError, match=r"line 2: .*is 64x24, its sensor 64x48: they do not show the same view"):
        night(footage, LINE)
    recording(footage / "events.npz", unknown_size=True)
    with pytest.raises(DataError, match=r'line 2: .*does not say the size of its sensor; add "sensor"'):
        night(footage, LINE)
    with pytest.raises(DataError, match=r"line 2: .*needs previous_image, which it lacks; add the image taken just"):
        night(footage, {"image": "images/a.png"}, outputs=("image", "img_time_res"))


def test_a_label_outside_the_class_set(footage):
    Image.fromarray(np.full((48, 64), 19, np.uint8)).save(footage / "labels" / "a.png")
    dataset = night(footage, {"image": "images/a.png", "label": "labels/a.png"}, outputs=("image", "label"))
    with pytest.raises(
        DataError, match=r"night\.jsonl, line 2: .*a\.png holds the value 19, which is not a Cityscapes"
    ):
        dataset[0]


STREET = ClassSet("street", ("road", "car"), PALETTE[:2], ((3,), (10, 11)), (0,), from_cityscapes=False)


@pytest.mark.parametrize(
    ("class_set", "values", "classes", "found"),
    [
        ("cityscapes19", (0, 10, 255), DSEC_11, (5, 0, 255)),
        ("dsec11", (0, 10, 255), DSEC_11, (0, 10, 255)),
        ("street", (3, 10, 11, 0), STREET, (0, 1, 1, 255)),
    ],
)
def test_labels_of_a_class_set(footage, class_set, values, classes, found):
    """Labels hold train ids, indices of the classes, or label ids of a class set with its own."""
    columns = np.array(values, np.uint8)[np.arange(64) * len(values) // 64]
    Image.fromarray(np.tile(columns, (48, 1))).save(footage / "labels" / "a.png")
    line = {"image": "images/a.png", "label": "labels/a.png"}
    dataset = night(footage, line, header=HEADER | {"class_set": class_set}, outputs=("image", "label"))
    dataset.classes = classes
    label = np.asarray(dataset.load_label(0))
    assert [label[0, (2 * i + 1) * 32 // len(found)] for i in range(len(found))] == list(found)
    write_statistics(footage, count_classes(footage / "night.jsonl"))
    counted = read_class_pixels(footage, stored_classes(dataset))
    pixels = {str(c): int((label == c).sum()) for c in set(found) - {255}}
    assert [{k: v for k, v in entry.items() if k != "file"} for entry in counted] == [pixels]


def test_labels_of_another_class_set(footage):
    line = {"image": "images/a.png", "label": "labels/a.png"}
    dataset = night(footage, line, header=HEADER | {"class_set": "dsec11"}, outputs=("image", "label"))
    with pytest.raises(
        ConfigError, match=r"night\.jsonl has labels of the class set 'dsec11'.*set classes to 'dsec11'"
    ):
        dataset.classes = CITYSCAPES_19
    dataset = night(footage, line, outputs=("image", "label"))
    with pytest.raises(
        ConfigError, match=r"class set 'cityscapes19', which cannot become those of .* 'street'; add 'cit"
    ):
        dataset.classes = STREET
    target = night(footage, line, outputs=("image",), image_crop_size=(32, 32))
    target.classes = STREET  # it reads no labels


def test_labels_of_the_upper_rows(footage):
    make_images(footage / "labels", ["a.png"], (64, 40), label=True)
    line, header = {"image": "images/a.png", "label": "labels/a.png"}, HEADER | {"label_rows": 40}
    label = night(footage, line, header=header, outputs=("image", "label"))[0]["label"][0]
    assert (label[40:] == 255).all()
    assert torch.equal(label[:40], torch.from_numpy(np.array(Image.open(footage / "labels/a.png"))).long())
    for rows, message in (
        (41, r"is 64x40, its image 64x48, of which the upper 41 rows"),
        (49, "fewer than label_rows"),
    ):
        with pytest.raises(DataError, match=message):
            night(footage, line, header=HEADER | {"label_rows": rows}, outputs=("image", "label"))


def test_a_rectify_map_into_larger_images(footage):
    """Its positions are pixels of the image where a matrix says so; here, of the upper half of the sensor's view."""
    with h5py.File(footage / "map.h5", "w") as file:
        file["rectify_map"] = np.stack(np.meshgrid(np.arange(64), np.arange(48)), -1).astype(np.float32)
    make_images(footage / "images", ["a.png"], (64, 24))
    identity = {"mapping": "rectify_map", "file": "map.h5", "matrix": np.eye(3).tolist()}
    night(footage, LINE, header=HEADER | {"events": identity}, image_resize_size=(64, 24))
    with pytest.raises(DataError, match="do not show the same view"):
        night(footage, LINE, header=HEADER | {"events": {"mapping": "rectify_map", "file": "map.h5"}})
    manifest = read_manifest(footage / "night.jsonl")
    found = position_map(
        Alignment("rectify_map", np.eye(3), footage / "map.h5"), manifest.frames[0], (48, 64), (24, 64)
    )
    assert np.allclose(found[..., 0], np.arange(64))
    assert np.allclose(found[:, 0, 1], (np.arange(48) + 0.5) * 2 - 0.5)


def test_a_matrix_is_for_images_of_one_size(footage):
    make_images(footage / "images", ["b.png"], (32, 24))
    recording(footage / "b.npz")
    events = {"mapping": "homography", "matrix": np.eye(3).tolist()}
    with pytest.raises(DataError, match=r"line 3: .*b\.png is 32x24, images before it 64x48; the mapping of"):
        night(footage, LINE, B | {"events": "b.npz"}, header=HEADER | {"events": events})


def test_many_recordings_are_not_all_kept_open(footage, monkeypatch):
    monkeypatch.setattr("mmseg.datasets.frames.KEPT_OPEN", 1)
    lines = []
    for name in "ab":
        with h5py.File(footage / f"{name}.h5", "w") as file:
            for key, values in dict(t=RAMP * 1000, x=RAMP % 64, y=RAMP % 48, p=RAMP % 2).items():
                file[f"events/{key}"] = values
        lines.append(LINE | {"image": f"images/{name}.png", "events": f"{name}.h5"})
    dataset = night(footage, *lines, header=HEADER | {"sensor": [64, 48]})
    assert [dataset[index]["events_vg"].shape for index in range(2)] == [(3, 48, 64)] * 2
    assert [reader.recording._handle for reader in dataset.recordings.values()] == [None, None]
    assert len({id(reader.map) for reader in dataset.recordings.values()}) == 1


def test_values_of_the_config(footage):
    with pytest.raises(ConfigError, match="a crop of 65x48 does not fit into 64x48"):
        night(footage, LINE, image_crop_size=(65, 48))
    with pytest.raises(ConfigError, match="has both image and warp_image"):
        night(footage, LINE, outputs=("image", "warp_image"))
    with pytest.raises(ConfigError, match="ignored_bottom_rows is 48; images have 48 rows"):
        night(footage, LINE, ignored_bottom_rows=48)


def test_class_statistics(footage, monkeypatch):
    manifest = write(footage / "day.jsonl", HEADER, [{"image": "images/a.png", "label": "labels/a.png"}])
    write_statistics(footage, count_classes(manifest))
    monkeypatch.chdir(footage)
    outputs = ("image", "label")
    source = FramesDataset("day.jsonl", (64, 48), outputs, (32, 32))
    sampler = RareClassSampler(source, footage, {"min_pixels": 20, "min_crop_ratio": 0.5})
    assert sampler.choose(np.random.default_rng(0))[0] == 0
    draws = [source.draw(np.random.default_rng(0))]
    assert sampler.sample(0, 3, draws)["label"].shape == (1, 32, 32)


def test_check(footage):
    section = dict(type="FramesDataset", manifest=str(footage / "night.jsonl"), image_resize_size=(64, 48))
    write(footage / "night.jsonl", HEADER, [LINE])
    config = Config({"data": {"test": section}})
    found, shape = (finding for finding in check_data(config) if "manifest" in finding.check)
    assert (found.found, shape.state) == ("1 images, 0 recordings", "ok")
    section["image_resize_size"] = (64, 64)
    (*_, shape) = check_data(Config({"data": {"test": section}}))
    assert shape.state == "note"
    assert "night.jsonl, line 2: " in shape.cases[0]
    write(footage / "night.jsonl", HEADER, [{"image": "images/c.png"}])
    (finding,) = (finding for finding in check_data(config) if "manifest" in finding.check)
    assert finding.state == "wrong"
    assert "night.jsonl, line 2: image" in finding.cases[0]


@pytest.mark.parametrize("case", range(len(MUSES)))
def test_calibration_at_infinity(tmp_path, case):
    """Against the projection of the MUSES kit, whose results are rounded to whole pixels."""
    golden = MUSES[case]
    intrinsics, (width, height) = golden["calib"]["intrinsics"], golden["size"]
    events = {
        "mapping": "calibration",
        "image": golden["K_rgb_used"],
        "events": intrinsics["event"]["K"],
        "rotation": [row[:3] for row in golden["calib"]["extrinsics"]["event2rgb"][:3]],
    }
    manifest = read_manifest(write(tmp_path / "night.jsonl", HEADER | {"events": events}, [LINE]))
    positions = position_map(manifest.alignment, manifest.frames[0], (720, 1280), (height, width))
    found = positions[golden["y"], golden["x"]]
    # The frame has the sensor's size; its pixels are larger than those of the image.
    found = (found + 0.5) * (width / 1280, height / 720) - 0.5
    wanted = np.stack([golden["rgb_x"], golden["rgb_y"]], axis=-1)
    assert np.abs(found - wanted).max() <= 0.501
