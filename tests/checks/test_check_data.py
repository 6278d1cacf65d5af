"""check_data on the golden trees: a good root passes, and every fault is found by name."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  h5py finds the Blosc filter of DSEC files only after this import
import numpy as np
import pytest
from helpers.golden_tools import GOLDEN
from helpers.script_tools import run as run_script
from mmengine.config import Config
from PIL import Image
from rich.console import Console

from mmseg.checks.findings import Finding, findings_json, is_good, print_findings
from mmseg.checks.run import check_data
from mmseg.config.data_root import set_root
from mmseg.config.load import load_config
from mmseg.errors import ConfigError
from mmseg.preparation.cityscapes import convert_cityscapes
from mmseg.preparation.dsec_lists import TEST_LIST, TRAIN_LIST, create_dsec_lists

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "check_data.py"
CONFIGS = {
    "cs2dsec": ROOT / "configs/fusion/cs2dsec_image+events_together_b5.py",
    "cs2dz": ROOT / "configs/fusion/cs2dz_image+raw-isr_b5.py",
}
MIN_PIXELS = {"data.train.rare_class_sampling.min_pixels": 10}


@pytest.fixture(scope="module")
def good_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("good root")
    for name in ("cityscapes", "DSEC_Night"):
        shutil.copytree(GOLDEN / "mini" / name, root / "data" / name)
    convert_cityscapes(root / "data" / "cityscapes")
    for split, frames in (("train", 4), ("val", 2), ("test", 1)):
        for frame in range(frames):
            write_dark_zurich(root / "data" / "dark_zurich", split, frame)
    (root / "pretrained").mkdir()
    for name in ("mit_b5.pth", "cityscapes_ICD_to_dsec_EN.pth"):
        (root / "pretrained" / name).write_bytes(b"PK\x03\x04 and more")
    return root


def write_dark_zurich(root: Path, split: str, frame: int) -> None:
    sequence = root / "rgb_anon" / split / "night" / "GOPR0001"
    sequence.mkdir(parents=True, exist_ok=True)
    picture = np.arange(96 * 54 * 3, dtype=np.uint8).reshape(54, 96, 3)
    Image.fromarray(picture).save(sequence / f"GOPR0001_frame_{frame:06d}_rgb_anon.png")
    if split == "val":
        labels = root / "gt" / split / "night" / "GOPR0001"
        labels.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[..., 0] % 19).save(labels / f"GOPR0001_frame_{frame:06d}_gt_labelTrainIds.png")


@pytest.fixture
def data(good_root, tmp_path) -> Path:
    """A copy that a test may damage; its lists name its own files."""
    root = tmp_path / "root [1]"
    shutil.copytree(good_root, root)
    create_dsec_lists(root / "data" / "DSEC_Night", root, Console(quiet=True))
    return root


def config_of(root: Path, task: str = "cs2dsec", **options) -> Config:
    config = load_config(CONFIGS[task], {**MIN_PIXELS, **options})
    set_root(config, root)
    return config


def check(root: Path, task: str = "cs2dsec", **arguments) -> dict[str, Finding]:
    findings = check_data(config_of(root, task), subset=True, **arguments)
    assert len({finding.check for finding in findings}) == len(findings)
    assert all(finding.remedy for finding in findings if finding.state != "ok")
    return {finding.check: finding for finding in findings}


def wrong(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.state == "wrong"}


@pytest.mark.parametrize("task", CONFIGS)
def test_a_good_root_passes(data, task):
    quick = check(data, task)
    assert not wrong(quick)
    deep = check(data, task, deep=True)
    assert not wrong(deep)
    assert quick.keys() < deep.keys()
    if task == "cs2dsec":
        assert deep["DSEC events: content"].found == "2 of 2 (290,000 events)"
        assert deep["Cityscapes train images"].found == "6"
        assert deep["DSEC train frames"].found == "8"
    else:
        assert deep["Dark Zurich val night labels: content"].found == "2 of 2"


def test_published_numbers_are_demanded_by_default(data):
    findings = {f.check: f for f in check_data(config_of(data))}
    for name, expected in (
        ("Cityscapes train images", "2,975"),
        ("Cityscapes train images: size", "2048x1024"),
        ("DSEC train frames", "1,692"),
        ("DSEC test frames", "150"),
    ):
        assert findings[name].state == "wrong"
        assert findings[name].expected == expected
    zurich = {f.check: f for f in check_data(config_of(data, "cs2dz"))}
    assert zurich["Dark Zurich train night images"].expected == "2,416"
    assert zurich["Dark Zurich val night images"].expected == "50"
    test = zurich["Dark Zurich test night images"]
    assert (test.state, test.expected) == ("note", "151, not for this training")


CITY = Path("data/cityscapes")
LABEL = CITY / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png"
IMAGE = CITY / "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png"
CHANGE = CITY / "leftImg8bit_IC1/train/aachen/aachen_000002_000019_leftImg8bit.png"
SEQUENCE = Path("data/DSEC_Night/zurich_city_09_b")
EVENTS = SEQUENCE / "events/left/events.h5"


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def repaint(path: Path, value: int) -> None:
    Image.new("L", Image.open(path).size, value).save(path)


def edit_events(path: Path, key: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with h5py.File(path, "r+") as file:
        values = change(file[key][:])
        del file[key]
        file[key] = values


def edit_lines(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def backward(times: np.ndarray) -> np.ndarray:
    """Break the order in the middle, between the events of frames."""
    times[1000], times[1001] = times[1001] + 5, times[1000]
    return times


QUICK_FAULTS = {
    "no label": (lambda r: (r / LABEL).unlink(), {"Cityscapes train labels: files"}),
    "label in colour": (
        lambda r: Image.open(r / LABEL).convert("RGB").save(r / LABEL),
        {"Cityscapes train labels: format"},
    ),
    "image cut off": (lambda r: cut_off(r / IMAGE), {"Cityscapes train images: whole"}),
    "no PNG": (lambda r: (r / IMAGE).write_text("<html>"), {"Cityscapes train images: whole"}),
    "no image change": (lambda r: (r / CHANGE).unlink(), {"Cityscapes train image changes: files"}),
    "another size": (
        lambda r: Image.new("L", (99, 50)).save(r / CHANGE),
        {"Cityscapes train image changes: size"},
    ),
    "no images": (
        lambda r: shutil.rmtree(r / CITY / "leftImg8bit/train"),
        {"Cityscapes train images", "class statistics: images"},
    ),
    "no statistics": (
        lambda r: (r / CITY / "samples_with_class.json").unlink(),
        {"class statistics: samples_with_class.json"},
    ),
    "statistics of another tree": (
        lambda r: (r / CITY / "sample_class_stats.json").write_text('[{"0": 5, "file": "gtFine/train/x/y.png"}]'),
        {"class statistics: images"},
    ),
    "strange statistics": (
        lambda r: (r / CITY / "sample_class_stats.json").write_text("[1]"),
        {"class statistics: sample_class_stats.json"},
    ),
    "no list": (lambda r: (r / TRAIN_LIST).unlink(), {"DSEC train list"}),
    "broken list": (lambda r: edit_lines(r / TEST_LIST, lambda a: [*a, "here"]), {"DSEC test list"}),
    "held-out frame": (
        lambda r: shutil.copy(r / TEST_LIST, r / TRAIN_LIST),
        {"DSEC train: frames around the test"},
    ),
    "another index": (
        lambda r: edit_lines(r / TRAIN_LIST, lambda a: [*a[:-1], f"{a[-1].split('.png ')[0]}.png 20000"]),
        {"DSEC train: event index", "DSEC event index and event times"},
    ),
    "index beyond the end": (
        lambda r: edit_lines(r / TRAIN_LIST, lambda a: [*a[:-1], f"{a[-1].split('.png ')[0]}.png 999999999"]),
        {"DSEC train: event index", "DSEC events.h5"},
    ),
    "no warp image": (
        lambda r: (r / SEQUENCE / "warp_images/000151.png").unlink(),
        {"DSEC train warp images: files"},
    ),
    "warp image of the frame camera": (
        lambda r: Image.new("RGB", (1440, 1080)).save(r / SEQUENCE / "warp_images/000151.png"),
        {"DSEC train warp images: size"},
    ),
    "no rectify map": (lambda r: (r / EVENTS).with_name("rectify_map.h5").unlink(), {"DSEC rectify_map.h5"}),
    "no events": (lambda r: (r / EVENTS).unlink(), {"DSEC events.h5"}),
    "events cut off": (lambda r: (r / EVENTS).write_bytes((r / EVENTS).read_bytes()[:9999]), {"DSEC events.h5"}),
    "fewer polarities": (lambda r: edit_events(r / EVENTS, "events/p", lambda p: p[:-1]), {"DSEC events.h5"}),
    "ms_to_idx falls": (lambda r: edit_events(r / EVENTS, "ms_to_idx", lambda m: m[::-1]), {"DSEC events.h5"}),
    "times fall": (
        lambda r: edit_lines(r / SEQUENCE / "images/timestamps.txt", lambda a: [a[1], a[0], *a[2:]]),
        {"DSEC timestamps.txt"},
    ),
    "times repeat": (
        lambda r: edit_lines(r / SEQUENCE / "images/timestamps.txt", lambda a: [a[1], *a[1:]]),
        {"DSEC timestamps.txt"},
    ),
    "weights that are a web page": (
        lambda r: (r / "pretrained/mit_b5.pth").write_text("<!DOCTYPE html>"),
        {"weights: model.pretrained"},
    ),
    "no generator": (
        lambda r: (r / "pretrained/cityscapes_ICD_to_dsec_EN.pth").unlink(),
        {"weights: uda.cyclegan_itrd2en_path"},
    ),
}
DEEP_FAULTS = {
    "strange label value": (lambda r: repaint(r / LABEL, 77), {"Cityscapes train labels: content"}),
    "old statistics": (lambda r: repaint(r / LABEL, 3), {"class statistics: pixels"}),
    "events out of order": (lambda r: edit_events(r / EVENTS, "events/t", backward), {"DSEC events: content"}),
    "events off the sensor": (
        lambda r: edit_events(r / EVENTS, "events/x", lambda x: np.where(x == x[50], 640, x)),
        {"DSEC events: content"},
    ),
}


@pytest.mark.parametrize("fault", QUICK_FAULTS)
def test_quick_faults(data, fault):
    spoil, expected = QUICK_FAULTS[fault]
    spoil(data)
    findings = check(data)
    assert wrong(findings) == expected
    assert any(findings[name].cases for name in expected) or fault == "no images"


@pytest.mark.parametrize("fault", DEEP_FAULTS)
def test_deep_faults(data, fault):
    spoil, expected = DEEP_FAULTS[fault]
    spoil(data)
    assert not wrong(check(data))
    assert wrong(check(data, deep=True)) == expected


def test_polarity_of_minus_one_is_good(data):
    """A training takes it as darker."""
    edit_events(data / EVENTS, "events/p", lambda p: p.astype(np.int8) * 2 - 1)
    assert not wrong(check(data, deep=True))


def test_a_picture_of_one_value_is_noted(data):
    repaint(data / CHANGE, 128)
    assert check(data, deep=True)["Cityscapes train image changes: variety"].state == "note"


def test_a_first_frame_without_events_is_noted_in_training(data):
    """Training skips such a frame; a test must not shrink."""
    edit_lines(data / SEQUENCE / "images/images_to_events_index.txt", lambda a: [*a[:150], "-1", *a[151:]])
    findings = check(data)
    assert findings["DSEC train: frames with events"].state == "note"


def test_frames_of_dark_zurich(data):
    (data / "data/dark_zurich/gt/val/night/GOPR0001/GOPR0001_frame_000001_gt_labelTrainIds.png").unlink()
    assert wrong(check(data, "cs2dz")) == {"Dark Zurich val night labels: files"}
    shutil.rmtree(data / "data/dark_zurich/rgb_anon/train")
    assert "Dark Zurich train night images" in wrong(check(data, "cs2dz"))


def test_the_generator_matters_only_with_image_changes(data):
    (data / "pretrained/cityscapes_ICD_to_dsec_EN.pth").unlink()
    assert not wrong(check(data, "cs2dz"))


def test_rare_classes_without_an_image(data):
    config = config_of(data, **{"data.train.rare_class_sampling.min_pixels": 20000})
    findings = {f.check: f for f in check_data(config, subset=True)}
    title = "class statistics: classes with an image of over 20,000 pixels"
    assert findings[title].state == "wrong"
    assert "min_pixels" in findings[title].remedy


def test_an_unknown_data_set_is_refused(data):
    config = config_of(data)
    config.data.val.type = "DSECDatset"
    with pytest.raises(ConfigError, match=r"data\.val\.type is 'DSECDatset', did you mean 'DSECDataset'"):
        check_data(config)


def test_table_and_json(capsys):
    findings = [
        Finding("first", "1", "1"),
        Finding("second [bold]", "0 of 9", "all there", "wrong", "add them", tuple("abcde")),
    ]
    print_findings(findings)
    text = capsys.readouterr().out
    assert "second [bold]" in text
    assert "  a\n  b\n  c\n  and 2 more\n" in text
    assert "1 ok, 0 to note, 1 wrong" in text
    content = json.loads(findings_json(findings, {"mode": "quick"}))
    assert content["mode"] == "quick"
    assert content["good"] is is_good(findings) is False
    assert content["checks"][1]["cases"] == list("abcde")


# ------------------------------------------------------------------------------------------------ script


def run(script: str, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess:
    return run_script(f"tools/{script}", *arguments, expect=expect)


def test_script_on_a_good_root(data):
    report = data / "report.json"
    options = ("--cfg-options", "data.train.rare_class_sampling.min_pixels=10")
    arguments = ("cs2dsec", "--root_path", data, "--subset", "--deep", "--nproc", 2, "--json", report)
    result = run("check_data.py", *arguments, *options)
    assert "0 wrong" in result.stdout
    assert not result.stderr
    content = json.loads(report.read_text())
    assert content["good"] is True
    assert content["mode"] == "deep"
    assert {"check", "found", "expected", "state", "remedy", "cases"} == set(content["checks"][0])


def test_script_exit_codes(data):
    result = run("check_data.py", "--root_path", data, expect=1)
    assert "2,975" in result.stdout
    error = run("check_data.py", "--root_path", data / "nowhere", expect=2).stderr
    assert error.startswith("error: --root-path")
    assert len(error.splitlines()) == 1
