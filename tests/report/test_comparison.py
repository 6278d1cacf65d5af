"""tools/compare_runs.py: scores of several runs, as printed and as stored in work dirs."""

import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.run_tools import make_run, metrics, write

from mmseg.config.dotted import set_key
from mmseg.errors import ConfigError
from mmseg.report.comparison import (
    comma_separated,
    compare,
    experiment_label,
    markdown,
    mean_sd,
    read_run,
    validation_records,
)

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess:
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "compare_runs.py"), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert result.returncode == expect, result.stdout + result.stderr
    return result


def test_final_and_best_scores(tmp_path):
    (row,) = compare([read_run(make_run(tmp_path, "a", first=0.4, last=0.3))])
    assert row.name == "261122_1200_a_0a1b0"
    assert (row.model, row.output, row.iterations) == ("student", "fusion", (4,))
    assert row.final == {"mIoU": [30.0], "mIoU_18": [31.0]}
    assert row.best["mIoU"] == [40.0]
    assert row.best["mIoU_18"] == pytest.approx([41.0])
    assert row.classes == {"road": [60.0]}


def test_runs_that_differ_in_their_seed_are_one_row(tmp_path):
    final = (0.3, 0.32, 0.37)
    same = [make_run(tmp_path, f"a_s{seed}", seed, last=miou) for seed, miou in enumerate(final)]
    other = make_run(tmp_path, "b", uda={"alpha": 0.9})
    rows = compare([read_run(path) for path in (*same, other)])
    assert [row.name for row in rows] == ["a", "261122_1200_b_0a1b0"]
    assert rows[0].seeds == (0, 1, 2)
    assert rows[0].final["mIoU"] == pytest.approx([30, 32, 37])
    sd = statistics.stdev([30, 32, 37])
    assert mean_sd(rows[0].final["mIoU"]) == f"33.00 ± {sd:.2f}"
    assert len(compare([read_run(path) for path in same], grouped=False)) == 3


@pytest.mark.parametrize(
    ("change", "combined"),
    [
        ({"resume_from": "auto"}, True),
        ({"exp": "three_seeds", "log_config": {"interval": 10}, "checkpoint_config": {"interval": 2}}, True),
        ({"data.workers_per_gpu": 4, "data.train.source.cache": "cache/day"}, True),
        ({"uda.debug_img_interval": -1, "uda.print_grad_magnitude": True, "train_type": "a"}, True),
        ({"load_from": "work_dirs/day/iter_4.pth"}, False),
        ({"uda.train_type": "cs2dsec_image"}, False),
        ({"data.train.source.manifest": "own.jsonl"}, False),
    ],
)
def test_seeds_differ_in_nothing_that_changes_scores(tmp_path, change, combined):
    runs = [make_run(tmp_path, "a", seed, uda={"alpha": 0.9}) for seed in (0, 1)]
    path = runs[1] / f"{runs[1].name}.json"
    config = json.loads(path.read_text())
    for key, value in change.items():
        set_key(config, key, value)
    write(path, config)
    rows = compare([read_run(work_dir) for work_dir in runs])
    assert [row.seeds for row in rows] == ([(0, 1)] if combined else [(0,), (1,)])


def test_every_tested_output_has_a_row(tmp_path):
    work_dir = make_run(tmp_path, "a")
    for folder, of in (
        ("preds", metrics(0.5, 0.6, checkpoint="x/iter_4.pth")),
        ("preds_image", metrics(0.1, 0.2, "image", checkpoint="x/iter_2.pth")),
        ("preds_teacher", metrics(0.7, 0.8, model="teacher", checkpoint="x/iter_4.pth")),
        ("preds_image_isr_train_isr_parms", metrics(0.6, 0.8, checkpoint="x/iter_4.pth")),
        ("preds_test", {"model": "student", "output": "image", "samples": 3}),
    ):
        write(work_dir / folder / "metrics.json", of)
    rows = {(row.model, row.output): row for row in compare([read_run(work_dir)])}
    assert rows.keys() == {
        ("student", "fusion"),
        ("student", "image"),
        ("teacher", "fusion"),
        ("student", "fusion (train_isr_parms)"),
    }
    # a test of the last checkpoint replaces its evaluation
    assert rows["student", "fusion"].final["mIoU"] == [50.0]
    assert rows["student", "image"].iterations == (2,)
    assert rows["teacher", "fusion"].classes == {"road": [80.0]}


def test_tests_on_other_images_have_rows_of_their_own(tmp_path):
    work_dir = make_run(tmp_path, "a")
    for name, of in (
        ("preds", {}),
        ("preds_own", {"test_set": {"manifest": "x/own.jsonl"}}),
        ("preds_val", {"test_set": {"manifest": "data/acdc/val.jsonl"}}),
        ("preds_t", {"tta": "flip"}),
        ("preds_fp32", {"precision": "fp32"}),
    ):
        write(work_dir / name / "metrics.json", {**metrics(0.5, 0.6, checkpoint="x/iter_4.pth"), **of})
    outputs = [row.output for row in compare([read_run(work_dir)])]
    assert sorted(outputs) == ["fusion", "fusion (on own)", "fusion (on val)", "fusion (tta flip)"]


def test_tests_in_another_precision_have_rows_of_their_own(tmp_path):
    work_dir = make_run(tmp_path, "a")
    tests = (("preds", "fp32", 0.5), ("preds_bf16", "bf16", 0.4), ("preds_fp16", "fp16", 0.1))
    for name, precision, miou in tests:
        of = metrics(miou, 0.6, checkpoint="x/iter_4.pth", precision=precision)
        write(work_dir / name / "metrics.json", of)
    scores = {row.output: row.final["mIoU"] for row in compare([read_run(work_dir)])}
    assert scores == {"fusion": [50.0], "fusion (bf16)": [40.0], "fusion (fp16)": [10.0]}
    write(work_dir / "preds_fp16" / "metrics.json", {**of, "precision": ["fp16"]})
    with pytest.raises(ConfigError, match=r"metrics\.json: 'precision' is \['fp16'\], not a name"):
        read_run(work_dir)


def test_a_manifest_of_the_same_name_is_other_data(tmp_path):
    work_dir = make_run(tmp_path, "a")
    config = json.loads((work_dir / f"{work_dir.name}.json").read_text())
    config["data"] = {"test": {"manifest": "/elsewhere/data/own/val.jsonl"}}
    write(work_dir / f"{work_dir.name}.json", config)
    for name, path in (("preds", "data/own/val.jsonl"), ("preds_val", "data/muses/val.jsonl")):
        of = {**metrics(0.5, 0.6, checkpoint="x/iter_4.pth"), "test_set": {"manifest": path}}
        write(work_dir / name / "metrics.json", of)
    assert sorted(row.output for row in compare([read_run(work_dir)])) == ["fusion", "fusion (on muses/val)"]


def test_log_stands_in_for_evaluations_that_are_gone(tmp_path):
    work_dir = make_run(tmp_path, "a", first=0.4, last=0.3)
    (work_dir / "evaluations" / "iter_2" / "metrics.json").unlink()
    (row,) = compare([read_run(work_dir)])
    assert row.best["mIoU"] == [40.0]
    (work_dir / "evaluations" / "iter_4" / "metrics.json").unlink()
    (row,) = compare([read_run(work_dir)])
    assert (row.output, row.final["mIoU"], row.classes) == ("-", [30.0], {})


def test_run_without_scores_is_shown(tmp_path):
    write(tmp_path / "empty" / "empty.json", {})
    (row,) = compare([read_run(tmp_path / "empty")])
    assert row.final == {"mIoU": [], "mIoU_18": []}
    assert "| empty | 0 | student | - | - | - |" in markdown([row])


def test_seeds_of_a_row_are_those_of_its_runs(tmp_path):
    runs = [make_run(tmp_path, f"a_s{seed}", seed) for seed in (0, 1, 2)]
    write(runs[1] / "preds_image" / "metrics.json", metrics(0.1, 0.2, "image", checkpoint="x/iter_4.pth"))
    shutil.rmtree(runs[2] / "evaluations")
    (runs[2] / f"{runs[2].name}.log.json").unlink()
    rows = compare([read_run(path) for path in runs])
    assert [(row.name, row.output, row.seeds) for row in rows] == [
        ("a", "fusion", (0, 1)),
        ("a", "image", (1,)),
        ("a", "-", (2,)),
    ]


def test_log_that_is_being_written(tmp_path):
    work_dir = make_run(tmp_path, "a")
    log = work_dir / f"{work_dir.name}.log.json"
    log.write_text(log.read_text() + '{"mode": "va')
    assert [record["iter"] for record in validation_records(work_dir)] == [2, 4]
    log.write_text("nonsense\n" + log.read_text())
    with pytest.raises(ConfigError, match=r"log\.json, line 1 is not a line of a log"):
        validation_records(work_dir)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("261122_1200_cmda_cs2dsec_0a1b2", "cmda_cs2dsec"),
        ("261122_1200_cmda_s12_0a1b2", "cmda"),
        ("230101_1200_cs2dsec_0a1b2[60.05]", "cs2dsec"),
        ("my_run", "my_run"),
    ],
)
def test_label(name, label):
    assert experiment_label(name) == label


def test_script_shows_and_writes_tables(tmp_path):
    runs = [make_run(tmp_path, "cmda", seed, last=0.3 + seed / 10) for seed in (0, 1)]
    image = make_run(tmp_path, "image", last=0.25, model={"type": "EncoderDecoder"})
    result = run(*runs, image, image, "--markdown", "t.md", "--csv", "t.csv", cwd=tmp_path)
    lines = result.stdout.splitlines()
    assert any("cmda" in line and "0, 1" in line and "35.00 ± 7.07" in line for line in lines)
    assert sum("_image_" in line for line in lines) == 1
    assert any("road" in line and "70.00 ± 14.14" in line and "50.00" in line for line in lines)
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "| 1 | cmda | 0, 1 | student | fusion | 4 | 35.00 ± 7.07 | 36.00 ± 7.07 |" in text
    assert "| road | 70.00 ± 14.14 | 50.00 |" in text
    with (tmp_path / "t.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["cmda", image.name]
    assert float(rows[0]["mIoU"]) == pytest.approx(35)
    assert float(rows[0]["mIoU sd"]) == pytest.approx(7.0711)
    assert float(rows[1]["IoU road"]) == pytest.approx(50)
    assert rows[1]["mIoU sd"] == ""
    assert comma_separated(compare([read_run(path) for path in (*runs, image)])) == (tmp_path / "t.csv").read_text()


def test_what_is_no_work_dir(tmp_path):
    (tmp_path / "x").mkdir()
    result = run("x", cwd=tmp_path, expect=2)
    assert result.stderr.strip() == "error: x is not a work dir: it has no x.json"
    broken = make_run(tmp_path, "a")
    (broken / "evaluations" / "iter_4" / "metrics.json").write_text("{")
    assert "metrics.json is not valid JSON" in run(broken, cwd=tmp_path, expect=2).stderr
    fine = make_run(tmp_path, "b")
    assert "cannot be written" in run(fine, "--csv", "no/where.csv", cwd=tmp_path, expect=2).stderr


def test_folder_of_a_run_that_never_began_is_skipped(tmp_path):
    fine, failed = make_run(tmp_path, "a"), tmp_path / "failed"
    failed.mkdir()
    (failed / "output.txt").write_text("error: no")
    result = run(fine.name, "failed", cwd=tmp_path)
    assert "30.00" in result.stdout
    assert result.stderr == "note: skipped, failed is not a work dir: it has no failed.json\n"
    # a folder that does not exist is a typo
    assert "slip is not a work dir" in run(fine.name, "slip", cwd=tmp_path, expect=2).stderr


def test_no_torch_is_loaded():
    code = "import sys, mmseg.report.comparison; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
