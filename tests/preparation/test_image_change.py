"""leftImg8bit_sequence -> leftImg8bit_IC1: golden case 9 through the files, resuming, and what goes wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.golden_tools import GOLDEN, GoldenArrays
from helpers.script_tools import run as run_script
from PIL import Image

from mmseg.errors import DataError
from mmseg.io.png_files import read_png_header
from mmseg.preparation.image_change import change_tasks, make_changes

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "make_image_change.py"
SUFFIX = "_leftImg8bit.png"
# Labelled frame -> golden images of its frames t and t-1.
PAIRS = {"aachen_000000_000019": (0, 1), "aachen_000001_000019": (1, 2), "bochum_000000_000313": (2, 0)}


def frame_path(root: Path, name: str, back: int = 0) -> Path:
    city, snippet, frame = name.split("_")
    folder = root / "leftImg8bit_sequence" / "train" / city
    return folder / f"{city}_{snippet}_{int(frame) - back:06d}{SUFFIX}"


def change_path(root: Path, name: str) -> Path:
    return root / "leftImg8bit_IC1" / "train" / name.split("_")[0] / (name + SUFFIX)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A Cityscapes root with three labelled frames, two cities and frames of golden images."""
    root = tmp_path / "city scapes"
    for name, pair in PAIRS.items():
        image = root / "leftImg8bit" / "train" / name.split("_")[0] / (name + SUFFIX)
        for path, number in ((image, pair[0]), (frame_path(root, name), pair[0]), (frame_path(root, name, 1), pair[1])):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(GOLDEN / "c09_images" / f"small{number}.png", path)
    return root


def make(root: Path, **options) -> tuple[int, int, int]:
    report = make_changes(change_tasks(root, "train", options.get("offset", 1)), **options)
    return report.written, report.kept, len(report.failures)


def run(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess:
    return run_script("tools/make_image_change.py", *arguments, expect=expect)


def times(root: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (root / "leftImg8bit_IC1").rglob("*.png")}


def test_equals_the_golden_changes(tree):
    assert make(tree) == (3, 0, 0)
    golden = GoldenArrays("c09_time_residual.npz")
    for name, (now, front) in PAIRS.items():
        with Image.open(change_path(tree, name)) as image:
            assert image.mode == "L"
            expected = golden[f"now{now}_front{front}_50_0.1_0.8"]
            assert (np.array(image) == expected.reshape(image.size[::-1])).all()


def test_only_labelled_frames_get_one(tree):
    shutil.copy(frame_path(tree, "aachen_000000_000019"), frame_path(tree, "aachen_000000_000019", -1))
    make(tree)
    assert set(times(tree)) == {name + SUFFIX for name in PAIRS}


def test_whole_files_are_kept_and_others_made_again(tree):
    make(tree)
    before = times(tree)
    damaged = change_path(tree, "aachen_000000_000019")
    damaged.write_bytes(damaged.read_bytes()[:-20])
    assert make(tree) == (1, 2, 0)
    assert read_png_header(damaged).size == (64, 48)
    after = times(tree)
    assert [name for name in before if before[name] != after[name]] == [damaged.name]
    assert make(tree) == (0, 3, 0)
    assert make(tree, force=True) == (3, 0, 0)


def test_newer_frames_and_another_offset_make_files_again(tree):
    make(tree)
    later = time.time() + 10
    os.utime(frame_path(tree, "bochum_000000_000313", 1), (later, later))
    assert make(tree) == (1, 2, 0)
    for name in PAIRS:
        shutil.copy(frame_path(tree, name, 1), frame_path(tree, name, 2))
    assert make(tree, offset=2) == (3, 0, 0)


def test_files_of_others_are_kept(tree):
    """Published image changes do not record how they were made."""
    target = change_path(tree, "aachen_000000_000019")
    target.parent.mkdir(parents=True)
    Image.new("L", (64, 48), 128).save(target)
    report = make_changes(change_tasks(tree, "train"))
    assert (report.written, report.kept, report.foreign) == (2, 1, 1)
    assert "not made by this tool" in report.summary()


def test_processes_give_the_same_bytes(tree):
    make(tree)
    alone = {path.name: path.read_bytes() for path in (tree / "leftImg8bit_IC1").rglob("*.png")}
    shutil.rmtree(tree / "leftImg8bit_IC1")
    run(tree, "--nproc", 2)
    assert {path.name: path.read_bytes() for path in (tree / "leftImg8bit_IC1").rglob("*.png")} == alone


def test_failures_are_named_and_the_rest_is_made(tree):
    frame_path(tree, "aachen_000000_000019", 1).unlink()
    cut_off = frame_path(tree, "aachen_000001_000019")
    cut_off.write_bytes(cut_off.read_bytes()[:-12])
    result = run(tree, expect=1)
    assert "1 written, 0 up to date, 2 failed" in result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert "aachen_000000_000018_leftImg8bit.png does not exist" in lines[0]
    assert "aachen_000001_000019_leftImg8bit.png is not a readable image (it is truncated" in lines[1]
    assert set(times(tree)) == {"bochum_000000_000313_leftImg8bit.png"}


def test_another_size_is_refused(tree):
    Image.new("RGB", (32, 48)).save(frame_path(tree, "bochum_000000_000313", 1))
    report = make_changes(change_tasks(tree, "train"))
    (message,) = report.failures
    assert "bochum_000000_000312_leftImg8bit.png is 32x48, its labelled image 64x48" in message


def test_stop_at_first(tree):
    frame_path(tree, "aachen_000000_000019", 1).unlink()
    result = run(tree, "--stop_at_first", expect=2)
    assert result.stderr.startswith("error: sequence frame")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "trian"}, "did you mean 'train'"),
        ({"sequence_dir": "frames"}, r"leftImg8bit_sequence_trainvaltest\.zip"),
        ({"out_dir": "leftImg8bit"}, "folder of the images themselves"),
    ],
)
def test_bad_folders(tree, options, message):
    with pytest.raises(DataError, match=message):
        change_tasks(tree, **{"split": "train", **options})


def test_unknown_name_is_refused(tree):
    path = tree / "leftImg8bit" / "train" / "aachen" / f"holiday{SUFFIX}"
    shutil.copy(GOLDEN / "c09_images" / "small0.png", path)
    with pytest.raises(DataError, match="is not named"):
        change_tasks(tree, "train")


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_an_interrupted_run_leaves_whole_files_and_goes_on(tree):
    large = tree / "large.png"
    Image.open(GOLDEN / "c09_images" / "big0.png").resize((1024, 512)).save(large, compress_level=1)
    for number in range(24):
        name = f"aachen_{100 + number:06d}_000019"
        image = tree / "leftImg8bit" / "train" / "aachen" / (name + SUFFIX)
        for path in (image, frame_path(tree, name), frame_path(tree, name, 1)):
            os.link(large, path)
    process = subprocess.Popen([sys.executable, TOOL, tree, "--nproc", "2"], stderr=subprocess.PIPE)
    target = tree / "leftImg8bit_IC1"
    deadline = time.monotonic() + 60
    while len(list(target.rglob("*.png"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    made = [path for path in target.rglob("*") if path.is_file()]
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.decode().strip() == "interrupted by SIGTERM"
    assert 4 <= len(made) < 27
    for path in made:
        assert not path.name.startswith("."), "a temporary file remains"
        with Image.open(path) as image:
            image.load()
    assert make(tree) == (27 - len(made), len(made), 0)
