"""Checks and caches of a bare manifest, without a config."""

import json
import sys

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmseg.checks.findings import NOTE, OK, WRONG
from mmseg.checks.run import check_data, check_manifest
from mmseg.commands import cache_events
from mmseg.commands import check_data as check_command
from mmseg.config.class_sets import class_set
from mmseg.datasets.frames import FramesDataset
from mmseg.errors import ConfigError

HEADER = {"format": 1, "class_set": "cityscapes19"}
LINE = {"image": "a.png", "label": "a_label.png", "events": "e.npz", "time": 1000, "window": {"duration": 500}}


@pytest.fixture
def footage(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("a", (32, 24)), ("b", (32, 24)), ("c", (24, 32))):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)).save(tmp_path / f"{name}.png")
    Image.fromarray(rng.integers(0, 19, (24, 32)).astype(np.uint8)).save(tmp_path / "a_label.png")
    t = np.arange(0, 3000, 10)
    np.savez(tmp_path / "e.npz", t=t, x=t % 32, y=t % 24, p=t % 2, width=32, height=24)
    return tmp_path


def manifest(folder, *lines, header=HEADER):
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))
    return path


def states(findings):
    return {finding.check.split("m.jsonl")[-1]: finding.state for finding in findings}


def test_a_good_manifest(footage):
    findings = check_manifest(manifest(footage, LINE, LINE | {"name": "again", "time": 2000}), deep=True)
    assert set(states(findings).values()) == {OK}
    found = {finding.check.split("m.jsonl")[-1]: finding.found for finding in findings}
    assert found[": event cameras"] == "1 recordings, 32x24"
    assert found[" labels: content"] == "1 of 1"
    assert found[" events: content"] == "2 of 2"


def test_every_fault_is_named(footage):
    lines = [
        LINE,
        {"image": "none.png"},
        LINE | {"image": "c.png", "events": None, "window": None, "time": None},
        {"image": "b.png", "previous_image": "none.png"},
        LINE | {"image": "b.png", "name": "late", "time": 9_000_000},
    ]
    findings = check_manifest(manifest(footage, *lines))
    first = findings[0]
    assert (first.state, first.found) == (WRONG, "1 of 5")
    for number, text in ((3, "image .*none.png does not exist"), (4, "label .* is 32x24, its image 24x32"),
                         (5, "previous_image .*none.png does not exist")):  # fmt: skip
        assert any(f"m.jsonl, line {number}: " in case for case in first.cases), text
    assert states(findings)[": lines with labels"] == NOTE
    (finding,) = check_manifest(footage / "none.jsonl")
    assert finding.state == WRONG
    assert "does not exist; make it with" in finding.cases[0]


def test_a_window_outside_of_the_recording(footage):
    findings = check_manifest(manifest(footage, LINE, LINE | {"name": "late", "time": 9_000_000}))
    assert findings[0].state == WRONG
    assert "m.jsonl, line 3: " in findings[0].cases[0]


def test_labels_of_a_class_set(footage):
    """Label files are checked in the class set of the manifest, or of the config."""
    Image.fromarray(np.full((24, 32), 19, np.uint8)).save(footage / "a_label.png")
    path = manifest(footage, LINE)
    assert states(check_manifest(path, deep=True))[" labels: content"] == WRONG
    road = {"name": "road", "color": [1, 1, 1], "from": [19], "cityscapes": ["road"]}
    rest = {"name": "rest", "color": [2, 1, 1], "from": [3], "cityscapes": list(range(1, 19))}
    own = {"name": "own2", "labels": "own", "classes": [road, rest]}
    section = dict(type="FramesDataset", manifest=str(path), image_resize_size=(32, 24), outputs=["image", "label"])
    findings = check_data(Config({"data": {"test": section}, "classes": own}), deep=True)
    # the manifest says that its labels are train ids, which have a map into the class set
    assert [f.state for f in findings if f.check.endswith("labels: content")] == [WRONG]
    Image.fromarray(np.full((24, 32), 18, np.uint8)).save(footage / "a_label.png")
    findings = check_data(Config({"data": {"test": section}, "classes": own}), deep=True)
    assert [f.state for f in findings if f.check.endswith("labels: content")] == [OK]
    assert class_set(own).of_cityscapes() is not None


def test_the_scripts(footage, monkeypatch, capsys):
    monkeypatch.chdir(footage)
    manifest(footage, LINE, {"image": "none.png"})
    monkeypatch.setattr(sys, "argv", ["check_data.py", "m.jsonl", "--json", "found.json"])
    with pytest.raises(SystemExit, match="1"):
        check_command.main()
    assert "m.jsonl, line 3: image none.png does not exist" in capsys.readouterr().out
    assert json.loads((footage / "found.json").read_text())["good"] is False
    monkeypatch.setattr(sys, "argv", ["check_data.py", "cs2dsek"])
    with pytest.raises(SystemExit):
        check_command.main()
    assert "nor a manifest (*.jsonl); for a config, give --config" in capsys.readouterr().err

    path = manifest(footage, LINE, LINE | {"image": "b.png", "time": 2000})
    monkeypatch.setattr(sys, "argv", ["cache_events.py", "m.jsonl", "--out", "caches"])
    cache_events.main()
    assert "train with cache='caches/m_32_24' in the sections" in capsys.readouterr().out
    cached, plain = (
        FramesDataset(path, (32, 24), ("warp_image", "events_vg"), cache=folder) for folder in ("caches/m_32_24", None)
    )
    for name in ("warp_image", "events_vg"):
        assert (cached[1][name] == plain[1][name]).all()
    monkeypatch.setattr(sys, "argv", ["cache_events.py", "m.jsonl", "--cfg-options", "data.test.outpts=['image']"])
    with pytest.raises(ConfigError, match="did you mean 'outputs'"):
        cache_events.main()
    monkeypatch.setattr(sys, "argv", ["cache_events.py", "m.jsonl", "--cfg-options", "seed=1"])
    with pytest.raises(ConfigError, match=r"--cfg-options seed: for a manifest, give keys of a section, such as data"):
        cache_events.main()
    keys = ["data.train.target.image_resize_size=(64,48)", "data.test.image_resize_size=(48,32)"]
    monkeypatch.setattr(sys, "argv", ["cache_events.py", "m.jsonl", "--cfg-options", *keys])
    with pytest.raises(ConfigError, match=r"image_resize_size: keys of data\.train\.target were given too; make one"):
        cache_events.main()
    monkeypatch.setattr(sys, "argv", ["cache_events.py", "m.jsonl", "--sections", "val"])
    with pytest.raises(ConfigError, match="--sections is for configs"):
        cache_events.main()
