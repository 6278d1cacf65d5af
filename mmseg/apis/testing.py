"""Testing a checkpoint, by config or by work dir."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console

from mmseg.config.data_root import use_root
from mmseg.config.load import check_config, check_values, effective, get_key, plain
from mmseg.datasets.dark_zurich import DarkZurichICDataset
from mmseg.engine.checkpoint import checkpoint_meta, list_checkpoints, load_segmentor
from mmseg.engine.checkpoint_config import config_of
from mmseg.engine.environment import choose_device
from mmseg.engine.numerics import check_precision, set_precision
from mmseg.engine.prediction import Predictor, recorder_for
from mmseg.errors import CheckpointError, CMDAError, ConfigError
from mmseg.evaluation.evaluator import Evaluation, check_test_set, default_output, evaluate, print_scores
from mmseg.evaluation.submission import write_submission
from mmseg.models.segmentors.fusion_encoder_decoder import OUTPUT_STREAMS
from mmseg.registry import DATASETS, SEGMENTORS
from mmseg.report.page import write_report
from mmseg.system.printing import say, track
from mmseg.work_dir.identity import RunIdentity, read_identity
from mmseg.work_dir.layout import PUBLISHED_ITERATION, WorkDir, iteration_of
from mmseg.work_dir.results import results_folder, set_aside

# What decides on the content map of a sample.
ISR_KEYS = ("isr_parms", "shift_type", "dz_isr_data_type", "high_resolution_isr")


def work_dir_config(work_dir: str | Path) -> Path | None:
    """Config of a work dir, see :class:`mmseg.work_dir.layout.WorkDir`; None where it is left to the checkpoint.

    Raises:
        ConfigError: no such folder.
    """
    return WorkDir(work_dir).find_config()


def work_dir_checkpoint(work_dir: str | Path) -> Path:
    """``iter_40000.pth``, or the newest ``iter_*.pth`` where that is absent, of the run that the folder is of.

    Raises:
        CheckpointError: the folder holds none.
    """
    checkpoints = list_checkpoints(work_dir)
    if not checkpoints:
        raise CheckpointError(f"{work_dir} holds no checkpoint iter_<n>.pth")
    identity = read_identity(Path(work_dir))
    own = [path for path in checkpoints if identity is None or _is_of(identity, path)]
    if not own:
        raise CheckpointError(
            f"{work_dir} was started anew at {identity.started} and holds checkpoints of an earlier run only, the "
            f"newest is {checkpoints[-1].name}; test that by name with tools/test.py CONFIG CHECKPOINT"
        )
    return next((path for path in own if iteration_of(path) == PUBLISHED_ITERATION), own[-1])


def _is_of(identity: RunIdentity, path: Path) -> bool:
    """Whether a checkpoint is of a run; one that cannot be read is for the reader to refuse."""
    meta = checkpoint_meta(path)
    return meta is None or identity.owns(meta)


def test_work_dir(
    work_dir: str | Path, model: str = "student", output: str | None = None, **options: Any
) -> Evaluation:
    """Test a work dir, of ours or as published.

    Predictions go to ``<work_dir>/preds``, those of the teacher, of a named output and so on to a folder beside it.

    Args:
        work_dir: folder with config and checkpoint.
        model, output, options: see :func:`test`.
    """
    settings = ("image_isr", "train_isr_parms", "split", "cfg_options", "precision")
    named = {key: options[key] for key in settings if key in options}
    options.setdefault("out_dir", results_folder(work_dir, model, output, **named))
    return test(work_dir_config(work_dir), work_dir_checkpoint(work_dir), model=model, output=output, **options)


def test(
    config_path: str | Path | None,
    checkpoint: str | Path,
    out_dir: str | Path | None = None,
    model: str = "student",
    output: str | None = None,
    root_path: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    panels: bool = True,
    split: str | None = None,
    image_isr: bool = False,
    train_isr_parms: bool = False,
    precision: str = "fp32",
    console: Console | None = None,
) -> Evaluation:
    """Test a checkpoint on the config's test set.

    Predictions of Dark Zurich's test split are also packed for the public evaluation server, into
    ``submission/`` and ``submission.zip`` of ``out_dir``.

    Args:
        config_path: config of the training; None takes the one that the checkpoint carries.
        checkpoint: its checkpoint.
        out_dir: folder of predictions, panels, ``metrics.json``, ``details.json`` and ``report.html``; by default
            :func:`mmseg.work_dir.results.results_folder` beside the checkpoint. Results of another test that it holds
            are kept under another name.
        model: ``student`` or ``teacher``.
        output: output of the model; by default that of :func:`mmseg.evaluation.evaluator.default_output`.
        root_path: folder with ``data/``, for a config whose paths are of another machine.
        cfg_options: dotted key -> value.
        panels: write panels too.
        split, image_isr, train_isr_parms: see :func:`choose_test_set`.
        precision: of the network, see :func:`mmseg.engine.numerics.set_precision`.
        console: where people read along; stdout by default.

    Raises:
        CMDAError: bad input.
    """
    console = console or Console()
    tell = partial(say, console)
    device = choose_device()
    check_precision(precision, device)
    config, taken_from = config_of(config_path, checkpoint, cfg_options)
    check_values(config, for_training=False)
    if config_path is None:
        tell(f"config: that of {taken_from}")
    if root_path:
        for line in use_root(config, root_path, cfg_options or {}, for_training=False):
            tell(f"note: {line}")
    named_output = output
    output = choose_test_set(config, output, split, image_isr, train_isr_parms)
    segmentor, dataset = build_test(config)
    output = output or default_output(segmentor, dataset)
    check_test_set(segmentor, dataset, output, "data.test")
    tell(dataset.read_from)
    weights = load_segmentor(segmentor, checkpoint, model)
    tell(f"{checkpoint}: {len(weights.state_dict)} weights of the {model} loaded, none missing, none unexpected")
    for name, count in weights.left_out.items():
        tell(f"  left out, as a test does not need it: {name} ({count} weights)")
    out_dir = out_dir or results_folder(
        Path(checkpoint).parent, model, named_output, image_isr, train_isr_parms, split, cfg_options, precision
    )
    tested = {
        "checkpoint": str(checkpoint),
        "model": model,
        "config": taken_from,
        "options": plain(dict(cfg_options or {})),
        "mode": segmentor.test_cfg.get("mode", "whole"),
        "precision": precision,
        "test_set": plain(config.data.test.to_dict()),
    }
    # fp32 as the evaluations of an fp32 training; torch by itself lets a GPU round the factors of convolutions.
    dtype = set_precision(precision, device)
    progress = partial(track, console=console, disable=not console.is_terminal)
    for_server = isinstance(dataset, DarkZurichICDataset) and dataset.split == "test"
    kept = set_aside(out_dir, tested, output)
    if kept:
        tell(f"the results of another test in {out_dir} are kept in {kept}")
    segmentor.to(device).eval()
    try:
        result = evaluate(
            segmentor,
            dataset,
            output,
            device,
            out_dir,
            panels=panels,
            color=True,
            workers=config.data.get("workers_per_gpu", 0) if device.type == "cuda" else 0,
            progress=partial(progress, description=f"testing on {device}"),
            tested=tested,
            predictor=Predictor(segmentor, device, dtype, recorder_for(device, config.get("cuda_graphs")), tell),
        )
        print_scores(result, console)
        tell(f"predictions (also in colour) and metrics.json in {out_dir}")
        tell(report_of_test(out_dir))
        if for_server:
            predictions = {name: Path(out_dir) / name for name in dataset.file_names}
            packed = partial(progress, description="writing the submission")
            archive = write_submission(predictions, Path(out_dir) / "submission", packed)
            tell(f"submission for the Dark Zurich server, checked and packed: {archive}")
    except OSError as error:
        raise ConfigError(f"{out_dir} cannot be written ({error.strerror}); choose another folder") from error
    return result


def report_of_test(out_dir: str | Path) -> str:
    """Write ``report.html`` of a test and say so. A broken file beside the test costs the report, not the test."""
    path = Path(out_dir) / "report.html"
    try:
        write_report([out_dir], path)
    except CMDAError as error:
        return f"no report: {error}; then make it with tools/report.py {out_dir}"
    return f"report: {path}"


def choose_test_set(
    config: Config, output: str | None, split: str | None, image_isr: bool, train_isr_parms: bool
) -> str | None:
    """Apply what a test can choose to ``data.test`` of a config, in place; return the output to test.

    Args:
        output: named output; it brings the streams that it needs. On Dark Zurich the content map stands in the place
            of the events.
        split: ``val`` or ``test`` of Dark Zurich; None leaves it to the config.
        image_isr: test image and content map, fused (Dark Zurich).
        train_isr_parms: extract content maps as the training did. As in the published tests, they have default
            parameters of their own otherwise.

    Raises:
        ConfigError: an option that the config's test set does not have.
    """
    if not isinstance(get_key(config, "data.test"), Mapping):
        raise ConfigError("the config has no section 'data.test'; take one of configs/ as a base")
    is_dark_zurich = get_key(config, "data.test.type") == DarkZurichICDataset.__name__
    if (split or image_isr) and not is_dark_zurich:
        option = "--split" if split else "--image_isr"
        raise ConfigError(f"{option} is for Dark Zurich; data.test.type is {get_key(config, 'data.test.type')!r}")
    if image_isr and output not in (None, "fusion"):
        raise ConfigError(f"--image_isr tests the fused output of image and content map, not {output!r}; leave one out")
    output = "fusion" if image_isr else output
    if split:
        config.data.test.split = split
    dataset = DATASETS.get(get_key(config, "data.test.type") or "")
    if dataset is not None and output in OUTPUT_STREAMS:
        given = list(config.data.test.get("outputs", ("image",) if is_dark_zurich else ()))
        streams = [dataset.TEST_STREAMS[stream] for stream in OUTPUT_STREAMS[output]]
        config.data.test.outputs = list(dict.fromkeys([*given, *streams]))
    if train_isr_parms:
        given = {key: get_key(config, f"data.train.target.{key}") for key in ISR_KEYS}
        given = {key: value for key, value in given.items() if value is not None}
        if not given:
            raise ConfigError(f"--train_isr_parms: data.train.target of the config has none of {', '.join(ISR_KEYS)}")
        config.data.test.update(given)
    return output


def build_test(config: Config) -> tuple[Any, Any]:
    """Segmentor whose weights are still to be loaded, and test set."""
    cfg = effective(config, for_training=False)
    check_config(cfg, for_training=False)
    dataset = DATASETS.build(dict(cfg["data"]["test"]))
    # A checkpoint holds every weight: drawing initial ones would only take time.
    with torch.device("meta"):
        segmentor = SEGMENTORS.build({**cfg["model"], "pretrained": None})
    return segmentor.to_empty(device="cpu"), dataset
