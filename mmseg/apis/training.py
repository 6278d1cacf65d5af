"""Training from a config."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console

from mmseg.config import check_config, dump_config, effective
from mmseg.datasets.classes import CLASSES, PALETTE
from mmseg.distributed import Ranks, process_group, wait_for_all
from mmseg.engine.checkpoint import (
    checkpoint_path,
    list_checkpoints,
    load_segmentor,
    load_training,
    save_checkpoint,
)
from mmseg.engine.data import batches, training_loader
from mmseg.engine.environment import choose_device, environment
from mmseg.engine.numerics import make_scaler, set_numerics
from mmseg.engine.optim import build_optimizer, build_schedule, check_optimisation
from mmseg.engine.run_log import RunLog, SilentLog
from mmseg.engine.training_loop import LoopSettings, run_training
from mmseg.errors import ConfigError
from mmseg.evaluation.evaluator import check_test_set, default_output, evaluate, score_table
from mmseg.files import write_text
from mmseg.registry import DATASETS, SEGMENTORS, UDA
from mmseg.uda.cmda import DACS
from mmseg.uda.settings import UDASettings
from mmseg.uda.streams import StreamPlan, stream_plan


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
    return stream_plan(UDASettings(**{k: v for k, v in config["uda"].items() if k != "type"}))


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


def loop_settings(config: Mapping[str, Any], first: int, ranks: Ranks) -> LoopSettings:
    """Numbers of the run from an effective config."""
    return LoopSettings(
        first=first,
        last=config["runner"]["max_iters"],
        batch=config["data"]["samples_per_gpu"],
        seed=config.get("seed") or 0,
        log_interval=(config.get("log_config") or {}).get("interval", 50),
        checkpoint_interval=(config.get("checkpoint_config") or {}).get("interval", 4000),
        evaluation_interval=(config.get("evaluation") or {}).get("interval", 4000),
        picture_interval=config["uda"].get("debug_img_interval", 0),
        ranks=ranks,
    )


def train(
    config: Config, work_dir: str | Path | None = None, console: Console | None = None, launcher: str = "none"
) -> Path:
    """Train, evaluate and leave everything in the work dir, which is returned.

    Files: the resolved config, ``environment.json``, ``<name>.log``, ``<name>.log.json``, ``tensorboard/``,
    ``pictures/``, ``iter_<n>.pth``, and per evaluation ``evaluations/iter_<n>/`` with predictions and scores.

    Args:
        config: as loaded by :func:`mmseg.config.load_config`.
        work_dir: folder of the run; by default the config's ``work_dir``, else ``work_dirs/<name>``.
        console: where people read along; stdout by default.
        launcher: what started this process, see :func:`mmseg.distributed.process_group`; of several processes, the
            first writes the files.

    Raises:
        CMDAError: bad input, before the model is built wherever it can be seen by then.
    """
    with process_group(launcher) as ranks:
        return _train(config, work_dir, console or Console(), ranks)


def _train(config: Config, work_dir: str | Path | None, console: Console, ranks: Ranks) -> Path:
    cfg = effective(config)
    check_config(cfg, for_training=True)
    check_optimisation(cfg["optimizer"], cfg["lr_config"])
    train_set, val_set = build_datasets(cfg)
    device = choose_device()
    work_dir = Path(work_dir or config.get("work_dir") or Path("work_dirs") / config.get("name", "run"))
    log = _open_work_dir(work_dir, config, device, console, ranks)
    try:
        log.info("%d source images, %d target frames", len(train_set.source), len(train_set.target))
        if train_set.target.left_out:
            log.info(train_set.target.left_out)
        torch.backends.cudnn.benchmark = bool(config.get("cudnn_benchmark", False))
        method = build_method(cfg).to(device)
        set_numerics(method, cfg, device)
        optimizer, scaler = build_optimizer(method.model, cfg["optimizer"]), make_scaler(cfg.get("precision"))
        settings = loop_settings(cfg, _resume(cfg, method, optimizer, scaler, log), ranks)
        schedule = build_schedule(optimizer, cfg["lr_config"], settings.last, settings.first)
        workers = cfg["data"].get("workers_per_gpu", 0)
        loader = training_loader(train_set, settings.batch, workers, settings.first, settings.last, device, ranks)
        run_training(
            method,
            batches(loader, device),
            optimizer,
            schedule,
            settings,
            log,
            work_dir,
            save=_on_first(ranks, _saver(work_dir, method, optimizer, scaler, log, cfg, dump_config(config))),
            evaluate=_on_first(ranks, _evaluator(work_dir, method, val_set, log, settings.last, workers)),
            scaler=scaler,
        )
    except Exception as error:
        log.error(f"stopped: {error}")
        raise
    finally:
        log.close()
    return work_dir


def _on_first(ranks: Ranks, act: Callable[[int], None]) -> Callable[[int], None]:
    """Do something in the first process, while the others wait."""

    def acted(done: int) -> None:
        if ranks.is_first:
            act(done)
        wait_for_all()

    return acted


def _resume(
    cfg: Mapping[str, Any],
    method: DACS,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    log: RunLog,
) -> int:
    """Restore the checkpoint that ``resume_from`` names; number of finished iterations, 0 without one."""
    path, last = cfg.get("resume_from"), cfg["runner"]["max_iters"]
    if not path:
        return 0
    first = load_training(path, method, optimizer, scaler)
    if first >= last:
        raise ConfigError(f"{path} is of iteration {first}, and runner.max_iters is {last}: nothing is left to train")
    log.info("resumed after iteration %d from %s", first, path)
    return first


def _open_work_dir(
    work_dir: Path, config: Config, device: torch.device, console: Console, ranks: Ranks
) -> RunLog | SilentLog:
    """Create the work dir with config and environment record, and start its logs; the first process does."""
    if not ranks.is_first:
        return SilentLog()
    record = {**environment(device), "processes": ranks.world}
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        write_text(work_dir / f"{work_dir.name}.json", dump_config(config))
        write_text(work_dir / "environment.json", json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"work dir {work_dir} cannot be written ({error.strerror}); choose another one") from error
    log = RunLog(work_dir, work_dir.name, console, config.get("log_level", "INFO"))
    log.info("work dir %s, device %s, torch %s", work_dir, device, record["packages"]["torch"])
    earlier = list_checkpoints(work_dir)
    if earlier and not config.get("resume_from"):
        log.info("note: the work dir holds checkpoints of an earlier run, the newest is %s", earlier[-1].name)
    if device.type == "cpu":
        log.info("no CUDA GPU was found: training on the CPU; how long it takes is said after a few iterations")
    return log


def _saver(
    work_dir: Path,
    method: DACS,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    log: RunLog,
    cfg: Mapping[str, Any],
    config_text: str,
) -> Callable[[int], None]:
    """Function that writes the checkpoint of an iteration."""
    keep = (cfg.get("checkpoint_config") or {}).get("max_keep_ckpts")
    meta = {
        "CLASSES": list(CLASSES),
        "PALETTE": [list(color) for color in PALETTE],
        "config": config_text,
        "seed": cfg.get("seed") or 0,
    }

    def save(done: int) -> None:
        path = checkpoint_path(work_dir, done)
        meta["time"] = time.strftime("%Y-%m-%d %H:%M:%S")
        save_checkpoint(path, method, optimizer, done, meta, keep, scaler)
        log.info("wrote %s", path)

    return save


def _evaluator(
    work_dir: Path, method: DACS, val_set: Any, log: RunLog, last: int, workers: int
) -> Callable[[int], None]:
    """Function that tests the student after an iteration; panels are drawn at the end alone.

    Raises:
        ConfigError: at once, when the validation set lacks what the test needs.
    """
    if val_set is None:
        return lambda _: None
    device = next(method.parameters()).device
    output = default_output(method.model, val_set)
    check_test_set(method.model, val_set, output, "data.val")

    def test(done: int) -> None:
        folder = work_dir / "evaluations" / f"iter_{done}"
        result = evaluate(
            method.model.eval(),
            val_set,
            output,
            device,
            folder,
            panels=done == last,
            workers=workers if device.type == "cuda" else 0,
            tested={"model": "student", "iteration": done},
        )
        method.train()
        log.info("evaluation after iteration %d: %s; predictions in %s", done, result.headline(), folder)
        if result.scores is not None:
            log.record("val", done, result.scores.summary())
            log.console.print(score_table(result.scores, f"{result.output} output after iteration {done}"))

    return test
