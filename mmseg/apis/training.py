"""Training from a config."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from mmseg.engine.build import build_datasets
from mmseg.engine.build import check_training as check_training
from mmseg.engine.checkpoint import check_classes_of
from mmseg.engine.environment import choose_device
from mmseg.engine.numerics import check_numerics
from mmseg.engine.shutdown import as_message
from mmseg.engine.startup import (
    Job,
    agree_on_start,
    check_same_inputs,
    fetch_weights,
    locked_work_dir,
    run_log,
    work_dir_of,
)
from mmseg.engine.trainer import Trainer
from mmseg.evaluation.validation import Validation
from mmseg.parallel.distributed import ProcessRank, process_group
from mmseg.system.console import steady_console
from mmseg.system.printing import say


def train(
    config: Config, work_dir: str | Path | None = None, console: Console | None = None, launcher: str = "none"
) -> Path:
    """Train and evaluate; return the work dir, which holds all results.

    Files: the resolved config, ``environment.json``, ``<name>.log``, ``<name>.log.json``, ``tensorboard/``,
    ``pictures/``, ``iter_<n>.pth``, ``best_<score>_iter_<n>.pth``, and per evaluation ``evaluations/iter_<n>/`` with
    predictions and scores.

    Args:
        config: as loaded by :func:`mmseg.config.load.load_config`.
        work_dir: folder of the run; by default the config's ``work_dir``, or ``work_dirs/<name>``.
        console: where progress is printed; stdout by default.
        launcher: what started this process, see :func:`mmseg.parallel.distributed.process_group`; the first of several
            processes writes the files.

    Raises:
        CMDAError: bad input, found before the model is built wherever possible.
    """
    with process_group(launcher) as process:
        try:
            return _train(config, work_dir, console or steady_console(), process)
        except Exception as error:
            message = as_message(error)
            if message is None or message is error:
                raise
            raise message from error


def _train(config: Config, given: str | Path | None, console: Console, process: ProcessRank) -> Path:
    run = check_training(config)
    device = choose_device()
    check_numerics(run.numerics, device)
    work_dir = work_dir_of(run, given)
    note = partial(say, console)
    if run.load_from:
        check_classes_of(run.load_from, run.class_set)
    start = agree_on_start(config, run, work_dir, process, note)
    if start.checkpoint is not None:
        check_classes_of(start.checkpoint, run.class_set)
    if start.is_finished and start.checkpoint is not None:
        if process.is_main:
            note(f"{work_dir} is finished: {start.checkpoint.name} is its last checkpoint")
            evaluates = run.evaluation.interval and run.data.val is not None
            if evaluates and not work_dir.evaluation(run.runner.max_iters).metrics.is_file():
                note(f"its last evaluation is missing: test it with my_test.py --work-dir {work_dir}")
        return work_dir.path
    weights = fetch_weights(config, note)
    train_set, val_set = build_datasets(run)
    check_same_inputs(weights, train_set)
    job = Job(config, run, work_dir, start, device, process, weights)
    validator = Validation(run, val_set, device) if val_set is not None else None
    with locked_work_dir(work_dir, start, note) as lock, run_log(job, console) as log:
        Trainer(job, train_set, validator, log, lock).run()
    return work_dir.path
