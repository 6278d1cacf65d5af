"""Testing a checkpoint, by config or by work dir."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console

from mmseg.classes import ClassSet
from mmseg.config.augmentation import TestTimeAugmentation
from mmseg.config.class_sets import class_set_of
from mmseg.config.data_root import use_root
from mmseg.config.keys import value_of
from mmseg.config.load import check_values, plain
from mmseg.datasets.base import EvaluationSet
from mmseg.datasets.dark_zurich import DarkZurichICDataset
from mmseg.engine.checkpoint import check_classes_of, checkpoint_to_test, load_segmentor
from mmseg.engine.checkpoint_config import config_of
from mmseg.engine.environment import choose_device
from mmseg.engine.numerics import check_precision, set_precision
from mmseg.engine.prediction import Predictor, recorder_for
from mmseg.errors import CMDAError, ConfigError
from mmseg.evaluation.evaluator import Evaluation, evaluate
from mmseg.evaluation.missing import missing_streams
from mmseg.evaluation.pseudo_labels import identity, write_pseudo_labels
from mmseg.evaluation.submission import SERVER_CLOSED, VAL_IS_HARDER, check_classes, write_submission
from mmseg.evaluation.tables import fall_table, print_scores
from mmseg.evaluation.test_set import TRAIN_SPLIT, build_test, check_test_set, choose_test_set, default_output
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.report.page import write_report
from mmseg.system.printing import say, track
from mmseg.weights.store import description_of, local_file
from mmseg.weights.table import folder_of, is_remote
from mmseg.work_dir.layout import TestFolder, WorkDir
from mmseg.work_dir.metrics_file import read_metrics
from mmseg.work_dir.results import TestChoices, is_result_of, results_folder, set_aside, set_aside_pseudo_labels

Tell = Callable[[str], None]


def test_work_dir(
    work_dir: str | Path, model: str = "student", output: str | None = None, **options: Any
) -> Evaluation:
    """Test a work dir, yours or a published one.

    Predictions go to ``<work_dir>/preds``; those of the teacher, of a named output and so on to folders next to it.

    Args:
        work_dir: folder with config and checkpoint.
        model, output, options: see :func:`test`.
    """
    config_path = WorkDir(work_dir).find_config()
    return test(config_path, checkpoint_to_test(work_dir), model=model, output=output, **options)


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
    manifest: str | None = None,
    tta: str | None = None,
    without: str | None = None,
    pseudo_labels: bool = False,
) -> Evaluation:
    """Test a checkpoint on the config's test set.

    Predictions of Dark Zurich's test split are also packed in the format of its evaluation server, into
    ``submission/`` and ``submission.zip`` of ``out_dir``. The server has taken none since January 2026.

    Args:
        config_path: config of the training; None uses the one stored in the checkpoint.
        checkpoint: its checkpoint: a path, address or name, see :func:`mmseg.weights.store.local_file`.
        out_dir: folder of predictions, panels, ``metrics.json``, ``details.json`` and ``report.html``; by default
            :func:`mmseg.work_dir.results.results_folder` next to the checkpoint, or in ``work_dirs/<its name>`` if it
            was downloaded. Results of another test in it are
            renamed, not overwritten.
        model, output, split, image_isr, train_isr_parms, cfg_options, precision, manifest: see
            :class:`mmseg.work_dir.results.TestChoices`.
        root_path: folder with ``data/``, for a config whose paths are of another machine.
        panels: also write panels.
        console: where messages go; stdout by default.
        tta: test-time augmentation, e.g. ``flip,0.75,1.0,1.25``; None for none.
        without: ``events`` or ``image``: test with zeros in its place, and compare with the complete test, which is run
            first if its results are not in its folder (next to ``out_dir``, if that is given).
        pseudo_labels: write label, confidence and overlay of every image in place of scores and panels, see
            :func:`mmseg.evaluation.pseudo_labels.write_pseudo_labels`; ``split="train"`` implies it.

    Raises:
        CMDAError: bad input.
    """
    console = console or Console()
    tell = partial(say, console)
    augmentation = TestTimeAugmentation.parse(tta)
    choices = TestChoices(
        model=model,
        output=output,
        split=split,
        manifest=manifest,
        image_isr=image_isr,
        train_isr_parms=train_isr_parms,
        cfg_options=dict(cfg_options or {}),
        precision=precision,
        tta=augmentation.name if augmentation else "",
        without=without or "",
        pseudo_labels=pseudo_labels or split == TRAIN_SPLIT,
    )
    ready = _ready(config_path, checkpoint, root_path, choices, tell)
    folder = Path(out_dir or results_folder(folder_of(checkpoint), choices))
    if choices.pseudo_labels:
        return _predict(ready, folder, console)
    if without:
        aside = folder.with_name(f"{folder.name}_complete") if out_dir else None
        complete = _complete_scores(ready, aside, panels, console)
        ready = replace(ready, tested={**ready.tested, "complete": complete})
    result = _run(ready, folder, panels, console)
    if without and result.scores is not None:
        console.print(fall_table(ready.tested["complete"], result, without))
    return result


@dataclass(frozen=True)
class _Ready:
    """All that a test needs.

    Attributes:
        checkpoint: the tested checkpoint.
        choices: what the user chose.
        config: config with the choices applied.
        dataset, output: test set, and tested output of the model.
        predictor: predicts with the model.
        tested: what is tested, for ``metrics.json``.
        missing: input streams that are replaced by zeros.
    """

    checkpoint: str | Path
    choices: TestChoices
    config: Config
    dataset: EvaluationSet
    output: str
    predictor: Predictor
    tested: Mapping[str, Any]
    missing: frozenset[str] = frozenset()


def _ready(
    config_path: str | Path | None, checkpoint: str | Path, root_path: str | None, choices: TestChoices, tell: Tell
) -> _Ready:
    """Read the config, build test set and network, and load its weights."""
    device = choose_device()
    check_precision(choices.precision, device)
    config, config_source = _read_config(config_path, checkpoint, root_path, choices, tell)
    check_classes_of(checkpoint, class_set_of(config))
    output = choose_test_set(config, choices)
    segmentor, dataset = build_test(config)
    output = output or default_output(segmentor, dataset)
    check_test_set(segmentor, dataset, output, "data.test")
    missing = missing_streams(choices.without, segmentor, dataset, output)
    tell(dataset.read_from)
    if _for_server(dataset):
        check_classes(dataset.classes)
        tell(f"note: {SERVER_CLOSED}")
    _load_weights(segmentor, checkpoint, choices.model, dataset.classes, tell)
    tested = _description(config, config_source, checkpoint, segmentor, choices)
    # fp32 as the evaluations of an fp32 training; torch by itself lets a GPU round the factors of convolutions.
    dtype = set_precision(choices.precision, device)
    segmentor.to(device).eval()
    recorder = recorder_for(device, value_of(config, "cuda_graphs"))
    augmentation = TestTimeAugmentation.parse(choices.tta)
    if augmentation:
        tell(augmentation.describe())
    predictor = Predictor(segmentor, device, dtype, recorder, tell, augmentation)
    return _Ready(checkpoint, choices, config, dataset, output, predictor, tested, missing)


def _for_server(dataset: EvaluationSet) -> bool:
    """Whether predictions of a test set are packed for the server of Dark Zurich."""
    return type(dataset) is DarkZurichICDataset and dataset.split == "test"


def _run(ready: _Ready, out_dir: Path, panels: bool, console: Console) -> Evaluation:
    """Predict the test set, and write and print the results."""
    tell = partial(say, console)
    device = ready.predictor.device
    kept = set_aside(out_dir, ready.tested, ready.output)
    if kept:
        tell(f"the results of another test in {out_dir} are kept in {kept}")
    progress = partial(track, console=console, disable=not console.is_terminal)
    try:
        result = evaluate(
            ready.predictor.segmentor,
            ready.dataset,
            ready.output,
            device,
            out_dir,
            panels=panels,
            color=True,
            workers=value_of(ready.config, "data.workers_per_gpu") if device.type == "cuda" else 0,
            progress=partial(progress, description=f"testing on {device}"),
            tested=ready.tested,
            predictor=ready.predictor,
            missing=ready.missing,
        )
        print_scores(result, console)
        if isinstance(ready.dataset, DarkZurichICDataset) and ready.dataset.split == "val":
            tell(f"note: {VAL_IS_HARDER}")
        tell(f"predictions (also in colour) and metrics.json in {out_dir}")
        tell(report_of_test(out_dir))
        if isinstance(ready.dataset, DarkZurichICDataset) and _for_server(ready.dataset):
            predictions = {name: out_dir / name for name in ready.dataset.file_names}
            packing = partial(progress, description="writing the submission")
            archive = write_submission(predictions, TestFolder(out_dir).submission, packing)
            tell(f"submission for the Dark Zurich server, checked and packed: {archive}")
    except OSError as error:
        raise ConfigError(f"{out_dir} cannot be written ({error.strerror}); choose another folder") from error
    return result


def _predict(ready: _Ready, out_dir: Path, console: Console) -> Evaluation:
    """Write pseudo-labels."""
    tell = partial(say, console)
    device = ready.predictor.device
    record = {**ready.tested, "output": ready.output, **identity(ready.dataset, local_file(ready.checkpoint))}
    if ready.dataset.left_out:
        tell(f"note: {ready.dataset.left_out}")
    try:
        kept = set_aside_pseudo_labels(out_dir, record)
        if kept:
            tell(f"the earlier results in {out_dir} are kept in {kept}")
        result = write_pseudo_labels(
            ready.predictor,
            ready.dataset,
            ready.output,
            out_dir,
            workers=value_of(ready.config, "data.workers_per_gpu") if device.type == "cuda" else 0,
            progress=partial(
                track, console=console, disable=not console.is_terminal, description=f"predicting on {device}"
            ),
            missing=ready.missing,
        )
    except OSError as error:
        raise ConfigError(f"{out_dir} cannot be written ({error.strerror}); choose another folder") from error
    tell(f"{ready.output} output: {result.headline()}")
    tell(f"labels, confidence and overlays in {out_dir}")
    return Evaluation(ready.output, result.samples, None)


def _complete_scores(ready: _Ready, folder: Path | None, panels: bool, console: Console) -> Mapping[str, Any]:
    """Scores of the same test with all inputs: those in its folder if they are of this test, else it is run first."""
    choices = replace(ready.choices, without="")
    folder = folder or results_folder(folder_of(ready.checkpoint), choices)
    tested = {**ready.tested, "without": ""}
    metrics = TestFolder(folder).metrics
    # A training that went on may have written the checkpoint anew.
    written = local_file(ready.checkpoint).stat().st_mtime
    if not is_result_of(folder, tested, ready.output) or written > metrics.stat().st_mtime:
        say(console, f"the test with all inputs comes first, into {folder}")
        _run(replace(ready, choices=choices, tested=tested, missing=frozenset()), folder, panels, console)
    return read_metrics(metrics)["scores"]


def _read_config(
    config_path: str | Path | None, checkpoint: str | Path, root_path: str | None, choices: TestChoices, tell: Tell
) -> tuple[Config, str]:
    """Config with options and data root applied, and where it comes from."""
    config, source = config_of(config_path, checkpoint, choices.cfg_options)
    check_values(config, for_training=False)
    if config_path is None:
        tell(f"config: that of {source}")
    if root_path:
        for line in use_root(config, root_path, choices.cfg_options, for_training=False):
            tell(f"note: {line}")
    return config, source


def _description(
    config: Config, config_source: str, checkpoint: str | Path, segmentor: BaseSegmentor, choices: TestChoices
) -> dict[str, Any]:
    """What is tested, for ``metrics.json``."""
    origin = {"checkpoint_sha256": description_of(checkpoint)["sha256"]} if is_remote(checkpoint) else {}
    how = segmentor.test_cfg
    windows = {"windows": {"crop_size": how.crop_size, "stride": how.stride}} if how.mode == "slide" else {}
    return {
        "checkpoint": str(checkpoint),
        **origin,
        **windows,
        "model": choices.model,
        "config": config_source,
        "options": plain(dict(choices.cfg_options)),
        "mode": how.mode,
        "precision": choices.precision,
        "tta": choices.tta,
        "without": choices.without,
        "test_set": plain(config.data.test.to_dict()),
    }


def _load_weights(segmentor: BaseSegmentor, checkpoint: str | Path, model: str, classes: ClassSet, tell: Tell) -> None:
    """Load student or teacher, and say what of the checkpoint was loaded."""
    weights = load_segmentor(segmentor, checkpoint, model, classes)
    tell(f"{checkpoint}: {len(weights.state_dict)} weights of the {model} loaded, none missing, none unexpected")
    for name, count in weights.left_out.items():
        tell(f"  left out, as a test does not need it: {name} ({count} weights)")


def report_of_test(out_dir: str | Path) -> str:
    """Write ``report.html`` of a test; returns a message. A broken file next to the test costs only the report."""
    path = TestFolder(out_dir).report
    try:
        write_report([out_dir], path)
    except CMDAError as error:
        return f"no report: {error}; then make it with tools/report.py {out_dir}"
    return f"report: {path}"
