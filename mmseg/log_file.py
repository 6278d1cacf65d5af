"""Reader of a run's log in JSON lines, which :class:`mmseg.engine.run_log.RunLog` writes. Light to import."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmseg.errors import ConfigError

# Stands in every ``val`` record whose scores are in percent. Records of earlier versions hold shares, and no unit.
PERCENT = {"unit": "percent"}
SCORE = re.compile(r"mIoU(_\d+)?|[ma]Acc|mDice|mFscore|mPrecision|mRecall|(IoU|Acc)\..+")


def read_log(work_dir: str | Path) -> Iterator[dict[str, Any]]:
    """Records of ``*.log.json``, each with its ``mode`` (``train`` or ``val``) and ``iter``, in the order of writing.

    Scores (``val``) are in percent, whichever version of this project wrote them.

    A last line that is not whole is left out: it is being written, or its run was killed.

    Raises:
        ConfigError: another line is no record, or its scores are in a unit that is not known.
    """
    for path in sorted(Path(work_dir).glob("*.log.json")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                record["iter"], record["mode"] = int(record["iter"]), str(record["mode"])
            except (ValueError, TypeError, KeyError) as error:
                if number == len(lines):
                    break
                raise ConfigError(f"{path}, line {number} is no line of a log ({error}); remove it") from None
            if record["mode"] == "val":
                record = _in_percent(record, f"{path}, line {number}")
            yield record


def _in_percent(record: dict[str, Any], where: str) -> dict[str, Any]:
    """A ``val`` record without its unit."""
    scores = {key: value for key, value in record.items() if key != "unit"}
    unit = record.get("unit")
    if unit not in (None, PERCENT["unit"]):
        raise ConfigError(f"{where} has scores in {unit!r}; only 'percent', or shares without a unit, can be read")
    if unit:
        return scores
    return {
        key: 100 * value if SCORE.fullmatch(key) and isinstance(value, (int, float)) else value
        for key, value in scores.items()
    }
