"""Manifests of published data sets, from small trees in their layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.golden_tools import GOLDEN
from helpers.layout_trees import (
    SCENES,
    label_map,
    make_acdc,
    make_bdd100k,
    make_dsec_sequence,
    make_muses,
    make_nightcity,
    make_nighttime_driving,
    recording,
)

from mmseg.classes import DSEC_11
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.datasets.frames import FramesDataset
from mmseg.datasets.manifest import read_manifest
from mmseg.errors import ConfigError, DataError
from mmseg.events.event_index import image_event_index, last_window
from mmseg.preparation.layouts import Selection
from mmseg.preparation.layouts.find import find
from mmseg.preparation.layouts.muses import Calibration
from mmseg.preparation.manifests import write_manifest

PROJECTIONS = json.loads((GOLDEN / "muses_projection.json").read_text())
CALIBRATION = PROJECTIONS[0]["calib"]
EVENTS = ("warp_image", "events_vg", "label")


def manifest_of(folder: Path, layout: str, root: Path, **selection):
    content = find(layout, root, Selection(**selection))
    path = folder / "manifests" / "frames.jsonl"
    write_manifest(path, content)
    return read_manifest(path), content.summary()


def names(manifest) -> list[str]:
    return [frame.name for frame in manifest.frames]


# --------------------------------------------------------------------------------------------------- MUSES


def test_muses(tmp_path):
    root = make_muses(tmp_path / "muses", CALIBRATION)
    manifest, summary = manifest_of(tmp_path, "muses", root, split="train", time_of_day=("night",))
    assert summary == "2 images"
    assert [(frame.name, frame.sequence) for frame in manifest.frames] == [
        ("REC0001_frame_000001", "clear_night"),
        ("REC0001_frame_000002", "rain_night"),
    ]
    assert manifest.sensor == (720, 1280)
    first = manifest.frames[0]
    assert first.label.name == "REC0001_frame_000001_gt_labelTrainIds.png"
    assert (first.time, first.window.count) == (29_999, 2001)  # all events: the file holds 30 ms
    dataset = FramesDataset(manifest.path, (64, 36), EVENTS)
    assert [a for a, _ in dataset.windows] == [0, 0]
    sample = dataset[0]
    assert sample["events_vg"].shape == (3, 36, 64)
    assert sample["events_vg"].abs().sum() > 0
    assert sorted(set(sample["label"].flatten().tolist())) == [0, 2, 10, 13, 255]
    maps = {id(recording.map) for recording in dataset.recordings.values()}
    assert len(maps) == 1  # one map of megabytes serves all recordings


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (dict(split="train"), [0, 1, 2]),
        (dict(split="train", weather=("clear",)), [0, 2]),
        (dict(split="train", weather=("clear", "rain"), time_of_day=("night",)), [0, 1]),
        (dict(split="val"), [3]),
        (dict(split="test"), [4]),
        (dict(split="train", skip=1, every=2), [1]),
    ],
)
def test_muses_filters(tmp_path, selection, found):
    root = make_muses(tmp_path / "muses", CALIBRATION)
    manifest, _ = manifest_of(tmp_path, "muses", root, **selection)
    assert names(manifest) == [list(SCENES)[i] for i in found]
    assert all((frame.label is None) == (selection["split"] == "test") for frame in manifest.frames)


@pytest.mark.parametrize("golden", PROJECTIONS, ids=lambda golden: "x".join(map(str, golden["size"])))
def test_muses_projection(tmp_path, golden):
    """Of the calibration file, scaled to the size of the images; the kit rounds to whole pixels."""
    (tmp_path / "calib.json").write_text(json.dumps(golden["calib"]))
    header = {"format": 1, "class_set": "cityscapes19"}
    header["events"] = Calibration(tmp_path / "calib.json").mapping(tuple(golden["size"]))
    (tmp_path / "m.jsonl").write_text(f'{json.dumps(header)}\n{{"image": "a.png"}}\n')
    matrix = read_manifest(tmp_path / "m.jsonl").alignment.matrix
    mapped = np.stack([golden["x"], golden["y"], np.ones(len(golden["x"]))], 1) @ matrix.T
    found = mapped[:, :2] / mapped[:, 2:]
    wanted = np.stack([golden["rgb_x"], golden["rgb_y"]], 1)
    assert np.abs(found - wanted).max() <= 0.5 + 1e-3


def test_the_last_events_of_a_longer_recording(tmp_path):
    path = recording(tmp_path / "e.h5", np.arange(0, 100_000, 10), offset=5_000_000)
    assert last_window(path, 30_000) == (5_099_990, 3001)
    assert image_event_index(path, [5_099_990]).tolist() == [9999]
    path = recording(tmp_path / "without.h5", np.arange(0, 100_000, 10))
    assert last_window(path, 30_000) == (99_990, 3001)
    with pytest.raises(DataError, match="it has no t_offset"):
        image_event_index(path, [99_990])
    assert image_event_index(path, [99_990], missing_offset=0).tolist() == [9999]


def change_meta(root, **changes):
    path = root / "meta.json"
    meta = json.loads(path.read_text())
    meta[next(iter(SCENES))] |= changes
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / "meta.json").unlink(), r"meta\.json does not exist; give the folder of MUSES that holds meta"),
        (lambda r: (r / "calib.json").unlink(), r"calib\.json does not exist; download it again, or give --without-ev"),
        (lambda r: (r / "calib.json").write_text("{}"), r"calib\.json: intrinsics\.rgb\.K is not a matrix of 3x3"),
        (lambda r: change_meta(r, weather=3), "scene 'REC0001_frame_000001' has no text 'weather'"),
        (
            lambda r: change_meta(r, path_to_frame_camera="../../x.png"),
            "'../../x.png', which is not a path in the data",
        ),
        (
            lambda r: change_meta(r, path_to_event_camera="/etc/passwd"),
            "'/etc/passwd', which is not a path in the data",
        ),
        (lambda r: change_meta(r, path_to_event_camera="event_camera/x.h5"), "x.h5 does not exist; download event_cam"),
        (
            lambda r: (r / "frame_camera").rename(r / "moved"),
            "2 left out: the image file is not there.*frame_camera.png",
        ),
        (
            lambda r: (r / "gt_semantic").rename(r / "moved"),
            "2 left out: no label map.*download gt_semantic, or give --w",
        ),
    ],
)
def test_a_damaged_muses(tmp_path, damage, message):
    root = make_muses(tmp_path / "muses", CALIBRATION)
    damage(root)
    with pytest.raises(DataError, match=message):
        find("muses", root, Selection(split="train", time_of_day=("night",)))


def test_muses_has_no_such_scene(tmp_path):
    root = make_muses(tmp_path / "muses", CALIBRATION)
    with pytest.raises(
        DataError, match=r"no scene is of this split, weather.*its scenes: test snow night \(1\), train"
    ):
        find("muses", root, Selection(split="val", weather=("snow",)))
    with pytest.raises(DataError, match=r"give the folder of MUSES that holds meta\.json; .*muses has it"):
        find("muses", tmp_path, Selection(split="val"))
    content = find("muses", root, Selection(split="val", events=False, labels=False))
    assert content.lines == [
        {
            "image": root / "frame_camera/val/fog/night/REC0002_frame_000004_frame_camera.png",
            "label": None,
            "name": "REC0002_frame_000004",
            "sequence": "fog_night",
        }
    ]
    assert "events" not in content.header


# ---------------------------------------------------------------------------------------------------- DSEC


@pytest.mark.parametrize("as_downloaded", [True, False])
@pytest.mark.parametrize("classes", ["11", "19"])
def test_dsec_semantic(tmp_path, as_downloaded, classes):
    images = "warp_images" if as_downloaded else "images/left/ev_inf"
    root = tmp_path / "DSEC_Semantic"
    for split, name in (("train", "zurich_city_00_a"), ("test", "zurich_city_13_a")):
        make_dsec_sequence(root / split / name, 5, images, as_downloaded)
    manifest, summary = manifest_of(tmp_path, "dsec-semantic", root, split="test", classes=classes)
    assert summary == "2 images; 3 left out: the recording does not cover their window"
    assert names(manifest) == ["zurich_city_13_a_000003", "zurich_city_13_a_000004"]
    assert manifest.class_set == {"11": "dsec11", "19": "cityscapes19"}[classes]
    assert manifest.label_rows == 440
    dataset = FramesDataset(manifest.path, (640, 480), EVENTS)
    dataset.classes = DSEC_11
    label = dataset[0]["label"][0]
    assert (label[440:] == 255).all()
    assert label[:440].unique().tolist() == ([0, 1, 5, 10, 255] if classes == "11" else [0, 1, 5, 8, 255])
    assert label[0, 0] == (0 if classes == "11" else DSEC_11.names.index("road"))
    tested = FramesDataset(manifest.path, (640, 480), EVENTS, ignored_bottom_rows=40)
    assert tested.prediction_size == (440, 640)


def test_dsec_semantic_of_one_class_set_only(tmp_path):
    make_dsec_sequence(tmp_path / "zurich_city_13_a", 4)
    manifest, _ = manifest_of(tmp_path, "dsec-semantic", tmp_path, split="test")
    dataset = FramesDataset(manifest.path, (640, 480), EVENTS)
    with pytest.raises(ConfigError, match=r"frames\.jsonl has labels of the class set 'dsec11', which cannot become"):
        dataset[0]


def test_dsec_semantic_images_without_the_hood(tmp_path):
    """Images of 440 rows show the upper rows of the sensor."""
    samples = []
    for rows in (480, 440):
        root = tmp_path / str(rows)
        make_dsec_sequence(root / "zurich_city_13_a", 4, image_rows=rows)
        manifest, _ = manifest_of(root, "dsec-semantic", root, split="test")
        assert manifest.label_rows == (440 if rows == 480 else None)
        dataset = FramesDataset(manifest.path, (640, rows), ("warp_image", "events_vg"), ignored_bottom_rows=rows - 440)
        assert dataset.prediction_size == (440, 640)
        samples.append(dataset[0]["events_vg"])
    # Rows are resampled, so only coarse averages of the absolute values agree.
    coarse = [sample[0].abs().reshape(11, 40, 16, 40).mean((1, 3)) for sample in samples]
    assert np.corrcoef(coarse[0].flatten(), coarse[1].flatten())[0, 1] > 0.9


def test_the_protocol_of_ess(tmp_path):
    make_dsec_sequence(tmp_path / "zurich_city_13_a", 12)
    manifest, _ = manifest_of(tmp_path, "dsec-semantic", tmp_path, split="test", skip=6, every=2)
    assert [frame.image.stem for frame in manifest.frames] == ["000006", "000008", "000010"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: (s / "11classes").rename(s / "x"), r"has no label maps: none of .*semantic/left/11classes/data, "),
        (lambda s: (s / "zurich_city_13_a_semantic_timestamps.txt").write_text("5\n"), "has 1 lines for 4 label maps"),
        (lambda s: (s / "zurich_city_13_a_semantic_timestamps.txt").unlink(), "has no times of its labels: neither"),
        (
            lambda s: (s / "images/timestamps.txt").write_text("5\n6\n7\n8\n"),
            r"no image is left; 0 images; 4 left out: images/timestamps\.txt has no image at the time",
        ),
        (lambda s: (s / "warp_images").rename(s / "x"), "neither .*warp_images nor .*ev_inf holds.*warp_images.py"),
        (lambda s: (s / "events/left/rectify_map.h5").unlink(), r"rectify_map\.h5 does not exist; extract it from"),
        (lambda s: (s / "events/left/events.h5").unlink(), "holds none of zurich_city_13_a, .*with events: none"),
    ],
)
def test_a_damaged_dsec_semantic(tmp_path, damage, message):
    damage(make_dsec_sequence(tmp_path / "zurich_city_13_a", 4))
    with pytest.raises(DataError, match=message):
        find("dsec-semantic", tmp_path, Selection(split="test"))


def test_nights_of_dsec_are_those_of_the_published_list(tmp_path, monkeypatch):
    """The same images and events as the published list, whose held-out frames are left out here too."""
    mini = GOLDEN / "mini" / "DSEC_Night"
    manifest, summary = manifest_of(tmp_path, "dsec", mini)
    assert "they are kept for the test of DSEC Night" in summary
    monkeypatch.chdir(mini)
    published = DSECDataset(GOLDEN / "c10_dsec_txt" / "night_dataset_warp.txt")
    own = FramesDataset(manifest.path, (640, 480), ("warp_image", "events_vg"))
    assert names(manifest) == [f"{frame.sequence}_{frame.frame:06d}" for frame in published.frames]
    assert own.windows == published.windows


def test_other_nights_of_dsec(tmp_path):
    for name in ("zurich_city_10_a", "thun_00_a"):
        make_dsec_sequence(tmp_path / name, 6)
    manifest, summary = manifest_of(tmp_path, "dsec", tmp_path)
    assert {frame.sequence for frame in manifest.frames} == {"zurich_city_10_a"}
    assert not any(frame.label for frame in manifest.frames)
    assert "3 images; 1 left out: no image precedes them; 2 left out: the recording" in summary
    manifest, _ = manifest_of(tmp_path, "dsec", tmp_path, sequences=("thun_00_a",))
    assert {frame.sequence for frame in manifest.frames} == {"thun_00_a"}
    with pytest.raises(
        DataError, match=r"holds no thun_00_b/.*did you mean 'thun_00_a'.*: thun_00_a, zurich_city_10_a"
    ):
        find("dsec", tmp_path, Selection(sequences=("thun_00_b",)))
    with pytest.raises(
        DataError, match=r"holds none of zurich_city_03_a, .*; give the folder that does, or --sequences"
    ):
        find("dsec", tmp_path / "thun_00_a", Selection())


# -------------------------------------------------------------------------------------------------- images


def test_acdc(tmp_path):
    root = make_acdc(tmp_path / "acdc")
    manifest, _ = manifest_of(tmp_path, "acdc", root, split="val", condition=("night",))
    assert names(manifest) == [f"GOPR0351_frame_{n:06d}" for n in range(3)]
    assert manifest.frames[0].label.name == "GOPR0351_frame_000000_gt_labelTrainIds.png"
    assert {*FramesDataset(manifest.path, (48, 27), ("image", "label"))[0]} == {"image", "label", "img_metas"}
    content = find("acdc", root, Selection(split="test", condition=("night",)))
    assert [line["label"] for line in content.lines] == [None] * 3
    with pytest.raises(DataError, match=r"rgb_anon/rain/val does not exist; give the folder of ACDC that holds"):
        find("acdc", root, Selection(split="val", condition=("rain",)))


def test_nighttime_driving(tmp_path):
    root = make_nighttime_driving(tmp_path / "NighttimeDrivingTest")
    manifest, summary = manifest_of(tmp_path, "nighttime-driving", root)
    assert summary == "2 images"
    assert all(frame.label.is_file() for frame in manifest.frames)
    with pytest.raises(DataError, match=r"leftImg8bit/test does not exist.*; .*NighttimeDrivingTest has it"):
        find("nighttime-driving", tmp_path, Selection())


def test_bdd100k(tmp_path):
    root, listed = make_bdd100k(tmp_path / "bdd100k"), tmp_path / "night.txt"
    listed.write_text("bdd100k/images/10k/train/0a0a0b1a-7c39d841.jpg\n\n1b1b1b1b-00000000.jpg\nval/nothing.jpg\n")
    manifest, summary = manifest_of(tmp_path, "bdd100k", root, names=listed)
    assert names(manifest) == ["0a0a0b1a-7c39d841", "1b1b1b1b-00000000"]
    assert summary == "2 images; 1 left out: the image file is not there"
    listed.write_text("night/0a0a0b1a-7c39d841.jpg\n")
    with pytest.raises(DataError, match=r"night\.txt, line 1: 'night/0a0a0b1a.*does not name an image; a line is"):
        find("bdd100k", root, Selection(names=listed))
    listed.write_text("\n")
    with pytest.raises(DataError, match="names no images"):
        find("bdd100k", root, Selection(names=listed))
    with pytest.raises(DataError, match="cannot be read"):
        find("bdd100k", root, Selection(names=tmp_path / "none.txt"))


def test_nightcity(tmp_path):
    root = make_nightcity(tmp_path / "NightCity")
    manifest, _ = manifest_of(tmp_path, "nightcity", root, split="val", converted=tmp_path / "labels")
    assert names(manifest) == ["Chicago_0001", "YouTube_0044"]
    label = FramesDataset(manifest.path, (48, 27), ("image", "label"))[0]["label"]
    assert label.unique().tolist() == [0, 2, 10, 255]
    assert {path.name for path in (tmp_path / "labels").iterdir()} == {
        f"{name}_labelTrainIds.png" for name in names(manifest)
    }
    # a corrected label is converted again
    label_map(root / "NightCity-label/label/val/Chicago_0001_labelIds.png", values=(26, 26, 26, 26))
    manifest, _ = manifest_of(tmp_path, "nightcity", root, split="val", converted=tmp_path / "labels")
    assert FramesDataset(manifest.path, (48, 27), ("image", "label"))[0]["label"].unique().tolist() == [13]
    (root / "NightCity-label").rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"no folder of NightCity's labels: none of .*label/val, .*--without-labels"):
        find("nightcity", root, Selection(split="val"))
    flat = (root / "NightCity-images/images").rename(tmp_path / "flat")
    assert len(find("nightcity", flat, Selection(split="val", labels=False)).lines) == 2
    # The folder of the images holds no labels.
    with pytest.raises(DataError, match=r"no image is left.*no label map of their name"):
        find("nightcity", flat, Selection(split="val"))


@pytest.mark.parametrize(
    ("layout", "selection", "message"),
    [
        ("acdc", dict(split="val"), "--layout acdc needs --condition: fog, night, rain, snow"),
        ("acdc", dict(split="val", condition=("nite",)), "--condition is 'nite', did you mean 'night'"),
        (
            "acdc",
            dict(split="valid", condition=("night",)),
            "--split is 'valid', did you mean 'val'.*known: train, val",
        ),
        ("acdc", dict(split="val", condition=("night",), weather=("fog",)), "--layout acdc has no --weather; leave it"),
        ("bdd100k", dict(), "--layout bdd100k needs --names: a file"),
        ("nighttime-driving", dict(split="val"), r"has no --split; leave it out \(its options: none\)"),
        ("nightcity", dict(split="test"), "--split is 'test'; known: train, val"),
        ("dsec-semantic", dict(split="test", classes="12"), "--classes is '12'.*known: 11, 19"),
        ("dsec", dict(events=False), "has no --without-events"),
    ],
)
def test_options(tmp_path, layout, selection, message):
    with pytest.raises(ConfigError, match=message):
        find(layout, tmp_path, Selection(**selection))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a folder; give the folder of MUSES"):
        find("muses", tmp_path / "file", Selection(split="val"))
