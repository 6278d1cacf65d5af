"""Scores of runs side by side. Reads only the files of work dirs and does not import torch."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmseg.config.dotted import flat, get_key, is_below
from mmseg.config.keys import CONFIG, IGNORED_KEYS, value_of
from mmseg.config.kinds import Number, shown
from mmseg.errors import ConfigError
from mmseg.evaluation.logged import logged_classes
from mmseg.io.json_files import read_json
from mmseg.system.printing import TextTable
from mmseg.system.text import csv_cell, markdown_cell
from mmseg.work_dir.layout import WorkDir, experiment_of
from mmseg.work_dir.log_file import read_log
from mmseg.work_dir.metrics_file import main_score, read_metrics, tested_iteration

# Keys, or sections of keys, in which runs of one experiment may differ: the seed, and what cannot change a score.
OWN_KEYS = (
    "seed",
    *("name", "work_dir", "git_rev", "exp", "resume_from"),
    *("checkpoint_config", "log_config", "log_level", "uda.debug_img_interval"),
    "data.workers_per_gpu",
    *("data.train.source.cache", "data.train.target.cache", "data.val.cache", "data.test.cache"),
    *IGNORED_KEYS,
)
# Mean over all classes, and over those that the labels contain, of which DSEC's have 18.
MEAN, VALID_MEAN = "mIoU", re.compile(r"mIoU_\d{1,3}")
USUAL_MEANS = (MEAN, "mIoU_18")
NO_SCORE = "-"
LOGGED_SCORE = Number(0, 100)
SEED = CONFIG.keys["seed"].kind


@dataclass(frozen=True)
class Score:
    """Scores after an iteration, in percent; all may be partial.

    Attributes:
        iteration: iterations that the weights were trained for.
        means: by their keys, see :func:`mean_keys`.
        classes: IoU by class name.
        regions: mean IoU over the valid classes by region, see :mod:`mmseg.evaluation.regions`.
        folder: where the test left its files; None if only the log has the scores.
        missing: mean IoU over the valid classes by modality that zeros replaced.
    """

    iteration: int
    means: Mapping[str, float]
    classes: Mapping[str, float] = field(default_factory=dict)
    regions: Mapping[str, float] = field(default_factory=dict)
    folder: Path | None = None
    missing: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunScores:
    """A run and its scores.

    Attributes:
        name: name of the work dir.
        seed: seed of the run.
        experiment: equal for runs that differ only in their seed, or in what cannot change a score.
        scores: (model, output) -> scores by ascending iteration.
    """

    name: str
    seed: int
    experiment: str
    scores: Mapping[tuple[str, str], tuple[Score, ...]]


@dataclass(frozen=True)
class Row:
    """One output of one model of one experiment; every list has one value per run, unless the run has none.

    ``series`` holds all scores of each run that has any, by ascending iteration.
    """

    name: str
    seeds: tuple[int, ...]
    model: str
    output: str
    iterations: tuple[int, ...]
    final: Mapping[str, list[float]]
    best: Mapping[str, list[float]]
    classes: Mapping[str, list[float]]
    regions: Mapping[str, list[float]]
    series: tuple[tuple[Score, ...], ...] = ()
    missing: Mapping[str, list[float]] = field(default_factory=dict)


def row_label(row: Row) -> str:
    """Name of a row outside of its table: run, model unless it is the student, and output."""
    return ", ".join([row.name, *([] if row.model == "student" else [row.model]), row.output])


def mean_keys(found: Iterable[str]) -> tuple[str, ...]:
    """Keys of mean scores: over all classes, and over those in the labels, whose number depends on the class set."""
    valid = sorted({key for key in found if VALID_MEAN.fullmatch(key)}, key=lambda key: int(key.removeprefix("mIoU_")))
    return (MEAN, *valid) if valid else USUAL_MEANS


def means_of(rows: Sequence[Row]) -> dict[str, str]:
    """Mean scores that any of the rows has: key -> title."""
    found = mean_keys(key for row in rows for key, values in row.final.items() if values)
    return {key: key.replace("_", " of ") for key in found}


def validation_records(work_dir: str | Path) -> list[dict[str, Any]]:
    """Scores that a training logged, in percent, by ascending iteration.

    Raises:
        ConfigError: the log cannot be read.
    """
    records = [record for record in read_log(work_dir) if record["mode"] == "val"]
    for record in records:
        for key in (*mean_keys(record), *logged_classes(record).values()):
            if record.get(key) is not None and not LOGGED_SCORE.accepts(record[key]):
                raise ConfigError(f"the log in {work_dir} has {key}={shown(record[key])}, not {LOGGED_SCORE.text}")
    return sorted(records, key=lambda record: record["iter"])


def read_run(work_dir: str | Path) -> RunScores:
    """Scores of a work dir: its log, its evaluations, and the tests below ``preds*``.

    Raises:
        ConfigError: the folder is not a work dir, or a file in it cannot be read.
    """
    files, name = WorkDir(work_dir), Path(work_dir).resolve().name
    config_path = files.config
    if not config_path.is_file():
        raise ConfigError(f"{work_dir} is not a work dir: it has no {config_path.name}")
    config = read_json(config_path, "remove it or train again", error=ConfigError)
    seed = value_of(config, "seed")
    try:
        SEED.check("seed", seed)
    except ConfigError:
        raise ConfigError(f"{config_path}: seed is {shown(seed)}; give {SEED.text}") from None
    found: dict[tuple[str, str], dict[int, Score]] = {}
    missing: dict[tuple[tuple[str, str], int], dict[str, float]] = {}
    usual = str(get_key(config, "data.test.manifest") or "")
    predicted = (test.metrics for test in files.existing_predictions())
    # if something was tested twice, the later test counts
    tests = sorted(predicted, key=lambda path: (path.stat().st_mtime_ns, path))
    for path in (*(evaluation.metrics for evaluation in files.existing_evaluations()), *tests):
        metrics = read_metrics(path)
        if not metrics["scores"]:
            continue
        iteration = tested_iteration(metrics) or 0
        output = _output_of(metrics, path.parent.name, usual)
        kind = metrics.get("model") or "student", output
        if metrics.get("without"):
            share = main_score(metrics["scores"])[1]
            if share is not None:
                missing.setdefault((kind, iteration), {})[metrics["without"]] = 100 * share
        else:
            found.setdefault(kind, {})[iteration] = _score_of(metrics, iteration, path.parent)
    for (kind, iteration), scores in missing.items():
        of = found.setdefault(kind, {})
        of[iteration] = replace(of.get(iteration, Score(iteration, {})), missing=scores)
    _add_logged(found, files)
    by_kind = {key: tuple(of[i] for i in sorted(of)) for key, of in found.items()}
    return RunScores(name, seed, _experiment(config), by_kind)


def _output_of(metrics: Mapping[str, Any], folder: str, usual: str) -> str:
    """Tested output, with what else was chosen for the test.

    Args:
        folder: name of the test's folder.
        usual: manifest that the run is tested on; '' for none.
    """
    output = metrics.get("output") or NO_SCORE
    if "train_isr_parms" in folder:
        output += " (train_isr_parms)"
    # A run may have moved since: folder and name are compared. They are named only as far as needed.
    manifest, own = (Path(str(path or "")).parts[-2:] for path in (metrics["test_set"].get("manifest"), usual))
    shared = min(len(manifest), len(own))
    if manifest and (not shared or manifest[-shared:] != own[-shared:]):
        same_name = bool(own) and manifest[-1] == own[-1]
        output += f" (on {Path(*manifest if same_name else manifest[-1:]).with_suffix('')})"
    if metrics.get("tta"):
        output += f" (tta {metrics['tta']})"
    if metrics.get("precision") not in (None, "fp32"):
        output += f" ({metrics['precision']})"
    if isinstance(metrics.get("options"), dict) and metrics["options"]:
        output += f" ({', '.join(f'{key}={value}' for key, value in metrics['options'].items())})"
    return output


def _score_of(metrics: Mapping[str, Any], iteration: int, folder: Path) -> Score:
    """Scores of one test with all inputs."""
    classes = {c: 100 * v["IoU"] for c, v in metrics["per_class"].items() if v.get("IoU") is not None}
    shares = {key: metrics["scores"].get(key) for key in mean_keys(metrics["scores"])}
    means = {key: 100 * share for key, share in shares.items() if share is not None}
    shares = {name: main_score(region)[1] for name, region in metrics["regions"].items()}
    regions = {name: 100 * share for name, share in shares.items() if share is not None}
    return Score(iteration, means, classes, regions, folder)


def _add_logged(found: dict[tuple[str, str], dict[int, Score]], work_dir: WorkDir) -> None:
    """Add scores whose folders are gone. The log does not name their output: it is that of the other evaluations."""
    outputs = [output for model, output in found if model == "student"]
    evaluated = {read_metrics(test.metrics).get("output") for test in work_dir.existing_evaluations()}
    key = ("student", next((output for output in outputs if output in evaluated), NO_SCORE))
    for record in validation_records(work_dir.path):
        means = {key: record[key] for key in mean_keys(record) if record.get(key) is not None}
        classes = {name: record[key] for name, key in logged_classes(record).items() if record.get(key) is not None}
        found.setdefault(key, {}).setdefault(record["iter"], Score(record["iter"], means, classes))


def _experiment(config: Mapping[str, Any]) -> str:
    """The config without :data:`OWN_KEYS`, as text; the order of outputs does not matter."""

    def ordered(key: str, value: Any) -> Any:
        is_set = key.rpartition(".")[2] == "outputs" and isinstance(value, list)
        return sorted(value, key=str) if is_set else value

    common = {key: ordered(key, value) for key, value in flat(config) if not is_below(key, OWN_KEYS)}
    return json.dumps(common, sort_keys=True)


def compare(runs: Sequence[RunScores], grouped: bool = True) -> list[Row]:
    """Rows of a comparison, in the order of the runs.

    Args:
        grouped: combine runs that differ only in their seed.
    """
    groups: dict[str, list[RunScores]] = {}
    for number, run in enumerate(runs):
        groups.setdefault(run.experiment if grouped else str(number), []).append(run)
    rows = []
    for members in groups.values():
        name = members[0].name if len(members) == 1 else experiment_label(members[0].name)
        for kind in dict.fromkeys(kind for run in members for kind in run.scores):
            rows.append(_row(name, [run for run in members if kind in run.scores], *kind))
        without_scores = [run for run in members if not run.scores]
        if without_scores:
            rows.append(_row(name, without_scores, "student", NO_SCORE))
    return rows


def _row(name: str, runs: Sequence[RunScores], model: str, output: str) -> Row:
    series = [run.scores[model, output] for run in runs if run.scores]
    last = [scores[-1] for scores in series]
    classes = dict.fromkeys(name for score in last for name in score.classes)
    regions = dict.fromkeys(name for score in last for name in score.regions)
    missing = dict.fromkeys(name for score in last for name in score.missing)
    keys = mean_keys(key for scores in series for score in scores for key in score.means)
    best = {key: [[s.means[key] for s in scores if key in s.means] for scores in series] for key in keys}
    return Row(
        name=name,
        seeds=tuple(run.seed for run in runs),
        model=model,
        output=output,
        iterations=tuple(score.iteration for score in last),
        final={key: [score.means[key] for score in last if key in score.means] for key in keys},
        best={key: [max(values) for values in found if values] for key, found in best.items()},
        classes={name: [score.classes[name] for score in last if name in score.classes] for name in classes},
        regions={name: [score.regions[name] for score in last if name in score.regions] for name in regions},
        series=tuple(series),
        missing={name: [score.missing[name] for score in last if name in score.missing] for name in missing},
    )


def experiment_label(name: str) -> str:
    """Name of a work dir without date, random digits and seed."""
    return re.sub(r"_s\d+$", "", experiment_of(name))


def mean_sd(values: Sequence[float]) -> str:
    """``mean ± sd`` (of the sample) in percent; only the value if there is one."""
    if not values:
        return NO_SCORE
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


@dataclass(frozen=True)
class _Table:
    """Header and lines; columns of text are aligned to the left."""

    header: list[str]
    lines: list[list[str]]
    text_columns: Collection[int] = ()


def _overview(rows: Sequence[Row]) -> _Table:
    header = ["", "run", "seeds", "model", "output", "iteration"]
    means = means_of(rows)
    header += [*means.values(), *(f"best {title}" for title in means.values())]
    missing = _missing(rows)
    header += [f"mIoU without {name}" for name in missing]
    lines = []
    for number, row in enumerate(rows, 1):
        iterations = ", ".join(dict.fromkeys(map(str, row.iterations))) or NO_SCORE
        line = [str(number), row.name, ", ".join(map(str, row.seeds)), row.model, row.output, iterations]
        line += [mean_sd(scores.get(key, [])) for scores in (row.final, row.best) for key in means]
        lines.append([*line, *(mean_sd(row.missing.get(name, [])) for name in missing)])
    return _Table(header, lines, range(1, 5))


def _missing(rows: Sequence[Row]) -> list[str]:
    """Modalities without which a row was tested."""
    return sorted({name for row in rows for name in row.missing})


def _by_class(rows: Sequence[Row]) -> _Table:
    names = dict.fromkeys(name for row in rows for name in row.classes)
    header = ["IoU", *map(str, range(1, len(rows) + 1))]
    return _Table(header, [[name, *(mean_sd(row.classes.get(name, [])) for row in rows)] for name in names])


def _by_region(rows: Sequence[Row]) -> _Table:
    names = dict.fromkeys(name for row in rows for name in row.regions)
    header = ["mIoU where", *map(str, range(1, len(rows) + 1))]
    return _Table(header, [[name, *(mean_sd(row.regions.get(name, [])) for row in rows)] for name in names])


def _tables(rows: Sequence[Row]) -> tuple[_Table, ...]:
    return _overview(rows), _by_region(rows), _by_class(rows)


def terminal_tables(rows: Sequence[Row]) -> Iterable[TextTable]:
    """An overview, and for each row of it the final mean IoU of every region and the final IoU of every class."""
    for content in _tables(rows):
        table = TextTable()
        for i, title in enumerate(content.header):
            is_text = i == 0 or i in content.text_columns
            table.add_column(title, justify="left" if is_text else "right", overflow="fold")
        for line in content.lines:
            table.add_row(*line)
        if content.lines:
            yield table


def markdown(rows: Sequence[Row]) -> str:
    """The same tables in Markdown."""
    tables = []
    for content in _tables(rows):
        header = list(map(markdown_cell, content.header))
        align = [":--" if i in content.text_columns else "--:" for i in range(len(header))]
        cells = [header, align, *(list(map(markdown_cell, line)) for line in content.lines)]
        if content.lines:
            tables.append("".join(f"| {' | '.join(line)} |\n" for line in cells))
    return "\n".join(tables)


def comma_separated(rows: Sequence[Row]) -> str:
    """All numbers as CSV, a line per row: means over its runs, their standard deviations, regions, classes."""
    regions = dict.fromkeys(name for row in rows for name in row.regions)
    classes = dict.fromkeys(name for row in rows for name in row.classes)
    keys = means_of(rows)
    columns = [title for key in keys for title in (key, f"best {key}")]
    columns += [f"mIoU without {name}" for name in _missing(rows)]
    columns += [f"mIoU {name}" for name in regions]
    columns += [f"IoU {name}" for name in classes]
    header = ["run", "seeds", "model", "output", "iteration"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = [*header, *(part for title in columns for part in (title, f"{title} sd"))]
    writer.writerow(map(csv_cell, titles))
    for row in rows:
        line: list[Any] = [row.name, " ".join(map(str, row.seeds)), row.model, row.output]
        line.append(" ".join(dict.fromkeys(map(str, row.iterations))))
        means = [scores.get(key, []) for key in keys for scores in (row.final, row.best)]
        means += [row.missing.get(name, []) for name in _missing(rows)]
        means += [row.regions.get(name, []) for name in regions]
        for values in (*means, *(row.classes.get(name, []) for name in classes)):
            line.append(f"{statistics.fmean(values):.4f}" if values else "")
            line.append(f"{statistics.stdev(values):.4f}" if len(values) > 1 else "")
        writer.writerow(map(csv_cell, line))
    return text.getvalue()
