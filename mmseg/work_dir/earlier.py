"""Results of an earlier run, or of iterations that a run repeats: kept under another name, out of every comparison."""

from __future__ import annotations

from mmseg.errors import ConfigError
from mmseg.io.files import name_aside, put_aside
from mmseg.work_dir.layout import TestFolder, WorkDir
from mmseg.work_dir.metrics_file import read_metrics, tested_iteration


def put_run_aside(work_dir: WorkDir) -> tuple[str, ...]:
    """Rename logs, evaluations and tests of an earlier run; return the new names."""
    tests = [test.path for test in work_dir.existing_predictions()]
    paths = (work_dir.json_log, work_dir.tensorboard, work_dir.evaluations, work_dir.wandb_record, *tests)
    return tuple(path.name for path in map(put_aside, paths) if path is not None)


def put_later_aside(work_dir: WorkDir, iteration: int) -> tuple[str, ...]:
    """Rename evaluations and tests of later iterations, which a resumed run reaches again; return the new names."""
    names = []
    evaluations = [test for test in work_dir.existing_evaluations() if _iteration(test) > iteration]
    if evaluations:
        aside = name_aside(work_dir.evaluations)
        aside.mkdir()
        for test in evaluations:
            test.path.rename(aside / test.path.name)
        names.append(aside.name)
    for test in work_dir.existing_predictions():
        if _iteration(test) > iteration and (moved := put_aside(test.path)) is not None:
            names.append(moved.name)
    return tuple(names)


def _iteration(test: TestFolder) -> int:
    """Iterations of the tested weights; -1 if unknown."""
    try:
        found = tested_iteration(read_metrics(test.metrics))
    except ConfigError:
        return -1
    return -1 if found is None else found
