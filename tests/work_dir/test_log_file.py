"""Logs in JSON lines: scores are read in percent, whichever version wrote them."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.run_tools import make_run
from rich.console import Console

from mmseg.classes import CLASSES
from mmseg.engine.run_log import RunLog
from mmseg.errors import ConfigError
from mmseg.evaluation.logged import CLASS_KEYS, logged_scores
from mmseg.evaluation.metrics import scores
from mmseg.report.charts import charts_of
from mmseg.report.comparison import compare, read_run, validation_records
from mmseg.report.data import Run, read_curves
from mmseg.work_dir.log_file import PERCENT, read_log

SHARES = {"mode": "val", "iter": 2, "mIoU": 0.25, "mIoU_18": 0.264, "aAcc": 0.5, "mAcc": None}
PERCENTS = {"mode": "val", "iter": 4, "unit": "percent", "mIoU": 0.9, "aAcc": 60.0, "IoU.road": 71.5, "IoU.wall": None}
TRAINED = {"mode": "train", "iter": 3, "mix.pseudo_weight": 0.5, "mIoU": 0.5}


def write(folder: Path, *records: dict) -> Path:
    (folder / "run.log.json").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_records_of_both_versions_in_one_file(tmp_path):
    """A run that an earlier version started and this one resumed; a score below 1 % is still in percent."""
    old, trained, new = read_log(write(tmp_path, SHARES, TRAINED, PERCENTS))
    assert old == {"mode": "val", "iter": 2, "mIoU": 25.0, "mIoU_18": pytest.approx(26.4), "aAcc": 50.0, "mAcc": None}
    assert trained == TRAINED
    assert new == {key: value for key, value in PERCENTS.items() if key != "unit"}


def test_an_unknown_unit_is_refused(tmp_path):
    write(tmp_path, {**PERCENTS, "unit": "permille"}, TRAINED)
    with pytest.raises(ConfigError, match=r"run\.log\.json, line 1 has scores in 'permille'; only 'percent'"):
        list(read_log(tmp_path))


def test_what_is_logged_of_an_evaluation(tmp_path):
    counts = np.zeros((19, 19), np.int64)
    counts[0, 0], counts[0, 1], counts[6, 6] = 3, 1, 4
    logged = logged_scores(scores(counts, absent_classes=(14,)))
    assert logged["IoU.road"] == pytest.approx(75.0)
    assert logged["IoU.sidewalk"] == 0.0
    assert logged["IoU.traffic_light"] == pytest.approx(100.0)
    assert logged["mIoU"] == pytest.approx(175 / 3)
    assert np.isnan(logged["IoU.sky"])
    assert list(CLASS_KEYS) == list(CLASSES)
    told = []
    logger = type("Logger", (), {"scalars": lambda self, *of: told.append(of), "close": lambda self: None})()
    log = RunLog(tmp_path, "run", Console(quiet=True), loggers=[logger])
    log.record("val", 7, logged, PERCENT)
    log.close()
    ((mode, iteration, values),) = told
    assert (mode, iteration) == ("val", 7)
    assert values["IoU.road"] == pytest.approx(75.0)
    assert "IoU.sky" not in values
    (record,) = read_log(tmp_path)
    assert record["IoU.sky"] is None
    assert record["aAcc"] == pytest.approx(87.5)


def in_percent(work_dir: Path) -> None:
    """Rewrite a log as this version writes it."""
    path = work_dir / f"{work_dir.name}.log.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["mode"] == "val":
            line |= {key: 100 * line[key] for key in ("mIoU", "mIoU_18")} | PERCENT | {"IoU.traffic_light": 12.5}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("rewrite", [lambda work_dir: None, in_percent])
def test_readers_of_either_version(tmp_path, rewrite):
    work_dir = make_run(tmp_path, "a", first=0.4, last=0.3)
    rewrite(work_dir)
    for path in work_dir.glob("evaluations/*/metrics.json"):
        path.unlink()
    assert [record["mIoU"] for record in validation_records(work_dir)] == pytest.approx([40, 30])
    (row,) = compare([read_run(work_dir)])
    assert row.final["mIoU"] == pytest.approx([30])
    assert row.best["mIoU_18"] == pytest.approx([41])
    assert row.classes == ({} if rewrite.__name__ == "<lambda>" else {"traffic light": [12.5]})
    charts = {chart.title: chart for chart in charts_of([Run("a", work_dir, read_curves(work_dir))])}
    assert charts["mean IoU (%)"].lines[0].values == (40.0, 30.0)
