"""Reader of a run's log in JSON lines, which :class:`mmseg.engine.run_log.RunLog` writes. Light to import."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmseg.errors import ConfigError


def read_log(work_dir: str | Path) -> Iterator[dict[str, Any]]:
    """Records of ``*.log.json``, each with its ``mode`` (``train`` or ``val``) and ``iter``, in the order of writing.

    A last line that is not whole is left out: it is being written, or its run was killed.

    Raises:
        ConfigError: another line is no record.
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
            yield record
