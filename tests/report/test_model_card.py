"""The model card of a run."""

import hashlib
import json
import re

import pytest
import torch
from helpers.command_tools import load_script
from helpers.run_tools import make_run, write

from mmseg.engine.checkpoint import checkpoint_to_test
from mmseg.errors import ConfigError
from mmseg.report.model_card import AUTHOR_ENTRIES, write_card
from mmseg.work_dir.identity import RunIdentity


@pytest.fixture
def work_dir(tmp_path):
    config = {
        "model": {"type": "FusionEncoderDecoder", "pretrained": "/home/someone/night/pretrained/mit_b5.pth"},
        "uda": {"train_type": "cs2dsec_image+events_together"},
        "load_from": "C:\\users\\someone\\work_dirs\\a | b\\iter_4.pth",
        "runner": {"max_iters": 4},
    }
    found = make_run(tmp_path, "a", **config)
    (found / "iter_2.pth").write_bytes(b"older")
    (found / "iter_4.pth").write_bytes(b"weights")
    (found / "best_mIoU_18_iter_2.pth").write_bytes(b"best")
    write(found / "environment.json", {"cmda": "9.9", "gpu": {"name": "Night 1"}, "packages": {"torch": "3.0"}})
    return found


def test_card(work_dir):
    card = write_card(work_dir)
    assert f"| iter_4.pth | 7 | `{hashlib.sha256(b'weights').hexdigest()}` |" in card
    assert "best_mIoU_18_iter_2.pth" in card
    assert "| iter_2.pth" not in card
    assert "| pretrained weights | pretrained/mit_b5.pth |" in card
    assert "someone" not in card
    assert "work_dirs/a \\| b/iter_4.pth |" in card
    assert "| 1 | a | 0 | student | fusion | 4 | 30.00 |" in card.replace(work_dir.name, "a")
    assert all(text in card for text in ("| CMDA | 9.9 |", "| GPU name | Night 1 |", "| torch | 3.0 |", "event-camera"))
    assert card.count("*fill in: ") == len(AUTHOR_ENTRIES)


def test_card_of_a_bare_or_broken_run(tmp_path, work_dir):
    (work_dir / "environment.json").write_text(json.dumps({"gpu": [1], "packages": 3}))
    assert "| CMDA |" not in write_card(work_dir)
    write(tmp_path / "bare" / "bare.json", {})
    assert "No test or evaluation left scores." in write_card(tmp_path / "bare")
    (work_dir / "environment.json").write_text("{")
    with pytest.raises(ConfigError, match=r"environment\.json is not valid JSON"):
        write_card(work_dir)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="is not a work dir"):
        write_card(tmp_path / "empty")


def test_checkpoints_of_an_earlier_run_are_left_out(work_dir):
    earlier, own = RunIdentity.new(0, "a"), RunIdentity.new(0, "b")
    own.write(work_dir)
    held = {"iter_2": own, "iter_4": earlier, "best_mIoU_18_iter_2": own, "best_mIoU_iter_4": earlier}
    for name, run in held.items():
        meta = {"iter": int(name[-1]), "run": run.as_meta()}
        torch.save({"meta": meta, "state_dict": {}}, work_dir / f"{name}.pth")
    card = write_card(work_dir)
    assert re.findall(r"^\| (\S+\.pth) ", card, re.MULTILINE) == ["iter_2.pth", "best_mIoU_18_iter_2.pth"]
    assert checkpoint_to_test(work_dir).name == "iter_2.pth"
    assert "tools/test.py iter_2.pth" in card
    for name in held:
        if held[name] is own:
            (work_dir / f"{name}.pth").unlink()
    card = write_card(work_dir)
    assert ".pth |" not in card.split("## Files")[1]
    assert "tools/test.py <checkpoint>" in card


TOGETHER = "cs2dsec_image+events_together"


@pytest.mark.parametrize(
    ("uda", "source", "day_events"),
    [
        ({"train_type": TOGETHER}, {}, "image changes, untranslated"),
        ({"train_type": TOGETHER}, {"return_GI_or_IC": "gray_image"}, "grey images, untranslated"),
        ({"train_type": TOGETHER, "cyclegan_itrd2en_path": "generator.pth"}, {}, "generator.pth"),
        ({"train_type": "cs2dsec_image+events", "cyclegan_itrd2en_path": "generator.pth"}, {}, "generator.pth"),
        # the published Dark Zurich config names the generator too
        ({"train_type": "cs2dz_image+raw-isr", "cyclegan_itrd2en_path": "generator.pth"}, {}, None),
        ({"train_type": "cs2dsec_image", "cyclegan_itrd2en_path": "generator.pth"}, {}, None),
        # its data set makes image changes, which nothing reads
        ({"train_type": "cs2dsec_image+events", "without_events": True}, {"outputs": ["image", "img_time_res"]}, None),
        # of another package
        ({"train_type": "cs2own"}, {"outputs": ["image", "img_time_res"]}, "image changes, untranslated"),
        ({"train_type": "cs2own", "cyclegan_itrd2en_path": "generator.pth"}, {"outputs": ["image"]}, None),
    ],
)
def test_day_events_are_named_where_they_are_used(work_dir, monkeypatch, uda, source, day_events):
    monkeypatch.chdir(work_dir)
    (work_dir / "generator.pth").write_bytes(b"generator")
    path = work_dir / f"{work_dir.name}.json"
    day = {"type": "CityscapesICDataset", **source}
    target = {"outputs": ["warp_image"] if uda["train_type"] == "cs2own" else []}
    write(path, {"uda": uda, "train_type": "not read", "data": {"train": {"source": day, "target": target}}})
    card = write_card(work_dir)
    assert f"| method | {uda['train_type']} |" in card
    assert "not read" not in card
    assert re.findall(r"^\| day events from \| (.*) \|$", card, re.MULTILINE) == ([day_events] if day_events else [])
    assert (hashlib.sha256(b"generator").hexdigest() in card) == (day_events == "generator.pth")
    is_of_events = uda["train_type"].startswith("cs2dsec_image+") and "without_events" not in uda
    assert ("event-camera" in card) == is_of_events


def test_script_keeps_what_was_filled_in(work_dir, monkeypatch, capsys):
    def run(*words: object) -> None:
        monkeypatch.setattr("sys.argv", ["make_model_card.py", *map(str, words)])
        load_script("tools/make_model_card.py").main()

    run(work_dir)
    card = work_dir / "model_card.md"
    assert capsys.readouterr().out == f"wrote {card}; fill in what is marked\n"
    card.write_text("mine")
    with pytest.raises(ConfigError, match="already exists; add --force"):
        run(work_dir)
    assert card.read_text() == "mine"
    run(work_dir, "--force")
    assert card.read_text().startswith("---\n")
