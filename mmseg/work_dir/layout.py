"""Names of the files in the work dir of a run. Light to import."""

from __future__ import annotations

from pathlib import Path


def config_file(work_dir: str | Path) -> Path:
    """Where the resolved config of a run is; a run that ended before its training began left none.

    It bears the name of the folder, or that up to a ``[`` where a note such as ``[best]`` was added to the name.
    """
    name = Path(work_dir).resolve().name
    whole = Path(work_dir) / f"{name}.json"
    return whole if whole.is_file() else Path(work_dir) / f"{name.split('[')[0]}.json"
