"""Reader of a run's log in JSON lines, which :class:`mmseg.engine.run_log.RunLog` writes. Light to import."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmseg.config.kinds import Whole, shown
from mmseg.errors import ConfigError
from mmseg.io.json_files import parse_json
from mmseg.work_dir.layout import WorkDir

# Bytes; longer than any line that a training writes.
LONGEST_LINE = 2**20
ITERATION = Whole(0, 10**12)

# Part of every ``val`` record whose scores are in percent. Records of earlier versions have shares and no unit.
PERCENT = {"unit": "percent"}
SCORE = re.compile(r"mIoU(_\d+)?|[ma]Acc|mDice|mFscore|mPrecision|mRecall|(IoU|Acc)\..+")


def read_log(work_dir: str | Path) -> Iterator[dict[str, Any]]:
    """Records of ``*.log.json``, each with its ``mode`` (``train`` or ``val``) and ``iter``, in the order of writing.

    Scores (``val``) are in percent, whichever version of this project wrote them.

    An incomplete last line is skipped: it is being written, or its run was killed.

    Raises:
        ConfigError: a file cannot be read, another line is not a record, or its scores have an unknown unit.
    """
    for path in WorkDir(work_dir).json_logs():
        yield from _records(path)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise ConfigError(f"{path} is not a file; remove it")
    try:
        with path.open("rb") as file:
            number, line = 1, file.readline(LONGEST_LINE)
            while line:
                following = file.readline(LONGEST_LINE)
                try:
                    record = read_record(line, f"{path}, line {number}")
                except ConfigError:
                    if following:
                        raise
                    return
                yield _in_percent(record, f"{path}, line {number}") if record["mode"] == "val" else record
                number, line = number + 1, following
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error}); remove it") from error


def read_record(line: str | bytes, where: str = "a line") -> dict[str, Any]:
    """One line of a log.

    Args:
        line: a JSON object with ``iter`` and ``mode``.
        where: its origin, for messages.

    Raises:
        ConfigError: the line is not a record.
    """
    try:
        record = parse_json(line, "it", error=ConfigError)
    except ConfigError as error:
        raise ConfigError(f"{where} is not a line of a log ({error}); remove it") from None
    if not ITERATION.accepts(record.get("iter")) or not isinstance(record.get("mode"), str):
        raise ConfigError(f"{where} is not a line of a log ({shown(record)}); remove it")
    return record


def _in_percent(record: dict[str, Any], where: str) -> dict[str, Any]:
    """A ``val`` record with its scores in percent, without the unit."""
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
