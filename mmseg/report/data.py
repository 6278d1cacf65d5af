"""Content of a report, read from the files of tests and runs: scores, confusion, frames and training curves."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmseg.classes import CITYSCAPES_19, CLASS_SETS, ClassSet
from mmseg.config.class_sets import parse_class_set
from mmseg.config.kinds import is_number
from mmseg.errors import ConfigError
from mmseg.evaluation.metrics import FrameScores
from mmseg.io.json_files import read_json
from mmseg.work_dir.layout import PREDICTIONS, TestFolder, WorkDir, experiment_of
from mmseg.work_dir.log_file import read_log
from mmseg.work_dir.metrics_file import REMEDY, main_score, read_metrics, tested_iteration

MAX_FRAMES = 60
OUTPUT_ORDER = ("image", "events", "fusion")


@dataclass(frozen=True)
class Curve:
    """Values of one logged number, by ascending iteration."""

    iterations: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """A training.

    Attributes:
        name: display name.
        folder: its work dir.
        curves: by mode (``train``, ``val``) and key of the log.
        color: number of its colour in a report: that of its first test.
    """

    name: str
    folder: Path
    curves: Mapping[tuple[str, str], Curve]
    color: int = 0


@dataclass(frozen=True)
class Test:
    """One test of one output of one model.

    Attributes:
        folder: where ``metrics.json``, predictions and panels are.
        run: the run it belongs to; None if its folder lies outside one.
        label: distinguishes it from the other tests of a report.
        metrics: content of ``metrics.json``.
        classes: class set of its ``details.json``; of it only names and colours are known.
        absent: indices of the classes that the labels of the set never contain.
        panel: titles of the pictures of a panel from left to right; empty without panels.
        confusion: (classes, classes) int64 pixels by label and prediction; None without labels.
        frames: scores by frame name; None for a frame without label.
        color: number of its colour in a report.
    """

    __test__ = False  # pytest would collect it by its name

    folder: Path
    run: Run | None
    label: str
    metrics: Mapping[str, Any]
    classes: ClassSet = CITYSCAPES_19
    absent: tuple[int, ...] = ()
    panel: tuple[str, ...] = ()
    confusion: np.ndarray | None = None
    frames: Mapping[str, FrameScores | None] = field(default_factory=dict)
    color: int = 0

    @property
    def output(self) -> str:
        """Tested output of the model."""
        return str(self.metrics.get("output", "?"))

    @property
    def model(self) -> str:
        """``student`` or ``teacher``."""
        return str(self.metrics.get("model", "student"))

    @property
    def iteration(self) -> int | None:
        """Iterations that the tested weights were trained for, if the files say so."""
        return tested_iteration(self.metrics)

    @property
    def title(self) -> str:
        """Label for pictures, where the bare name of an output could be mistaken for an input."""
        return f"{self.label} output" if self.label == self.output else self.label

    def score(self, key: str) -> float | None:
        """A mean of ``metrics.json`` in [0, 1]; None if undefined."""
        return _number((self.metrics.get("scores") or {}).get(key))

    @property
    def valid_score(self) -> tuple[str, float | None]:
        """Key and value of the mean IoU over the valid classes; all are valid if the set lacks none."""
        key, value = main_score(self.metrics.get("scores") or {})
        return key, _number(value)

    def region_score(self, region: str) -> float | None:
        """Mean IoU over the valid classes in the pixels of a region, in [0, 1]; None if undefined."""
        return _number(main_score(self.regions.get(region) or {})[1])

    @property
    def regions(self) -> Mapping[str, Mapping[str, Any]]:
        """Regions of ``metrics.json``; none in those of earlier versions."""
        return self.metrics.get("regions") or {}

    def class_iou(self, index: int) -> float | None:
        """IoU of a class in [0, 1]; None if undefined."""
        per_class = self.metrics.get("per_class") or {}
        return _number((per_class.get(self.classes.names[index]) or {}).get("IoU"))


@dataclass(frozen=True)
class Report:
    """Content of a report.

    Attributes:
        title: name of the run or runs.
        tests: the one that was asked for first.
        runs: those with curves or tests.
        frames: names of the frames to show, the worst first.
        left_out: number of frames that are not shown.
    """

    title: str
    tests: tuple[Test, ...]
    runs: tuple[Run, ...]
    frames: tuple[str, ...]
    left_out: int

    @property
    def classes(self) -> ClassSet:
        """Class set of all tests."""
        return self.tests[0].classes if self.tests else CITYSCAPES_19


def collect(folders: Sequence[str | Path], max_frames: int = MAX_FRAMES) -> Report:
    """Read test folders and work dirs.

    A single test folder also brings in the tests of the same frames next to it; several folders are taken as they are.

    Args:
        folders: folders with ``metrics.json``, or work dirs.
        max_frames: maximum number of frames to show.

    Raises:
        ConfigError: a folder holds neither a test nor a training log, or a file cannot be read.
    """
    paths = list({Path(folder).resolve(): Path(folder) for folder in folders}.values())
    runs: dict[Path, Run] = {}
    tests: dict[Path, Test] = {}
    for path in paths:
        for test in tests_of(path, runs, with_siblings=len(paths) == 1):
            tests.setdefault(test.folder.resolve(), test)
    check_same_classes(list(tests.values()))
    labelled = label_tests(list(tests.values()), several_runs=len(runs) > 1)
    used = _colored(_short_names(list(runs.values())), labelled)
    labelled = [
        replace(test, run=used[test.run.folder] if test.run else None, color=number)
        for number, test in enumerate(labelled)
    ]
    frames, left_out = choose_frames(labelled, max_frames)
    names = [run.name for run in runs.values()] or [path.resolve().name for path in paths]
    return Report(", ".join(names), tuple(labelled), tuple(used.values()), frames, left_out)


def _colored(runs: Mapping[Path, Run], tests: Sequence[Test]) -> dict[Path, Run]:
    """Runs by folder with the colour of their first test; those without tests get the next free ones."""
    firsts = {test.run.folder: number for number, test in reversed(list(enumerate(tests))) if test.run}
    free = itertools.count(len(tests))
    return {
        folder: replace(run, color=firsts[folder] if folder in firsts else next(free)) for folder, run in runs.items()
    }


def check_same_classes(tests: Sequence[Test]) -> None:
    """Refuse tests of different class sets in one report.

    Raises:
        ConfigError: naming two folders.
    """
    other = next((test for test in tests if test.classes != tests[0].classes), None)
    if other is not None:
        raise ConfigError(
            f"{tests[0].folder} has {len(tests[0].classes)} classes and {other.folder} has {len(other.classes)}, of "
            "another class set; make a report of each"
        )


def tests_of(path: Path, runs: dict[Path, Run], with_siblings: bool) -> list[Test]:
    """Tests of a test folder or work dir, the most important first; adds its run to ``runs``.

    Raises:
        ConfigError: the folder holds neither a test nor a training log, or a file cannot be read.
    """
    if not path.is_dir():
        raise ConfigError(f"{path} is not a folder; give a work dir or a folder with metrics.json")
    if TestFolder(path).metrics.is_file():
        run = _known_run(_work_dir_of(path), runs)
        first = read_test(path, run)
        siblings = _sibling_folders(path) if with_siblings and run and run.folder == path.resolve().parent else []
        others = sorted((read_test(folder, run) for folder in siblings), key=output_rank)
        others = [test for test in others if test.frames.keys() == first.frames.keys()]
        return _without_copies([first, *others])
    work_dir = WorkDir(path)
    folders, evaluations = work_dir.existing_predictions(), work_dir.existing_evaluations()
    run = _known_run(path.resolve(), runs) if work_dir.holds_run() else None
    if not (folders or evaluations or (run and run.curves)):
        runs.pop(path.resolve(), None)
        raise ConfigError(
            f"{path} holds no test (metrics.json, preds*/metrics.json, evaluations/iter_*/metrics.json) and no log of "
            "a training; give a work dir, or test one first with my_test.py"
        )
    tests = [read_test(found.path, run) for found in folders or evaluations[-1:]]
    # Without results of the default output, the fused output represents the run.
    tests.sort(key=output_rank)
    tests.sort(key=lambda test: (test.folder.name != PREDICTIONS, test.output != "fusion", test.model != "student"))
    return _without_copies(tests)


def output_rank(test: Test) -> int:
    """Position of an output among the others: image, events, both, the rest."""
    return OUTPUT_ORDER.index(test.output) if test.output in OUTPUT_ORDER else len(OUTPUT_ORDER)


def _sibling_folders(path: Path) -> list[Path]:
    found = (test.path for test in WorkDir(path.resolve().parent).existing_predictions())
    return [folder for folder in found if folder.resolve() != path.resolve()]


def _without_copies(tests: Sequence[Test]) -> list[Test]:
    """Drop tests that repeat an earlier one, as ``preds_fusion`` does where ``preds`` holds the fused output."""
    kept: dict[str, Test] = {}
    for test in tests:
        key = json.dumps([test.model, test.output, test.iteration, test.metrics.get("scores") or str(test.folder)])
        kept.setdefault(key, test)
    return list(kept.values())


def _work_dir_of(test_folder: Path) -> Path | None:
    """Work dir that a test belongs to: the one that contains its folder, else the one of its checkpoint."""
    checkpoint = Path(str(read_metrics(TestFolder(test_folder).metrics).get("checkpoint") or ""))
    above = test_folder.resolve().parents
    candidates = [*above[:2], *([checkpoint.parent] if checkpoint.name else [])]
    return next((path.resolve() for path in candidates if WorkDir(path).holds_run()), None)


def _known_run(path: Path | None, runs: dict[Path, Run]) -> Run | None:
    if path is None:
        return None
    if path not in runs:
        runs[path] = Run(path.name, path, read_curves(path))
    return runs[path]


def read_test(folder: Path, run: Run | None = None) -> Test:
    """Read ``metrics.json`` and ``details.json`` of a folder.

    Raises:
        ConfigError: a file cannot be read, or has unexpected content.
    """
    files = TestFolder(folder)
    metrics, path = read_metrics(files.metrics), files.details
    details = read_json(path, REMEDY, error=ConfigError)
    try:
        confusion = details.get("confusion")
        counts = None if confusion is None else np.array(confusion, np.int64)
        classes = _classes_of(details)
        if counts is not None and (counts.shape != (len(classes), len(classes)) or counts.min() < 0):
            raise ValueError(f"confusion has the shape {counts.shape}, or numbers below 0")
        frames = dict(_frame(entry, len(classes)) for entry in details.get("frames", []))
        ids = tuple(classes.names.index(name) for name in details.get("absent") or ())
    except (AttributeError, ConfigError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path} does not hold what a test writes there ({error}); test the run again") from error
    return Test(folder, run, "", metrics, classes, ids, tuple(map(str, details.get("panel") or ())), counts, frames)


def _classes_of(details: Mapping[str, Any]) -> ClassSet:
    """Names and colours of ``details.json``; without colours, the 19 Cityscapes classes.

    Raises:
        ValueError: they are not those of a class set.
    """
    if "palette" not in details:
        return CITYSCAPES_19
    names, palette = details["classes"], details["palette"]
    if not isinstance(names, list) or not isinstance(palette, list) or len(names) != len(palette):
        raise ValueError("classes and palette are not two lists of one length")
    known = next((known for known in CLASS_SETS.values() if known.names == tuple(names)), None)
    if known is not None and [list(color) for color in known.palette] == palette:
        return known
    classes = [{"name": name, "color": color} for name, color in zip(names, palette, strict=True)]
    return parse_class_set({"name": "tested", "labels": "own", "classes": classes}, "its class set")


def _frame(entry: Mapping[str, Any], number: int) -> tuple[str, FrameScores | None]:
    """Name and scores of an entry of ``details.json``."""
    name = entry["name"]
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{name!r} is not the name of a frame")
    if "IoU" not in entry:
        return name, None
    iou = np.array([math.nan if value is None else value for value in entry["IoU"]], np.float64)
    pixels = np.array(entry["label_pixels"], np.int64)
    if iou.shape != (number,) or pixels.shape != iou.shape:
        raise ValueError(f"{name} has scores of another number of classes")
    if not (np.isnan(iou) | ((iou >= 0) & (iou <= 1))).all() or pixels.min() < 0:
        raise ValueError(f"{name} has scores outside of 0 to 1, or pixels below 0")
    if "hits" not in entry:
        return name, FrameScores(name, iou, pixels)
    predicted, hits = (np.array(entry[key], np.int64) for key in ("predicted_pixels", "hits"))
    if predicted.shape != iou.shape or hits.shape != iou.shape:
        raise ValueError(f"{name} has pixels of another number of classes")
    if hits.min() < 0 or (hits > pixels).any() or (hits > predicted).any():
        raise ValueError(f"{name} has more hits than pixels")
    return name, FrameScores(name, iou, pixels, predicted, hits)


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def read_curves(work_dir: Path) -> dict[tuple[str, str], Curve]:
    """Curves of a training log by (mode, key).

    If a resumed run logged an iteration twice, the later line counts.

    Raises:
        ConfigError: a line is not a JSON object. The last one is exempt: it may be incomplete.
    """
    found: dict[tuple[str, str], dict[int, float]] = {}
    for record in read_log(work_dir):
        mode, iteration = record.pop("mode"), record.pop("iter")
        for key, value in record.items():
            if _number(value) is not None:
                found.setdefault((mode, key), {})[iteration] = float(value)
    return {key: Curve(tuple(sorted(of)), tuple(of[i] for i in sorted(of))) for key, of in found.items()}


def label_tests(tests: Sequence[Test], several_runs: bool) -> list[Test]:
    """Give each test a unique label: its output, and as much more as it takes to distinguish it from the others."""
    runs = _short_names(list({test.run.folder: test.run for test in tests if test.run}.values()))

    def parts(test: Test) -> Iterable[list[str]]:
        run = [runs[test.run.folder].name if test.run else test.folder.name] if several_runs else []
        model = [] if test.model == "student" else [test.model]
        chosen = [f"{key} {test.metrics[key]}" for key in ("without", "tta") if test.metrics.get(key)]
        start = [*run, test.output, *model, *chosen]
        yield start
        yield [*start, *([] if test.iteration is None else [f"iteration {test.iteration}"])]
        yield [*start, test.folder.name]
        yield [str(test.folder)]

    labels = [" · ".join(next(iter(parts(test)))) for test in tests]
    for step in range(1, 4):
        again = [label for label in labels if labels.count(label) > 1]
        labels = [
            " · ".join(list(parts(test))[step]) if label in again else label
            for label, test in zip(labels, tests, strict=True)
        ]
    return [replace(test, label=label) for label, test in zip(labels, tests, strict=True)]


def _short_names(runs: Sequence[Run]) -> dict[Path, Run]:
    """Runs by folder, with names that omit date and number, and words that all of them share."""
    names = [experiment_of(run.name) for run in runs]
    words = [name.split("_") for name in names]
    if len(runs) > 1:
        for end in (0, -1):
            while min(map(len, words)) > 1 and len({word[end] for word in words}) == 1:
                words = [word[1:] if end == 0 else word[:-1] for word in words]
        names = ["_".join(word) for word in words]
    if len(set(names)) < len(names):
        names = [run.name for run in runs]
    return {run.folder: replace(run, name=name) for run, name in zip(runs, names, strict=True)}


def choose_frames(tests: Sequence[Test], limit: int) -> tuple[tuple[str, ...], int]:
    """Names of the frames to show, worst first by the first test that scores a frame, and how many are left out.

    Frames without scores are sampled evenly.
    """
    names = list(dict.fromkeys(name for test in tests for name in test.frames))
    scored = {name: _first_score(name, tests) for name in names}
    with_score = sorted((n for n in names if scored[n] is not None), key=lambda n: (scored[n], n))
    without = [name for name in names if scored[name] is None]
    room = max(limit - len(with_score), 0)
    if len(without) > room:
        without = [without[i * len(without) // room] for i in range(room)]
    chosen = [*with_score[:limit], *without]
    return tuple(chosen), len(names) - len(chosen)


def _first_score(name: str, tests: Sequence[Test]) -> float | None:
    for test in tests:
        frame = test.frames.get(name)
        if frame is not None and not math.isnan(frame.mean_iou):
            return frame.mean_iou
    return None
