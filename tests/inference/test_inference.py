"""Inference on your own images: labels as in a test, windows as in the data set, one-line errors for bad input."""

import json
import re
import runpy
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN
from helpers.network_tools import make_network, write_list
from helpers.picture_tools import EPS, bomb, write_video
from helpers.prediction_tools import StandIn
from PIL import Image

from mmseg.apis import infer, inference_model, init_model, testing
from mmseg.classes import PALETTE
from mmseg.config.augmentation import TestTimeAugmentation
from mmseg.engine.prediction import Predictor
from mmseg.errors import CMDAError, ConfigError, DataError
from mmseg.evaluation.evaluator import evaluate
from mmseg.events.files import ArrayEvents, FrameEvents, find_windows, open_events
from mmseg.inference.pictures import PictureTimes, open_pictures, picture_times, read_image
from mmseg.io.videos import Video
from mmseg.models.low_precision import PRECISIONS
from mmseg.registry import DATASETS
from mmseg.visualization.films import CODECS

ROOT = Path(__file__).resolve().parents[2]
MINI = GOLDEN / "mini"
SEQUENCE = MINI / "DSEC_Night" / "zurich_city_09_a"
EVENTS = {
    "events": SEQUENCE / "events" / "left" / "events.h5",
    "rectify_map": SEQUENCE / "events" / "left" / "rectify_map.h5",
    "timestamps": SEQUENCE / "images" / "timestamps.txt",
}
CPU = torch.device("cpu")
# Whole frames, as the published network sees them.
WHOLE = {"data.test.test_resize_size": None, "data.train.source.image_resize_size": (1024, 512)}


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> dict[str, Path]:
    """Files of a network for DSEC."""
    return make_network(tmp_path_factory.mktemp("networks") / "dsec", "cmda_toy_city", **WHOLE)


@pytest.fixture(scope="module")
def model(network):
    return init_model(**network, device="cpu")


@pytest.fixture(scope="module")
def night_network(tmp_path_factory) -> dict[str, Path]:
    """Files of a network for Dark Zurich."""
    return make_network(tmp_path_factory.mktemp("networks") / "zurich", "cmda_toy_dark_zurich")


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three images of two sizes, and a file that is not an image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (96, 64)), ("b.jpg", (96, 64)), ("c.bmp", (128, 72))):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.parametrize(("resized", "tta"), [(None, None), ((176, 256), None), ((88, 128), "flip,0.75,1")])
def test_labels_are_those_of_a_test(network, tmp_path, monkeypatch, resized, tta):
    """Fused output, from the files of a sequence: images, recording, rectify map, times."""
    monkeypatch.chdir(MINI / "DSEC_Night")
    model = init_model(**network, device="cpu", cfg_options={"data.test.test_resize_size": resized}, tta=tta)
    write_list(tmp_path / "list.txt", "000797", "000801")
    dataset = DATASETS.build(
        {
            "type": "DSECDataset",
            "dataset_txt_path": tmp_path / "list.txt",
            "outputs": {"warp_image", "events_vg", "img_metas"},
            "test_resize_size": resized,
        }
    )
    predictor = Predictor(model.segmentor, CPU, augmentation=TestTimeAugmentation.parse(tta))
    evaluate(model.segmentor, dataset, "fusion", CPU, tmp_path / "test", predictor=predictor)
    images = [SEQUENCE / "warp_images" / f"{number}.png" for number in ("000796", "000797", "000801")]
    report = infer(model, images, tmp_path / "own", **EVENTS, rows=440)
    assert report.failures == []
    # The recording starts less than 50 ms before the first image.
    assert report.outputs == {"image": 1, "fusion": 2}
    assert report.without_events == ["000796"]
    for number in ("000797", "000801"):
        expected = cv2.imread(str(tmp_path / "test" / f"{SEQUENCE.name}_{number}.png"), cv2.IMREAD_UNCHANGED)
        label = cv2.imread(str(tmp_path / "own" / f"{number}.png"), cv2.IMREAD_UNCHANGED)
        assert len(np.unique(expected)) > 2
        assert label.shape == (440, 640)
        assert (label == expected).all()


def test_precision_and_records_of_a_test(network, tmp_path, monkeypatch):
    """Replayed predictions equal plain ones; the precision of a test is recorded and part of its folder's name."""
    monkeypatch.chdir(MINI / "DSEC_Night")
    write_list(tmp_path / "list.txt", "000797", "000799", "000801")
    work_dir = network["config"].parent
    recorders = []
    monkeypatch.setattr(testing, "recorder_for", lambda *_: recorders[-1])
    for recorder, precision in ((None, "fp32"), (StandIn(), "fp32"), (StandIn(), "bf16")):
        recorders.append(recorder)
        options = {"data.test.dataset_txt_path": str(tmp_path / "list.txt"), "data.test.test_resize_size": (88, 128)}
        out = {} if precision == "bf16" else {"out_dir": tmp_path / f"{len(recorders)}"}
        result = testing.test_work_dir(
            work_dir, cfg_options=options, root_path=None, panels=False, precision=precision, **out
        )
        assert result.samples == 3
        assert recorder is None or len(recorder.records) == 1
    folders = [tmp_path / "1", tmp_path / "2", *work_dir.glob("preds*bf16*")]
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    assert [each["precision"] for each in metrics] == ["fp32", "fp32", "bf16"]
    assert metrics[0] == metrics[1]
    for number in ("000797", "000799", "000801"):
        plain, replayed, rounded = (
            np.array(Image.open(folder / f"{SEQUENCE.name}_{number}.png")) for folder in folders
        )
        assert (plain == replayed).all()
        assert 0.9 < (plain == rounded).mean() < 1


@pytest.mark.parametrize("output", ["image", "fusion"])
def test_labels_are_those_of_a_test_on_dark_zurich(night_network, tmp_path, output):
    """The content map takes the place of the events and is made from the image."""
    model = init_model(**night_network, device="cpu")
    dataset = DATASETS.build(
        {
            "type": "DarkZurichICDataset",
            "dataset_path": MINI / "dark_zurich",
            "test_mode": True,
            "image_resize_size": (288, 162),
        }
    )
    evaluate(model.segmentor, dataset, output, CPU, tmp_path / "test")
    for path in sorted((MINI / "dark_zurich" / "rgb_anon" / "val").rglob("*.png")):
        expected = cv2.imread(str(tmp_path / "test" / path.name), cv2.IMREAD_UNCHANGED)
        # The test's labels have the network's size, so inference gets an image of that size.
        small = np.array(Image.open(path).resize((288, 162), Image.Resampling.BILINEAR))
        assert (inference_model(model, small, output=output).label == expected).all()
        own = inference_model(model, path, output=output)
        assert own.input_size == (162, 288)
        assert own.label.shape == np.array(Image.open(path)).shape[:2]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"events_bins_5_avg_1": True},
        {"events_clip_range": (0.05, 0.5)},
        {"events_num": 5000},
        {"image_change_range": 2},
        {"test_resize_size": (220, 320)},
    ],
)
def test_events_are_those_of_the_data_set(network, tmp_path, monkeypatch, changes):
    monkeypatch.chdir(MINI / "DSEC_Night")
    write_list(tmp_path / "list.txt", "000799", "000801")
    dataset = DATASETS.build(
        {"type": "DSECDataset", "dataset_txt_path": tmp_path / "list.txt", "outputs": {"warp_image", "events_vg"}}
        | changes
    )
    model = init_model(
        **network, device="cpu", cfg_options={f"data.test.{key}": value for key, value in changes.items()}
    )
    images = [frame.warp_image for frame in dataset.frames]
    times = picture_times(open_pictures(images), EVENTS["timestamps"])
    source = open_events(EVENTS["events"], EVENTS["rectify_map"])
    frames, number = changes.get("image_change_range", 1), changes.get("events_num", 0)
    windows = find_windows(source, times.times, times.earlier(frames), frames, number=number)
    assert windows == dataset.windows
    size = changes.get("test_resize_size", (440, 640))
    for i, image in enumerate(images):
        made = model.inputs(read_image(image), source.events(*windows[i]), "fusion", size, 440)
        expected = dataset[i]
        assert torch.equal(made["events"], expected["events_vg"])
        assert torch.equal(made["image"], expected["warp_image"])


def test_a_batch_equals_single_images(model):
    images = sorted((SEQUENCE / "warp_images").glob("*.png"))[:3]
    single = [inference_model(model, image, size=(120, 160)) for image in images]
    together = inference_model(model, images, size=(120, 160), batch=2)
    for one, other in zip(single, together, strict=True):
        assert one.output == "image"
        assert one.label.dtype == np.uint8
        assert one.label.shape == one.confidence.shape == (480, 640)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)
        assert (one.label == other.label).mean() > 0.9999
        assert 1 / 19 <= one.confidence.min() <= one.confidence.max() <= 1
    assert isinstance(together, list)


def test_arrays_and_teacher(network, model, photos):
    array = read_image(photos / "a.png")
    from_file, from_array = (inference_model(model, image, size="image") for image in (photos / "a.png", array))
    assert (from_file.label == from_array.label).all()
    teacher = inference_model(init_model(**network, device="cpu", model="teacher"), array, size="image")
    assert (teacher.confidence != from_file.confidence).any()


def test_bf16_is_close_and_resizes_in_32_bits(network, model, photos):
    rounded = inference_model(init_model(**network, device="cpu", precision="bf16"), photos / "a.png", size="image")
    exact = inference_model(model, photos / "a.png", size="image")
    assert (rounded.label == exact.label).mean() > 0.9
    assert len(np.unique(rounded.confidence)) > 1000


def test_usual_sizes(network, night_network, model):
    """About the 1024x512 pixels of the training, unless the config's test resizes."""
    for size in ((440, 640), (720, 1280), (512, 1024)):
        assert model.usual_size(*size) == size
    assert model.usual_size(1080, 1920) == (543, 965)
    assert model.usual_size(120, 160) == (627, 836)
    toy = init_model(**network, device="cpu", cfg_options={"data.test.test_resize_size": (176, 256)})
    assert toy.usual_size(440, 640) == (176, 256)
    night = init_model(**night_network, device="cpu")
    assert night.usual_size(1080, 1920) == (162, 288)


def test_files(model, photos, tmp_path):
    """Every kind of file has the size of its image; existing files are replaced."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_text("of an earlier run")
    kinds = ("label", "overlay", "color", "confidence")
    report = infer(model, [photos], out, save=kinds, opacity=0.25, batch=4, size="image")
    assert (report.written, report.outputs, report.failures) == (3, {"image": 3}, [])
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    names = ("a.png", "b.png", "c.png")
    assert found == {*names, *(f"{kind}/{name}" for kind in kinds[1:] for name in names)}
    for name, source in (("a", "a.png"), ("c", "c.bmp")):
        image = read_image(photos / source)
        label, color, confidence, overlay = (
            np.array(Image.open(out / folder / f"{name}.png")) for folder in ("", "color", "confidence", "overlay")
        )
        prediction = inference_model(model, image, size="image")
        assert (label == prediction.label).mean() > 0.999
        assert (color == np.array(PALETTE, np.uint8)[label]).all()
        assert confidence.dtype == np.uint8
        np.testing.assert_allclose(confidence / 255, prediction.confidence, atol=0.01)
        np.testing.assert_allclose(overlay, 0.25 * color + 0.75 * image, atol=1)


def test_an_unreadable_image_is_reported_and_the_others_are_predicted(model, photos, tmp_path):
    (photos / "aa.png").write_bytes((photos / "a.png").read_bytes()[:200])
    Image.new("RGB", (10, 10)).save(photos / "tiny.png")
    Image.fromarray(np.zeros((64, 96), np.uint16)).save(photos / "deep.png")
    bomb(photos / "bomb.png", 20_000)
    (photos / "eps.png").write_bytes(EPS)
    (photos / "._a.png").write_bytes(b"\0\5\x16\7")
    report = infer(model, [photos], tmp_path / "out", save=["label"], size="image", batch=2)
    assert report.written == 3
    expected = (
        "aa.png is not a readable image",
        "bomb.png is too large: 20000x20000",
        "deep.png has more than 8 bits",
        "eps.png is not a readable image",
        "tiny: ",
    )
    for message, part in zip(report.failures, expected, strict=True):
        assert part in message


def test_images_are_turned_upright(tmp_path):
    """A camera that was held sideways records it in EXIF."""
    image = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "side.png", exif=exif)
    assert read_image(tmp_path / "side.png").shape == (3, 2, 3)


def test_video(model, tmp_path):
    write_video(tmp_path / "drive.avi")
    report = infer(model, [tmp_path / "drive.avi"], tmp_path / "out", batch=2, size="image")
    assert report.written == 5
    assert (tmp_path / "out" / "drive_000004.png").is_file()
    film = Video(tmp_path / "out" / "overlay.mp4")
    assert (len(film), film.frame_rate) == (5, 20.0)
    frames = [picture.read() for picture in film]
    assert frames[0].shape == (64, 96, 3)
    shown = np.array(Image.open(tmp_path / "out" / "overlay" / "drive_000004.png"))
    assert np.abs(frames[4].astype(int) - shown).mean() < 12
    assert not list((tmp_path / "out").glob(".*"))
    assert report.film in CODECS
    assert f"overlay.mp4 is {report.film.name}" in "\n".join(report.lines())


@pytest.mark.parametrize(("batch", "precision"), [(1, "fp32"), (2, "bf16")])
def test_a_recorded_video_equals_its_frames(network, tmp_path, batch, precision):
    """Overlapped, replayed predictions equal those of single frames, also for a shorter last batch."""
    write_video(tmp_path / "drive.avi", 7)
    model = init_model(**network, device="cpu", precision=precision)
    told, recorder = [], StandIn()
    predictor = Predictor(model.segmentor, CPU, PRECISIONS[precision], recorder, told.append)
    report = infer(
        replace(model, predictor=predictor),
        [tmp_path / "drive.avi"],
        tmp_path / "out",
        save=["label", "confidence", "overlay"],
        batch=batch,
        size="image",
    )
    assert (len(recorder.records), told) == (1, [])
    assert re.search(r"7 of 7 frames predicted .*: [\d.]+ frames/s", report.lines()[0])
    for number, picture in enumerate(Video(tmp_path / "drive.avi")):
        expected = inference_model(model, picture.read(), size="image")
        name = f"drive_{number:06d}.png"
        label, confidence = (np.array(Image.open(tmp_path / "out" / part / name)) for part in ("", "confidence"))
        assert (label == expected.label).mean() > 0.999
        assert np.abs(confidence / 255 - expected.confidence).max() < 0.02


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("mmseg.io.videos.Video.__iter__", ValueError("bad packet"), "reading the pictures failed (Val"),
        ("mmseg.inference.files.prepare", KeyError("x"), "preparing drive_000000 failed (KeyError"),
        ("mmseg.engine.prediction.Predictor.begin", RuntimeError("launch failed"), "predicting failed (RuntimeError"),
        ("mmseg.inference.model.color_label", IndexError("no colour"), "drawing and writing drive_000000 failed"),
        ("mmseg.inference.files.save_picture", OSError(28, "No space left"), "out cannot be written (No space"),
        ("mmseg.inference.files.save_picture", MemoryError(), "drawing and writing drive_000000 failed (Mem"),
    ],
)
def test_an_error_of_a_stage_is_one_message(model, tmp_path, monkeypatch, place, error, message):
    def fail(*arguments, **options):
        raise error

    write_video(tmp_path / "drive.avi", 7)
    monkeypatch.setattr(place, fail)
    before = threading.active_count()
    with pytest.raises(CMDAError) as caught:
        infer(model, [tmp_path / "drive.avi"], tmp_path / "out", size="image")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert threading.active_count() == before
    assert not (tmp_path / "out" / "overlay.mp4").exists()
    assert not list((tmp_path / "out").rglob(".*"))


def test_times_of_a_video(tmp_path):
    write_video(tmp_path / "drive.avi")
    video = Video(tmp_path / "drive.avi")
    assert picture_times(video, start_time=1000).times == (1000, 51000, 101000, 151000, 201000)


def test_times_of_images(tmp_path):
    """One line per image, in order; or, as in DSEC, the line of the image's number."""
    times, files = tmp_path / "times.txt", [tmp_path / f"{number:06d}.png" for number in (1, 3)]
    for path in files:
        Image.new("RGB", (4, 4)).save(path)
    pictures = open_pictures(files)
    times.write_text("100\n200\n")
    assert picture_times(pictures, times).earlier(1) == [None, 100]
    times.write_text("0\n50\n100\n150\n")
    found = picture_times(pictures, times)
    assert found.times == (50, 150)
    assert found.earlier(1) == [0, 100]
    assert picture_times(open_pictures(files[:1]), start_time=7).times == (7,)


def columns(times) -> dict[str, np.ndarray]:
    times = np.asarray(times)
    number = np.arange(len(times))
    return {"t": times, "x": number % 96, "y": number % 64, "p": number % 2}


def test_windows():
    """50 ms, or since the previous image if that is about as long; a whole window, or none."""
    source = ArrayEvents(Path("events"), columns(np.arange(0, 300_000, 1000)))
    times = PictureTimes.of_all([40_000, 52_000, 100_000, 200_000, 299_000, 299_500])
    windows = find_windows(source, times.times, times.earlier(1))
    # At 52 ms, 12 ms after the first image: 50 ms. At 100 ms: since the previous image. The last is past the recording.
    assert windows == [None, (2, 52), (52, 100), (150, 200), (249, 299), None]
    assert find_windows(source, [100_000], [60_000], window=10_000) == [(90, 100)]
    assert find_windows(source, [100_000], [None], number=7) == [(94, 100)]
    assert find_windows(ArrayEvents(Path("events"), columns([5, 5, 5])), [5], [None], window=1) == [None]


def test_formats_agree(tmp_path):
    """Every file format gives the same events."""
    rng = np.random.default_rng(0)
    n = 3000
    columns = {
        "t": np.sort(rng.integers(0, 200_000, n)) + 10,
        "x": rng.integers(0, 640, n),
        "y": rng.integers(0, 480, n),
        "p": rng.integers(0, 2, n),
    }
    np.savez(tmp_path / "e.npz", **{**columns, "p": columns["p"] * 2 - 1}, height=480, width=640)
    table = np.stack([columns[key] for key in "txyp"], axis=1)
    np.savetxt(tmp_path / "plain.csv", table, "%d", ",")
    np.savetxt(tmp_path / "named.csv", table[:, [1, 2, 3, 0]], "%d", ",", header="x,y,p,t", comments="")
    with h5py.File(tmp_path / "e.h5", "w") as file:
        for key, kind in zip("txyp", ("u4", "u2", "u2", "u1"), strict=True):
            file[f"events/{key}"] = columns[key].astype(kind)
        file["t_offset"] = 0
    expected = None
    for name in ("e.h5", "e.npz", "plain.csv", "named.csv"):
        for rectify_map in (None, EVENTS["rectify_map"]):
            source = open_events(tmp_path / name, rectify_map)
            (window,) = find_windows(source, [150_000], [None])
            found = source.events(*window)
            expected = expected or {}
            if rectify_map not in expected:
                expected[rectify_map] = found
            for key in "txyp":
                np.testing.assert_array_equal(getattr(found, key), getattr(expected[rectify_map], key), err_msg=name)
            assert found.rectified == (rectify_map is not None)
            assert found.size == (None if name.endswith("csv") and rectify_map is None else (480, 640))


def write_evt3(path: Path, events: dict[str, np.ndarray]) -> None:
    """Prophesee's EVT 3.0: 16-bit words for the upper and the lower 12 bits of the time, y, and x with polarity."""
    words, row, (high, low) = [], None, (-1, -1)
    for t, x, y, p in zip(*(events[key].tolist() for key in "txyp"), strict=True):
        while high < t >> 12:
            high = t >> 12 if high < 0 else high + 1
            words.append(0x8000 | high & 0xFFF)
        if (high, t & 0xFFF) != low:
            low = (high, t & 0xFFF)
            words.append(0x6000 | t & 0xFFF)
        if y != row:
            row = y
            words.append(y)
        words.append(0x2000 | p << 11 | x)
    path.write_bytes(b"% evt 3.0\n% geometry 640x480\n% end\n" + np.array(words, "<u2").tobytes())


def write_dat(path: Path, events: dict[str, np.ndarray]) -> None:
    """Prophesee's DAT 2: 32 bits of time, then x, y and polarity."""
    t, x, y, p = (events[key].astype("<u4") for key in "txyp")
    path.write_bytes(b"% Version 2\n\x0c\x08" + np.stack((t, x | y << 14 | p << 28), axis=1).tobytes())


def test_files_of_cameras(tmp_path):
    """Also with times beyond the 24 bits of EVT 3.0."""
    pytest.importorskip("faery")
    expected = columns(np.arange(2000) * 10_007)
    for write, name, size in ((write_evt3, "e.raw", (480, 640)), (write_dat, "e.dat", None)):
        write(tmp_path / name, expected)
        found = open_events(tmp_path / name).events(0, 1999)
        assert found.size == size
        for key in "txyp":
            np.testing.assert_array_equal(getattr(found, key), expected[key], err_msg=name)
    (tmp_path / "e.aedat4").write_text("no recording")
    with pytest.raises(DataError, match=r"e\.aedat4 is not a recording that faery reads"):
        open_events(tmp_path / "e.aedat4")


def test_files_of_cameras_need_a_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faery", None)
    write_dat(tmp_path / "e.dat", columns(np.arange(10)))
    with pytest.raises(DataError, match=r"needs the package faery.*pip install faery"):
        open_events(tmp_path / "e.dat")


def write_h5(path: Path, events: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for key in "txyp":
            file[f"events/{key}"] = events[key]
        file["t_offset"] = 0


@pytest.mark.parametrize("sensor", [(720, 1280), (260, 346), (480, 640)])
def test_any_sensor(model, tmp_path, sensor):
    """Files in DSEC's format do not say the size of their sensor; the images or a rectify map do."""
    height, width = sensor
    number = np.arange(2000)
    events = {"t": number * 100, "x": number * 7 % width, "y": number * 5 % height, "p": number % 2}
    events["x"][1500], events["y"][1500] = width - 1, height - 1
    write_h5(tmp_path / "e.h5", events)
    np.savez(tmp_path / "e.npz", **events, height=height, width=width)
    with h5py.File(tmp_path / "map.h5", "w") as file:
        file["rectify_map"] = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    given = {"sensor": sensor} if sensor == (260, 346) else {}  # it would fit into DSEC's frame
    sources = [open_events(tmp_path / "e.npz"), open_events(tmp_path / "e.h5", **given)]
    sources += [open_events(tmp_path / name, tmp_path / "map.h5") for name in ("e.npz", "e.h5")]
    wanted, *others = [
        model.inputs(image, source.events(1000, 1999), "events", (64, 96), height)["events"] for source in sources
    ]
    assert wanted.abs().sum() > 0
    for found in others:
        assert torch.equal(found, wanted)


def test_a_sensor_that_does_not_fit(model, tmp_path):
    number = np.arange(1000)
    events = {"t": number * 100, "x": number % 300, "y": number % 200, "p": number % 2}
    write_h5(tmp_path / "e.h5", events)
    image = np.zeros((260, 346, 3), np.uint8)
    guessed = open_events(tmp_path / "e.h5").events(0, 999)
    with pytest.raises(ConfigError, match=r"a frame of 640x480, their image is 346x260.*another size, give it \(--sen"):
        model.inputs(image, guessed, "events", (64, 96), 260)
    np.savez(tmp_path / "e.npz", **events, height=260, width=346)
    with pytest.raises(DataError, match="of a sensor of 346x260 pixels, not 640x480; leave the sensor's"):
        open_events(tmp_path / "e.npz", sensor=(480, 640))
    with pytest.raises(DataError, match="rectify_map has shape"):
        open_events(tmp_path / "e.h5", EVENTS["rectify_map"], (260, 346))


def test_rectified_events_may_belong_to_a_resized_image(model):
    """Rectified events show the same view at another size; others must lie on the image's own pixels."""
    image = np.zeros((240, 320, 3), np.uint8)
    t = np.arange(4)
    x, y, p = (np.array(values, np.float32) for values in ([0, 300, 630, 5], [0, 100, 470, 9], [0, 1, 1, 0]))
    made = model.inputs(image, FrameEvents(t, x, y, p, (480, 640), rectified=True), "events", (240, 320), 240)
    assert made["events"].shape == (3, 240, 320)
    for events in (
        FrameEvents(t, x, y, p, (480, 640)),
        FrameEvents(t, x, y, p),
        FrameEvents(t, x, y, p, (480, 600), True),
    ):
        with pytest.raises(ConfigError, match=r"image .*320x240; an image must show what the event camera sees"):
            inference_model(model, image, events)


def test_arguments_from_python(model):
    image = np.zeros((64, 96, 3), np.uint8)
    events = FrameEvents(*(np.zeros(3) for _ in range(4)))
    for arguments, message in (
        (dict(images=image[..., 0]), "give (H, W, 3) of uint8"),
        (dict(images=[image], events=[]), "1 images with events for 0"),
        (dict(images=image, events=events), "3 events at the same time"),
        (dict(images=image, output="fusion"), "needs events"),
        (dict(images=image, size=(16, 64)), "at least 32"),
        (dict(images=image, size="whole"), "size is 'whole'"),
        (dict(images=image[:20], size="image"), "an image of 96x20 would be 96x20 in the network"),
        (dict(images=image, output="fusion_isr"), "fusion_isr_module"),
    ):
        with pytest.raises(CMDAError) as caught:
            inference_model(model, **arguments)
        assert message in str(caught.value)


def run_tool(monkeypatch, capsys, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["infer.py", *map(str, words)])
    code = 0
    try:
        runpy.run_path(str(ROOT / "tools" / "infer.py"), run_name="__main__")
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_tool(network, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ("photos", "--work-dir", network["config"].parent, "--out", "out", "--no-resize", "--device", "cpu")
    code, printed, errors = run_tool(monkeypatch, capsys, *words)
    assert (code, errors) == (0, "")
    assert "weights of the student, on cpu" in printed
    assert "a: 96x64, in the network 96x64; it was trained on images of 1024x512" in printed
    assert "3 of 3 pictures predicted (image output: 3)" in printed
    assert "label, overlay in out" in printed
    (photos / "aa.png").write_text("no image")
    code, printed, errors = run_tool(monkeypatch, capsys, *words)
    assert code == 1
    assert "3 of 4 pictures predicted" in printed
    assert "failed: photos/aa.png is not a readable image" in errors


@pytest.fixture
def bad(photos, tmp_path, monkeypatch) -> Path:
    """Working directory with every kind of bad input."""
    monkeypatch.chdir(tmp_path)
    for name in ("events.h5", "e.raw", "film.mp4", "e.aedat", "cut.npz"):
        Path(name).write_text("no such file")
    shutil.copytree(photos, "twins")
    shutil.copy(photos / "a.png", "twins/a.jpeg")
    Path("empty").mkdir()
    Path("a_file").touch()
    Path("two.txt").write_text("1\n2\n")
    Path("three.txt").write_text("50000\n100000\n150000\n")
    Path("falling.txt").write_text("3\n2\n1\n")
    Path("words.txt").write_text("1\n2\nlater\n")
    np.savez("txy.npz", t=[1], x=[1], y=[1])
    np.savez("falling.npz", t=[2, 1], x=[1, 1], y=[1, 1], p=[0, 1])
    np.savez("seconds.npz", t=[0.5, 1], x=[1, 1], y=[1, 1], p=[0, 1])
    np.savez("late.npz", t=[10**9, 10**9 + 1], x=[1, 1], y=[1, 1], p=[0, 1])
    np.savez("wide.npz", **{**columns(np.arange(0, 200_000, 100)), "x": np.full(2000, 1279)})
    np.savez("sized.npz", **columns(np.arange(0, 200_000, 100)), height=720, width=1280)
    np.savez("ragged.npz", t=[1, 2], x=[1], y=[1, 1], p=[0, 1])
    Path("words.csv").write_text("now,here,there,up\nlater,1,2,3\n")
    return tmp_path


THREE = "--timestamps three.txt"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere", "nowhere does not exist"),
        ("photos/notes.txt", "neither an image"),
        ("empty", "empty holds no image"),
        ("twins", "twins/a.jpeg and twins/a.png would both become a.png"),
        ("photos photos/a.png", "photos/a.png and photos/a.png would both become a.png"),
        ("film.mp4", "film.mp4 is not a video"),
        ("film.mp4 photos", "film.mp4 is a video; give either one video, or images and folders"),
        ("film.mov", "film.mov does not exist"),
        ("photos --out photos", "photos holds the image photos/a.png, which its prediction would overwrite"),
        ("photos --out a_file", "a_file cannot be written"),
        ("photos --device tpu", "device 'tpu' is unknown"),
        ("photos --device cuda:77", "torch finds"),
        ("photos --precision fp16", "precision='fp16' needs a CUDA GPU"),
        ("photos --output fusion", "the output 'fusion' needs events; add --events"),
        ("photos --output fusion_isr", "fusion_isr_module"),
        ("photos --resize 31 64", "size is (31, 64)"),
        ("photos --start-time 3", "but no events; add --events"),
        ("photos --events nowhere.h5", "events need the times of the images"),
        (f"photos --events nowhere.h5 {THREE}", "event recording nowhere.h5 does not exist"),
        (f"photos --events events.h5 {THREE}", "events.h5 is not a readable DSEC recording"),
        (f"photos --events events.h5 --rectify-map no.h5 {THREE}", "rectify map no.h5 does not exist"),
        (f"photos --events events.h5 --rectify-map two.txt {THREE}", "two.txt is not a readable rectify map"),
        (f"photos --events e.aedat {THREE}", "e.aedat does not have the suffix of an event recording; known: .h5"),
        (f"photos --events cut.npz {THREE}", "cut.npz is not a readable .npz"),
        (f"photos --events txy.npz {THREE}", "txy.npz holds no p"),
        (f"photos --events falling.npz {THREE}", "falling.npz holds times that are not in order (event 1 at"),
        (
            f"photos --events seconds.npz {THREE}",
            "seconds.npz holds times that are not whole microseconds",
        ),
        (f"photos --events ragged.npz {THREE}", "ragged.npz holds columns of different lengths (2 t, 1 x, 2 y, 2 p)"),
        (f"photos --events words.csv {THREE}", "words.csv is not a readable table of events"),
        (f"photos --events late.npz {THREE}", "are these times on its clock?"),
        (f"photos --events wide.npz {THREE}", "outside their image of 96x64"),
        (f"photos --events sized.npz {THREE}", "events are in a frame of 1280x720, their image is 96x64"),
        ("photos --events wide.npz --timestamps two.txt", "two.txt has 2 lines for 3 images"),
        ("photos --events wide.npz --timestamps falling.txt", "falling.txt, line 2: this timestamp is earlier"),
        ("photos --events wide.npz --timestamps words.txt", "words.txt, line 3: 'later' is not an image timestamp"),
        ("photos --events wide.npz --timestamps no.txt", "no.txt is missing. Give a text file with one ascending time"),
        ("photos --events wide.npz --start-time 0", "--start-time is for a video or one image, not for 3"),
        (f"photos --events wide.npz --start-time 0 {THREE}", "give --timestamps FILE, or --start-time"),
        ("photos --cfg-options data.test.test_resize=3", "did you mean 'test_resize_size'"),
    ],
)
def test_bad_input_is_one_line(network, model, bad, monkeypatch, capsys, words, message):
    if not {"--device", "--precision", "--cfg-options"} & set(words.split()):
        # One network for all cases that are not about it.
        monkeypatch.setattr("mmseg.inference.model.init_model", lambda *_, **__: model)
    given = [] if "--device" in words else ["--device", "cpu"]
    given += [] if "--out" in words.split() else ["--out", "out"]
    code, _, errors = run_tool(monkeypatch, capsys, *words.split(), "--work-dir", network["config"].parent, *given)
    assert code == 2
    assert message in errors
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--work-dir w --config c",
        "--config c",
        "--work-dir w --resize 3",
        "--work-dir w --opacity 2",
    ],
)
def test_usage(tmp_path, monkeypatch, capsys, words):
    code, _, errors = run_tool(monkeypatch, capsys, "photos", "--out", tmp_path, *words.split())
    assert code == 2
    assert "usage" in errors


@pytest.mark.parametrize("name", ["cmda_toy_dark_zurich", "image_only_toy_city"])
def test_networks_without_an_input_for_events(photos, tmp_path, name):
    model = init_model(**make_network(tmp_path / "network", name), device="cpu")
    assert not model.takes_events
    with pytest.raises(ConfigError, match="this network takes no events"):
        infer(model, [photos], tmp_path / "out", events=EVENTS["events"], timestamps=EVENTS["timestamps"])
    assert infer(model, [photos], tmp_path / "out", save=["label"]).outputs == {"image": 3}
    if name == "cmda_toy_dark_zurich":
        assert infer(model, [photos], tmp_path / "out", output="fusion", save=["label"]).outputs == {"fusion": 3}
    else:
        with pytest.raises(ConfigError, match="its only output is 'image'"):
            infer(model, [photos], tmp_path / "out", output="fusion")


def test_content_maps_as_in_training(night_network, photos):
    """The parameters of the training differ from those of the published tests."""
    maps = [
        init_model(**night_network, device="cpu", train_isr_parms=as_trained).inputs(
            read_image(photos / "a.png"), None, "fusion", (64, 96), 64
        )["events"]
        for as_trained in (False, True)
    ]
    assert not torch.equal(*maps)


def test_a_named_output_without_events_fails_only_that_image(model, tmp_path):
    """The recording does not reach back far enough for the first image."""
    arguments = dict(save=["label"], rows=440, size=(110, 160), output="events")
    images = [SEQUENCE / "warp_images" / f"{number}.png" for number in ("000796", "000797")]
    report = infer(model, images, tmp_path / "out", **EVENTS, **arguments)
    assert report.outputs == {"events": 1}
    assert len(report.failures) == 1
    assert report.failures[0].startswith("000796: the output 'events' needs events")
