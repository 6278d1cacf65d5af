"""Testing a checkpoint, by config or by work dir."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import track

from mmseg.config import check_config, effective, load_config, set_root
from mmseg.engine.checkpoint import list_checkpoints, load_segmentor
from mmseg.engine.environment import choose_device
from mmseg.errors import CheckpointError, ConfigError
from mmseg.evaluation.evaluator import Evaluation, check_test_set, default_output, evaluate, print_scores
from mmseg.registry import DATASETS, SEGMENTORS

PUBLISHED_CHECKPOINT = "iter_40000.pth"


def work_dir_config(work_dir: str | Path) -> Path:
    """Config of a work dir: ``<name of the folder up to '['>.json``.

    Raises:
        ConfigError: no such folder or file.
    """
    work_dir = Path(work_dir)
    if not work_dir.is_dir():
        raise ConfigError(f"work dir {work_dir} does not exist")
    path = work_dir / f"{work_dir.resolve().name.split('[')[0]}.json"
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist; the config of a work dir bears the name of the folder (up to '['), so rename "
            "one of them, or use tools/test.py CONFIG CHECKPOINT"
        )
    return path


def work_dir_checkpoint(work_dir: str | Path) -> Path:
    """``iter_40000.pth``, or the newest ``iter_*.pth`` where that is absent.

    Raises:
        CheckpointError: the folder holds none.
    """
    published = Path(work_dir) / PUBLISHED_CHECKPOINT
    if published.is_file():
        return published
    checkpoints = list_checkpoints(work_dir)
    if not checkpoints:
        raise CheckpointError(f"{work_dir} holds no checkpoint iter_<n>.pth")
    return checkpoints[-1]


def test_work_dir(
    work_dir: str | Path, model: str = "student", output: str | None = None, **options: Any
) -> Evaluation:
    """Test a work dir, of ours or as published.

    Predictions go to ``<work_dir>/preds``, those of the teacher or of a named output to a folder beside it.

    Args:
        work_dir: folder with config and checkpoint.
        model, output, options: see :func:`test`.
    """
    named = ["preds", *(["teacher"] if model == "teacher" else []), *([output] if output else [])]
    options.setdefault("out_dir", Path(work_dir) / "_".join(named))
    return test(work_dir_config(work_dir), work_dir_checkpoint(work_dir), model=model, output=output, **options)


def test(
    config_path: str | Path,
    checkpoint: str | Path,
    out_dir: str | Path,
    model: str = "student",
    output: str | None = None,
    root_path: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    panels: bool = True,
    console: Console | None = None,
) -> Evaluation:
    """Test a checkpoint on the config's test set.

    Args:
        config_path: config of the training.
        checkpoint: its checkpoint.
        out_dir: folder of predictions, panels and ``metrics.json``.
        model: ``student`` or ``teacher``.
        output: output of the model; by default the fused one where there is one.
        root_path: folder with ``data/``, for a config whose paths are of another machine.
        cfg_options: dotted key -> value.
        panels: write panels too.
        console: where people read along; stdout by default.

    Raises:
        CMDAError: bad input.
    """
    console = console or Console()
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    config = load_config(config_path, cfg_options)
    if root_path:
        set_root(config, root_path, cfg_options)
    segmentor, dataset = build_test(config)
    output = output or default_output(segmentor, dataset)
    check_test_set(segmentor, dataset, output, "data.test")
    weights = load_segmentor(segmentor, checkpoint, model)
    say(f"{checkpoint}: {len(weights.state_dict)} weights of the {model} loaded, none missing, none unexpected")
    for name, count in weights.left_out.items():
        say(f"  left out, as a test does not need it: {name} ({count} weights)")
    device = choose_device()
    try:
        result = evaluate(
            segmentor.to(device).eval(),
            dataset,
            output,
            device,
            out_dir,
            panels=panels,
            workers=config.data.get("workers_per_gpu", 0) if device.type == "cuda" else 0,
            progress=partial(
                track, description=f"testing on {device}", console=console, disable=not console.is_terminal
            ),
            tested={"checkpoint": str(checkpoint), "model": model, "config": str(config_path)},
        )
    except OSError as error:
        raise ConfigError(f"{out_dir} cannot be written ({error.strerror}); choose another folder") from error
    print_scores(result, console)
    say(f"predictions and metrics.json in {out_dir}")
    return result


def build_test(config: Config) -> tuple[Any, Any]:
    """Segmentor whose weights are still to be loaded, and test set."""
    cfg = effective(config, for_training=False)
    check_config(cfg, for_training=False)
    dataset = DATASETS.build(dict(cfg["data"]["test"]))
    # A checkpoint holds every weight: drawing initial ones would only take time.
    with torch.device("meta"):
        segmentor = SEGMENTORS.build({**cfg["model"], "pretrained": None})
    return segmentor.to_empty(device="cpu"), dataset
