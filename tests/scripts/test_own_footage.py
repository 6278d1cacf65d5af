"""From a video and an event recording to a trained network, by the commands of docs/own_data.md."""

import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.golden_tools import GOLDEN
from helpers.layout_trees import LABELS, make_dsec_sequence, make_muses
from helpers.script_tools import ROOT, SMALL, run
from PIL import Image

from mmseg.apis import train as train_config
from mmseg.apis.arguments import parse_value
from mmseg.commands import make_manifest
from mmseg.config.class_sets import class_set_of
from mmseg.config.load import effective, load_config
from mmseg.datasets.frames import FramesDataset
from mmseg.datasets.labels import build_dataset
from mmseg.datasets.manifest import read_manifest
from mmseg.launcher.child import plan_child
from mmseg.preparation.layouts import Selection
from mmseg.preparation.layouts.find import find
from mmseg.preparation.manifests import write_manifest

FRAMES, RATE, WIDTH, HEIGHT = 8, 20, 160, 120
START = 1_000_000
MUSES = json.loads((GOLDEN / "muses_projection.json").read_text())
SMALL_OWN = {
    **{key: value for key, value in SMALL.items() if not key.startswith("data.train.target")},
    "data.workers_per_gpu": 1,
    "runner.max_iters": 2,
    "evaluation.interval": 2,
    "checkpoint_config.interval": 2,
}
SIZES = {f"data.{name}.image_resize_size": f"({WIDTH},{HEIGHT})" for name in ("train.target", "val", "test")}


def make_footage(folder):
    """A film of noise at 20 frames per second, and events of the same view at twice its size."""
    folder.mkdir(parents=True, exist_ok=True)
    film = cv2.VideoWriter(str(folder / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), RATE, (WIDTH, HEIGHT))
    assert film.isOpened()
    rng = np.random.default_rng(0)
    for _ in range(FRAMES):
        film.write(cv2.resize(rng.integers(0, 256, (12, 16, 3)).astype(np.uint8), (WIDTH, HEIGHT)))
    film.release()
    count = 20_000
    np.savez(
        folder / "drive.npz",
        t=START + np.sort(rng.integers(-1000, 450_000, count)),
        x=rng.integers(0, 2 * WIDTH, count),
        y=rng.integers(0, 2 * HEIGHT, count),
        p=rng.integers(0, 2, count),
        height=2 * HEIGHT,
        width=2 * WIDTH,
    )


@pytest.fixture
def project(mini_project, tmp_path):
    """A project of its own with the source of the mini one."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cityscapes").symlink_to(mini_project / "data" / "cityscapes")
    (tmp_path / "pretrained").symlink_to(mini_project / "pretrained")
    make_footage(tmp_path)
    return tmp_path


def train(project, config, **changes):
    options = [f"{key}={value}" for key, value in {**SMALL_OWN, **SIZES, **changes}.items()]
    run("my_run_experiments.py", "--root-path", project, "--base-config", ROOT / config, "--name", "own",
        "--cfg-options", *options, cwd=project)  # fmt: skip
    (work_dir,) = (project / "work_dirs" / "local-basic").glob("*_own_?????")
    assert (work_dir / "iter_2.pth").is_file()
    return work_dir


@pytest.mark.slow
def test_a_video_with_events(project):
    arguments = ("drive.avi", "--events", "drive.npz", "--start-time", START)
    done = run("tools/make_manifest.py", *arguments, "--out", "data/own/train.jsonl", cwd=project)
    assert "7 images; 1 left out: the recording does not cover their window" in done.stdout
    manifest = read_manifest(project / "data/own/train.jsonl")
    assert [frame.time for frame in manifest.frames] == [START + 50_000 * n for n in range(1, FRAMES)]
    assert {frame.sequence for frame in manifest.frames} == {"drive"}
    shutil.copy(project / "data/own/train.jsonl", project / "data/own/val.jsonl")
    done = run("tools/check_data.py", "data/own/train.jsonl", "--deep", cwd=project)
    assert "0 to note, 0 wrong" in done.stdout
    size = f"data.train.target.image_resize_size=({WIDTH},{HEIGHT})"
    done = run("tools/cache_events.py", "data/own/train.jsonl", "--cfg-options", size, cwd=project)
    (cache,) = (project / "data" / "cache").iterdir()
    assert f"train with cache='data/cache/{cache.name}'" in done.stdout
    crops = {"data.train.target.image_crop_size": "(96,96)", "data.train.target.crop_resize_size": "(64,64)"}
    crops["data.train.target.cache"] = cache
    work_dir = train(project, "configs/own/cs2own_images_events.py", **crops)
    run("my_test.py", "--work-dir", work_dir, cwd=project)
    metrics = json.loads((work_dir / "preds" / "metrics.json").read_text())
    assert (metrics["samples"], metrics["output"], "scores" in metrics) == (7, "fusion", False)
    assert Image.open(work_dir / "preds" / "drive_000001.png").size == (WIDTH, HEIGHT)
    run("tools/infer.py", "drive.avi", "--work-dir", work_dir, "--out", "out", cwd=project)
    assert len(list((project / "out").glob("*.png"))) == FRAMES


@pytest.mark.slow
def test_a_folder_of_images_with_labels(project):
    night = GOLDEN / "mini" / "DSEC_Night" / "zurich_city_09_b"
    (project / "photos").mkdir()
    (project / "labels").mkdir()
    for name in ("000149", "000152", "000150"):
        shutil.copy(night / "warp_images" / f"{name}.png", project / "photos")
    for path in (night / "labels").glob("*.png"):
        shutil.copy(path, project / "labels" / f"{path.name.split('_')[4]}.png")
    run("tools/make_manifest.py", "photos", "--out", "data/own/train.jsonl", cwd=project)
    done = run("tools/make_manifest.py", "photos", "--labels", "labels", "--out", "data/own/val.jsonl", cwd=project)
    assert "2 images; 1 left out: no label map" in done.stdout
    work_dir = train(project, "configs/own/cs2own_images.py", **{"data.train.target.image_crop_size": "(64,64)"})
    run("my_test.py", "--work-dir", work_dir, "--output", "fusion", cwd=project)
    metrics = json.loads((work_dir / "preds_fusion" / "metrics.json").read_text())
    assert metrics["samples"] == 2
    assert 0 <= metrics["scores"]["mIoU"] <= 1


@pytest.mark.parametrize(("config", "classes"), [("cs2muses", 19), ("cs2dsec_semantic", 11)])
def test_configs_of_published_sets(tmp_path, config, classes):
    """What the launcher trains and tests: samples that source, network and class set fit."""
    if config == "cs2muses":
        make_muses(tmp_path / "data/muses", MUSES[0]["calib"], (960, 540))
        night = {"time_of_day": ("night",)}
        wanted = {f"night_{split}": ("muses", {"split": split, **night}) for split in ("train", "val")}
        folder = tmp_path / "data/muses"
    else:
        folder = tmp_path / "data/DSEC_Semantic"
        for name in ("zurich_city_00_a", "zurich_city_13_a"):
            make_dsec_sequence(folder / name, 4)
        wanted = {split: ("dsec-semantic", {"split": split}) for split in ("train", "test")}
    for name, (layout, selection) in wanted.items():
        write_manifest(folder / f"{name}.jsonl", find(layout, folder, Selection(**selection)))
    child = plan_child(ROOT / f"configs/own/{config}.py", "n", str(tmp_path), {"model.pretrained": None})
    settings = effective(child.resolved, for_training=True)
    assert settings["model"]["decode_head"]["num_classes"] == classes
    target = build_dataset(settings["data"]["train"]["target"], class_set_of(settings))
    sample = target.sample(0, target.draw(np.random.default_rng(0)))
    assert {key: value.shape for key, value in sample.items()} == dict.fromkeys(target.outputs, (3, 512, 512))
    test = build_dataset(settings["data"]["test"], class_set_of(settings))
    sample = test[0]
    assert sample["events_vg"].shape[1:] == test.prediction_size
    assert sample["label"].unique().tolist() == list(LABELS[classes])


@pytest.mark.slow
def test_a_labelled_video_as_source(project, monkeypatch):
    """By the commands of the section, and with the lines of the config that it shows."""
    (project / "masks").mkdir()
    mask = np.repeat(np.arange(12, dtype=np.uint8), WIDTH * HEIGHT // 12).reshape(HEIGHT, WIDTH)
    for number in range(FRAMES):
        Image.fromarray(mask).save(project / "masks" / f"drive_{number:06d}.png")
    arguments = ("drive.avi", "--every", 3, "--previous", "--labels", "masks", "--out", "data/own/day.jsonl")
    run("tools/make_manifest.py", *arguments, cwd=project)
    done = run("tools/manifest_statistics.py", "data/own/day.jsonl", cwd=project)
    assert "class statistics of 2 images in data/own" in done.stdout
    section = (ROOT / "docs" / "own_data.md").read_text().split("## As a labelled source")[1]
    shown = section.split("```python")[1].split("```")[0]
    (project / "mine.py").write_text(f"_base_ = ['{ROOT}/configs/own/cs2own_images_events.py']\n{shown}")
    run("tools/make_manifest.py", "drive.avi", "--events", "drive.npz", "--start-time", START, "--out",
        "data/own/train.jsonl", cwd=project)  # fmt: skip
    shutil.copy(project / "data/own/train.jsonl", project / "data/own/val.jsonl")
    monkeypatch.chdir(project)
    small = {key: parse_value(str(value)) for key, value in {**SMALL_OWN, **SIZES}.items()}
    small |= {"data.train.source.image_resize_size": (WIDTH, HEIGHT), "data.train.source.image_crop_size": (64, 64)}
    small |= {"data.train.target.image_crop_size": (64, 64), "data.train.target.crop_resize_size": (64, 64)}
    small |= {"data.workers_per_gpu": 0, "runner.max_iters": 1, "log_config.interval": 1}
    small |= {"evaluation.interval": 0, "checkpoint_config.interval": 0}
    work_dir = train_config(load_config(project / "mine.py", small), project / "run")
    assert '"decode.loss_seg"' in (work_dir / "run.log.json").read_text()


# ------------------------------------------------------------------------------------------- the tool


def test_a_source_names_the_image_before(tmp_path):
    make_footage(tmp_path)
    arguments = ("drive.avi", "--previous", "--every", 3, "--out", "day.jsonl")
    run("tools/make_manifest.py", *arguments, cwd=tmp_path)
    frames = read_manifest(tmp_path / "day.jsonl").frames
    assert [(f.image.stem, f.previous_image.stem) for f in frames] == [
        ("drive_000003", "drive_000002"),
        ("drive_000006", "drive_000005"),
    ]
    assert all(f.image.is_file() and f.previous_image.is_file() for f in frames)


def test_frames_of_another_video_of_that_name_are_not_taken(tmp_path):
    make_footage(tmp_path)
    run("tools/make_manifest.py", "drive.avi", "--every", 4, "--out", "train.jsonl", cwd=tmp_path)
    run("tools/make_manifest.py", "drive.avi", "--every", 2, "--out", "train.jsonl", cwd=tmp_path)
    frame = tmp_path / "drive" / "drive_000004.png"
    cv2.imwrite(str(frame), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    done = run("tools/make_manifest.py", "drive.avi", "--every", 2, "--out", "val.jsonl", cwd=tmp_path, expect=2)
    assert "drive_000004.png is not this frame of drive.avi; choose another --frames" in done.stderr
    assert not (tmp_path / "val.jsonl").exists()


def test_drives_are_appended(tmp_path):
    make_footage(tmp_path)
    shutil.copy(tmp_path / "drive.avi", tmp_path / "second.avi")
    for video in ("drive", "second"):
        run("tools/make_manifest.py", f"{video}.avi", "--append", "--out", "all.jsonl", cwd=tmp_path)
    assert len(read_manifest(tmp_path / "all.jsonl").frames) == 2 * FRAMES
    done = run("tools/make_manifest.py", "second.avi", "--append", "--out", "all.jsonl", cwd=tmp_path, expect=2)
    assert "all.jsonl, line 18: the name 'second_000000' is that of line 10" in done.stderr
    arguments = ("drive.avi", "--events", "drive.npz", "--start-time", START)
    done = run("tools/make_manifest.py", *arguments, "--append", "--out", "all.jsonl", cwd=tmp_path, expect=2)
    assert "--append: the first line of all.jsonl says events=null" in done.stderr
    assert len(read_manifest(tmp_path / "all.jsonl").frames) == 2 * FRAMES


def test_a_mapping(tmp_path):
    make_footage(tmp_path)
    mapping = {"mapping": "homography", "matrix": [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]}
    (tmp_path / "map.json").write_text(json.dumps(mapping))
    arguments = ("drive.avi", "--events", "drive.npz", "--start-time", START, "--mapping", "map.json")
    arguments += ("--sensor", f"{2 * WIDTH}x{2 * HEIGHT}")
    run("tools/make_manifest.py", *arguments, "--window-events", 500, "--out", "own.jsonl", cwd=tmp_path)
    manifest = read_manifest(tmp_path / "own.jsonl")
    assert manifest.alignment.matrix.tolist() == mapping["matrix"]
    assert manifest.frames[0].window.count == 500
    assert manifest.sensor == (2 * HEIGHT, 2 * WIDTH)


def test_an_option_without_effect_is_refused(tmp_path):
    done = run("tools/make_manifest.py", "drive.avi", "--start-time", 0, "--out", "own.jsonl", cwd=tmp_path, expect=2)
    assert "--start-time: only with --events" in done.stderr


def make_photos(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{name}.png")


def make(monkeypatch, *arguments):
    """Run the command in this process; the manifest that it wrote."""
    monkeypatch.setattr(sys, "argv", ["make_manifest.py", *map(str, arguments), "--out", "made.jsonl"])
    make_manifest.main()
    return read_manifest(Path("made.jsonl"))


def test_numbers_in_names_give_the_order(tmp_path, monkeypatch):
    """Line n of the times is for the n-th picture, and the image before is the one with the number before."""
    monkeypatch.chdir(tmp_path)
    make_footage(tmp_path)
    make_photos(tmp_path / "photos", range(12))
    Path("times.txt").write_text("".join(f"{START + 100_000 + 20_000 * n}\n" for n in range(12)))
    arguments = ("photos", "--events", "drive.npz", "--timestamps", "times.txt", "--previous")
    frames = make(monkeypatch, *arguments).frames
    numbers = [int(frame.image.stem) for frame in frames]
    assert numbers == list(range(1, 12))
    assert [frame.time for frame in frames] == [START + 100_000 + 20_000 * n for n in numbers]
    assert [int(frame.previous_image.stem) for frame in frames] == [n - 1 for n in numbers]


def test_several_folders_are_several_drives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "p", ["p0", "p1", "p2"])
    make_photos(tmp_path / "q", ["q0", "q1", "q2", "q3"])
    frames = make(monkeypatch, "p", "q", "--previous").frames
    assert [(f.previous_image.stem, f.image.stem) for f in frames] == [
        *[("p0", "p1"), ("p1", "p2")],
        *[("q0", "q1"), ("q1", "q2"), ("q2", "q3")],
    ]
    assert [frame.sequence for frame in frames] == ["p"] * 2 + ["q"] * 3
    frames = make(monkeypatch, "p", "q", "--every", 2, "--sequence", "both").frames
    assert [frame.image.stem for frame in frames] == ["p0", "p2", "q0", "q2"]
    assert {frame.sequence for frame in frames} == {"both"}


def test_a_label_of_another_image_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos", ["night", "night_2", "day"])
    for name in ("night_2", "day_gt"):
        Path("labels").mkdir(exist_ok=True)
        Image.new("L", (WIDTH, HEIGHT)).save(f"labels/{name}.png")
    frames = make(monkeypatch, "photos", "--labels", "labels").frames
    assert [(frame.image.stem, frame.label.stem) for frame in frames] == [("day", "day_gt"), ("night_2", "night_2")]


def test_a_label_of_an_image_in_another_folder_is_not_taken(tmp_path, monkeypatch):
    """Also if that image is none of every N-th."""
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "p", ["night"])
    make_photos(tmp_path / "q", ["day", "night_2"])
    Path("labels").mkdir()
    for name in ("night_2_gt", "day"):
        Image.new("L", (WIDTH, HEIGHT)).save(f"labels/{name}.png")
    frames = make(monkeypatch, "p", "q", "--labels", "labels", "--every", 2).frames
    assert [(frame.image.stem, frame.label.stem) for frame in frames] == [("day", "day")]
    frames = make(monkeypatch, "p", "q", "--labels", "labels").frames
    assert [(frame.image.stem, frame.label.stem) for frame in frames] == [("day", "day"), ("night_2", "night_2_gt")]


def test_only_images_have_labels(tmp_path, monkeypatch):
    """Neither labels in the folder of the images nor other files of such names are images."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("day", "night"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(f"photos/{name}.jpg")
        Image.new("L", (WIDTH, HEIGHT)).save(f"photos/{name}_gt.png")
        Path(f"photos/{name}_gt.json").write_text("{}")
    expected = [("day", "day_gt"), ("night", "night_gt")]
    frames = make(monkeypatch, "photos/*.jpg", "--labels", "photos").frames
    assert [(frame.image.stem, frame.label.stem) for frame in frames] == expected
    Path("labels").mkdir()
    for name in ("day", "night"):
        shutil.move(f"photos/{name}_gt.png", "labels")
    frames = make(monkeypatch, "photos", "--labels", "labels").frames
    assert [(frame.image.stem, frame.label.stem) for frame in frames] == expected


def test_a_window_that_begins_before_the_recording_is_left_out(tmp_path, monkeypatch):
    """Also if the clock of the recording begins at 0."""
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos", range(4))
    at = np.arange(200)
    np.savez("ev.npz", t=at * 1000, x=at % WIDTH, y=at % HEIGHT, p=at % 2, width=WIDTH, height=HEIGHT)
    Path("times.txt").write_text("0\n33000\n66000\n99000\n")
    manifest = make(monkeypatch, "photos", "--events", "ev.npz", "--timestamps", "times.txt")
    assert [frame.time for frame in manifest.frames] == [66_000, 99_000]
    FramesDataset("made.jsonl", (WIDTH, HEIGHT), ("image", "events_vg"))
