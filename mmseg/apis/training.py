"""Training from a config."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console

from mmseg.classes import CLASSES, PALETTE
from mmseg.config.load import check_config, dump_config, effective, get_key, plain
from mmseg.config.run import RunConfig
from mmseg.config.uda import UDASettings
from mmseg.engine.beginning import agree_on_start, check_inputs_alike, held_work_dir, work_dir_of
from mmseg.engine.checkpoint import (
    best_checkpoint,
    checkpoint_meta,
    checkpoint_path,
    list_checkpoints,
    load_segmentor,
    load_training,
    save_best,
    save_checkpoint,
)
from mmseg.engine.data import batch_of, batches, sample_numbers, training_loader
from mmseg.engine.ending import as_message
from mmseg.engine.environment import choose_device, environment, keep_freed_memory
from mmseg.engine.finite import NonFinite
from mmseg.engine.graphs import use_graphs
from mmseg.engine.loggers import WANDB_RECORD, check_hooks, open_loggers
from mmseg.engine.numerics import check_numerics, make_scaler, set_determinism, set_numerics
from mmseg.engine.optim import build_optimizer, build_schedule
from mmseg.engine.prediction import Predictor, recorder_for
from mmseg.engine.resuming import Start, changes, listed
from mmseg.engine.run_log import RunLog, SilentLog
from mmseg.engine.skipped import SkippedSamples
from mmseg.engine.training_loop import LoopSettings, TrainingLoop
from mmseg.errors import CheckpointError, ConfigError
from mmseg.evaluation.evaluator import check_test_set, default_output, evaluate, score_table
from mmseg.evaluation.logged import logged_scores
from mmseg.io.files import atomic_path, open_to_append, put_aside, remove_leftovers, write_text
from mmseg.parallel.distributed import ProcessRank, process_group
from mmseg.registry import DATASETS, SEGMENTORS, UDA
from mmseg.system.console import steady_console
from mmseg.system.printing import say
from mmseg.uda.cmda import DACS
from mmseg.uda.streams import StreamPlan, stream_plan
from mmseg.work_dir.identity import RunIdentity
from mmseg.work_dir.lock import WorkDirLock
from mmseg.work_dir.log_file import PERCENT


def build_datasets(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Training and validation set of an effective config; the latter is None where it has none."""
    plan = variant(config)
    cfg = dict(config["data"]["train"])
    source, target = (DATASETS.build(dict(cfg.pop(key))) for key in ("source", "target"))
    train = DATASETS.build({**cfg, "source": source, "target": target, "seed": config.get("seed") or 0})
    check_samples(plan, train)
    val = config["data"].get("val")
    return train, DATASETS.build(dict(val)) if val else None


def build_method(config: Mapping[str, Any]) -> DACS:
    """Segmentor and training method of an effective config, with the weights it names."""
    torch.manual_seed(config.get("seed") or 0)
    method = UDA.build({**config["uda"], "model": SEGMENTORS.build(dict(config["model"]))})
    if config.get("load_from"):
        # After the method is built: its ImageNet encoder is a copy of what model.pretrained gave.
        load_segmentor(method.model, config["load_from"])
        method.ema_model.load_state_dict(method.model.state_dict())
    return method


def variant(config: Mapping[str, Any]) -> StreamPlan:
    """Streams of the variant that an effective config trains.

    Raises:
        ConfigError: no such variant, or a switch that means nothing to it.
    """
    return stream_plan(UDASettings(**config["uda"]))


def check_training(config: Config) -> dict[str, Any]:
    """Check all of a config that a training reads, before data or model are touched.

    Returns:
        The effective config.

    Raises:
        ConfigError: one line that names the key, its value and what it takes.
    """
    cfg = effective(config)
    check_config(cfg, for_training=True)
    check_hooks(_hooks(cfg))
    variant(cfg)
    return cfg


def check_samples(plan: StreamPlan, dataset: Any) -> None:
    """Refuse samples that lack what the training step reads, or whose sizes differ.

    Raises:
        ConfigError: naming the keys.
    """
    needed = {"source": {*plan.source_keys.values(), "label"}, "target": {*plan.target_keys.values()}}
    for name, keys in needed.items():
        missing = sorted(keys - getattr(dataset, name).outputs)
        if missing:
            raise ConfigError(f"data.train.{name}.outputs lacks {', '.join(missing)}, which the training step reads")
    sizes = [getattr(dataset, name).sample_size for name in ("source", "target")]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"source samples are {sizes[0]}, target samples {sizes[1]} (height, width): make "
            "data.train.source.image_crop_size and data.train.target's after_crop_resize_size (DSEC) or "
            "image_crop_size (Dark Zurich) alike"
        )


def loop_settings(config: Mapping[str, Any], first: int, process: ProcessRank) -> LoopSettings:
    """Numbers of the run from an effective config.

    Where the config keeps a number of checkpoints, one is also written before every evaluation: the published configs
    write one at the end alone, and a crash would cost everything.
    """
    checkpoints, evaluations = config.get("checkpoint_config") or {}, config.get("evaluation") or {}
    interval, evaluation = checkpoints.get("interval", 4000), evaluations.get("interval", 4000)
    return LoopSettings(
        first=first,
        last=config["runner"]["max_iters"],
        batch=config["data"]["samples_per_gpu"],
        seed=config.get("seed") or 0,
        log_interval=(config.get("log_config") or {}).get("interval", 50),
        checkpoint_interval=interval,
        evaluation_interval=evaluation,
        picture_interval=config["uda"].get("debug_img_interval", 0),
        process=process,
        safety_interval=evaluation if interval and checkpoints.get("max_keep_ckpts") else 0,
    )


def train(
    config: Config, work_dir: str | Path | None = None, console: Console | None = None, launcher: str = "none"
) -> Path:
    """Train, evaluate and leave everything in the work dir, which is returned.

    Files: the resolved config, ``environment.json``, ``<name>.log``, ``<name>.log.json``, ``tensorboard/``,
    ``pictures/``, ``iter_<n>.pth``, ``best_<score>_iter_<n>.pth``, and per evaluation ``evaluations/iter_<n>/`` with
    predictions and scores.

    Args:
        config: as loaded by :func:`mmseg.config.load.load_config`.
        work_dir: folder of the run; by default the config's ``work_dir``, else ``work_dirs/<name>``.
        console: where people read along; stdout by default.
        launcher: what started this process, see :func:`mmseg.parallel.distributed.process_group`; of several
            processes, the first writes the files.

    Raises:
        CMDAError: bad input, before the model is built wherever it can be seen by then.
    """
    with process_group(launcher) as process:
        try:
            return _train(config, work_dir, console or steady_console(), process)
        except Exception as error:
            message = as_message(error)
            if message is None or message is error:
                raise
            raise message from error


def _train(config: Config, work_dir: str | Path | None, console: Console, process: ProcessRank) -> Path:
    cfg = check_training(config)
    device = choose_device()
    check_numerics(RunConfig.from_config(cfg).numerics, device)
    work_dir = work_dir_of(config, work_dir)
    tell = partial(say, console)
    start = agree_on_start(config, work_dir, process, tell)
    if start.is_finished:
        if process.is_main:
            tell(f"{work_dir} is finished: {start.checkpoint.name} is its last checkpoint")
        return work_dir
    train_set, val_set = build_datasets(cfg)
    check_inputs_alike(cfg, train_set)
    with held_work_dir(work_dir, start, tell) as lock:
        _run(config, cfg, work_dir, start, lock, train_set, val_set, device, console, process)
    return work_dir


def _run(
    config: Config,
    cfg: Mapping[str, Any],
    work_dir: Path,
    start: Start,
    lock: WorkDirLock | None,
    train_set: Any,
    val_set: Any,
    device: torch.device,
    console: Console,
    process: ProcessRank,
) -> None:
    """Train in a work dir that is held."""
    if device.type == "cpu":
        keep_freed_memory()
    resumed = start.checkpoint
    log = _open_work_dir(work_dir, config, device, console, process, is_new=resumed is None)
    try:
        log.info("%d source images, %d target frames", len(train_set.source), len(train_set.target))
        log.info(train_set.target.read_from)
        if train_set.target.left_out:
            log.info(train_set.target.left_out)
        if start.remark:
            log.warning(start.remark)
        numerics = RunConfig.from_config(cfg).numerics
        set_determinism(numerics)
        method = build_method(cfg).to(device)
        set_numerics(method, numerics, device)
        use_graphs(method, numerics, device, log.warning)
        optimizer, scaler = build_optimizer(method.model, cfg["optimizer"]), make_scaler(numerics.precision)
        first = _resume(resumed, config, method, optimizer, scaler, log, process) if resumed else 0
        settings = loop_settings(cfg, first, process)
        schedule = build_schedule(optimizer, cfg["lr_config"], settings.last, settings.first)
        workers = cfg["data"].get("workers_per_gpu", 0)
        loader = training_loader(train_set, settings.batch, workers, settings.first, settings.last, device, process)
        skips = SkippedSamples(log, cfg["data"]["train"].get("on_bad_sample") == "skip")
        meta = _meta(cfg, config, process, start.identity)
        save = _saver(work_dir, method, optimizer, scaler, log, cfg, meta, start.identity, lock)
        loop = TrainingLoop(
            method,
            batches(loader, device, skips.note),
            optimizer,
            schedule,
            settings,
            log,
            work_dir,
            save=_on_first(process, save),
            evaluate=_on_first(process, _evaluator(work_dir, method, val_set, log, cfg, meta, start.identity)),
            keep_batch=_batch_keeper(work_dir, train_set, settings),
            scaler=scaler,
            at_log=skips.share,
            save_alone=save,
        )
        try:
            loop.run()
        finally:
            skips.report()
    except (Exception, KeyboardInterrupt) as error:
        log.error(f"stopped: {error}")
        raise
    finally:
        log.close()


def _hooks(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((config.get("log_config") or {}).get("hooks") or ())


def _batch_keeper(work_dir: Path, dataset: Any, settings: LoopSettings) -> Callable[[NonFinite], Path]:
    """Function that prepares the batch of an iteration again and writes it into the work dir, with its losses."""

    def keep(broken: NonFinite) -> Path:
        numbers = sample_numbers(broken.iteration, settings.batch, settings.process)
        rank = "" if settings.process.is_main else f"_rank{settings.process.rank}"
        path = work_dir / f"nonfinite_iter_{broken.iteration + 1}{rank}.pth"
        content = {
            "iter": broken.iteration + 1,
            "values": broken.values,
            "samples": [dataset.describe(number) for number in numbers],
            "batch": batch_of(dataset, numbers),
        }
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
        return path

    return keep


def _on_first(process: ProcessRank, act: Callable[[int], None]) -> Callable[[int], None]:
    """What is done in the first process only; the loop lets the others wait."""
    return act if process.is_main else lambda _: None


def _resume(
    path: Path,
    config: Config,
    method: DACS,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    log: RunLog | SilentLog,
    process: ProcessRank,
) -> int:
    """Restore a checkpoint; number of finished iterations."""
    meta = load_training(path, method, optimizer, scaler)
    first, last = meta["iter"], config["runner"]["max_iters"]
    if first >= last:
        raise ConfigError(f"{path} is of iteration {first}, and runner.max_iters is {last}: nothing is left to train")
    log.forget_after(first)
    log.info("resumed after iteration %d from %s", first, path)
    changed = changes(meta, plain(config.to_dict()), process.world_size)
    if changed:
        log.warning(
            f"the checkpoint was made with other settings, so this is not the run that an uninterrupted one would be: "
            f"{listed(list(changed.values()))}"
        )
    return first


def _open_work_dir(
    work_dir: Path, config: Config, device: torch.device, console: Console, process: ProcessRank, is_new: bool
) -> RunLog | SilentLog:
    """Create the work dir with config and environment record, and start its logs; the first process does.

    Args:
        is_new: the run starts from the beginning: numbers of an earlier one are put aside.
    """
    if not process.is_main:
        return SilentLog()
    record = {**environment(device), "processes": process.world_size}
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        remove_leftovers(work_dir)
        aside = _put_numbers_aside(work_dir) if is_new else ()
        write_text(work_dir / f"{work_dir.name}.json", dump_config(config))
        write_text(work_dir / "environment.json", json.dumps(record, indent=1) + "\n")
        for ending in (".log", ".log.json"):
            open_to_append(work_dir / f"{work_dir.name}{ending}").close()
        loggers = open_loggers(_hooks(config), work_dir, work_dir.name, plain(config.to_dict()))
        log = RunLog(work_dir, work_dir.name, console, config.get("log_level", "INFO"), loggers)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise ConfigError(
            f"work dir {work_dir} cannot be written ({error.strerror}{where}); choose another one"
        ) from error
    log.info("work dir %s, device %s, torch %s", work_dir, device, record["packages"]["torch"])
    if aside:
        log.info("note: what an earlier run left was put aside: %s", ", ".join(aside))
    earlier = list_checkpoints(work_dir)
    if earlier and not config.get("resume_from"):
        log.info("note: the work dir holds checkpoints of an earlier run, the newest is %s", earlier[-1].name)
    if device.type == "cpu":
        log.info("no CUDA GPU was found: training on the CPU; how long it takes is said after a few iterations")
    return log


def _put_numbers_aside(work_dir: Path) -> tuple[str, ...]:
    """Give what a run counts and measures another name, so that no curve is of two runs; the new names."""
    names = (f"{work_dir.name}.log.json", "tensorboard", "evaluations", WANDB_RECORD)
    return tuple(path.name for path in (put_aside(work_dir / name) for name in names) if path is not None)


def _meta(cfg: Mapping[str, Any], config: Config, process: ProcessRank, identity: RunIdentity) -> dict[str, Any]:
    """What a checkpoint says about its run."""
    return {
        "CLASSES": list(CLASSES),
        "PALETTE": [list(color) for color in PALETTE],
        "config": dump_config(config),
        "seed": cfg.get("seed") or 0,
        "processes": process.world_size,
        "run": identity.as_meta(),
    }


def _saver(
    work_dir: Path,
    method: DACS,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    log: RunLog | SilentLog,
    cfg: Mapping[str, Any],
    meta: Mapping[str, Any],
    identity: RunIdentity,
    lock: WorkDirLock | None,
) -> Callable[[int], None]:
    """Function that writes the checkpoint of an iteration."""
    keep = (cfg.get("checkpoint_config") or {}).get("max_keep_ckpts")

    def is_own(path: Path) -> bool:
        found = checkpoint_meta(path)
        return found is not None and identity.owns(found)

    def save(done: int) -> None:
        if lock is not None:
            lock.verify()
        path = checkpoint_path(work_dir, done)
        stamped = {**meta, "time": time.strftime("%Y-%m-%d %H:%M:%S")}
        save_checkpoint(path, method, optimizer, done, stamped, keep, scaler, is_own)
        identity.write(work_dir)
        log.info("wrote %s", path)

    return save


def _evaluator(
    work_dir: Path,
    method: DACS,
    val_set: Any,
    log: RunLog | SilentLog,
    cfg: Mapping[str, Any],
    meta: Mapping[str, Any],
    identity: RunIdentity,
) -> Callable[[int], None]:
    """Function that tests the student after an iteration and keeps the best; panels are drawn at the end alone.

    Raises:
        ConfigError: at once, when the validation set lacks what the test or the choice of the best needs.
    """
    if val_set is None:
        return lambda _: None
    device = next(method.parameters()).device
    output = default_output(method.model, val_set)
    check_test_set(method.model, val_set, output, "data.val")
    last, workers = cfg["runner"]["max_iters"], cfg["data"].get("workers_per_gpu", 0)
    if get_key(cfg, "evaluation.save_best") == "mIoU_18" and not val_set.ABSENT_CLASSES:
        raise ConfigError("evaluation.save_best is 'mIoU_18', but data.val has labels of all 19 classes; set 'mIoU'")

    def test(done: int) -> None:
        folder = work_dir / "evaluations" / f"iter_{done}"
        # of this evaluation only: the weights change, and the training needs the memory
        recorder = recorder_for(device, cfg.get("cuda_graphs"))
        result = evaluate(
            method.model.eval(),
            val_set,
            output,
            device,
            folder,
            panels=done == last,
            workers=workers if device.type == "cuda" else 0,
            tested={"model": "student", "iteration": done},
            skip_bad_samples=cfg["data"]["train"].get("on_bad_sample") == "skip",
            predictor=Predictor(method.model, device, None, recorder, log.warning),
        )
        method.train()
        log.info("evaluation after iteration %d: %s; predictions in %s", done, result.headline(), folder)
        for reason in result.left_out:
            log.warning(f"left out of the evaluation: {reason}")
        if result.scores is not None:
            summary = result.scores.summary()
            log.record("val", done, logged_scores(result.scores), PERCENT)
            log.console.print(score_table(result.scores, f"{result.output} output after iteration {done}"))
            keep_best(done, summary)

    def keep_best(done: int, summary: Mapping[str, float]) -> None:
        wanted = get_key(cfg, "evaluation.save_best")
        if wanted is False:
            return
        # by default the mean over the classes that the labels can hold, the paper's score
        by_default = next((name for name in summary if name.startswith("mIoU_")), "mIoU")
        name = wanted if isinstance(wanted, str) else by_default
        try:
            if save_best(work_dir, method, done, meta, name, summary[name], identity.owns):
                log.info("the best %s so far, %.2f; kept as %s", name, 100 * summary[name], best_checkpoint(work_dir))
        except CheckpointError as error:
            log.warning(str(error))

    return test
