"""Scores of a test as tables for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from mmseg.evaluation.evaluator import Evaluation
from mmseg.evaluation.metrics import Scores
from mmseg.evaluation.missing import falls
from mmseg.evaluation.regions import DISTANCE, REGIONS, RegionScores
from mmseg.system.printing import TextTable, say


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def score_table(scores_: Scores, title: str) -> Table:
    """Per-class table in percent; classes that are not valid ones are marked."""
    table = TextTable(title=title)
    table.add_column("class")
    for column in ("IoU", "Acc"):
        table.add_column(column, justify="right")
    valid = scores_.valid_classes
    for i, name in enumerate(scores_.names):
        mark = "" if i in valid else f" (not among the {len(valid)})"
        table.add_row(name + mark, _percent(scores_.iou[i]), _percent(scores_.accuracy[i]))
    table.add_section()
    summary = scores_.summary()
    table.add_row(f"mean of {len(scores_.names)}", _percent(summary["mIoU"]), _percent(summary["mAcc"]))
    if len(valid) < len(scores_.names):
        table.add_row(f"mean of {len(valid)}", _percent(scores_.mean_iou_valid), "")
    table.add_row("all pixels", "", _percent(summary["aAcc"]))
    return table


def region_table(regions: Sequence[RegionScores]) -> Table:
    """Mean IoU and accuracy by region in percent."""
    table = TextTable(title="by brightness, and near class boundaries")
    table.add_column("pixels")
    means = [key for key in regions[0].scores.summary() if key.startswith("mIoU")]
    titles = [key.replace("mIoU_", "mIoU of ") for key in means]
    for column in ("share", *titles, "Acc"):
        table.add_column(column, justify="right")
    for region in regions:
        if region.name == DISTANCE[0]:
            table.add_section()
        summary = region.scores.summary()
        values = [region.share, *(summary[key] for key in means), summary["aAcc"]]
        table.add_row(f"{region.name}: {REGIONS[region.name]}", *map(_percent, values))
    return table


def fall_table(complete: Mapping[str, Any], result: Evaluation, without: str) -> Table:
    """How far the means fall without a modality, in percent; ``complete`` are those with all inputs, in [0, 1]."""
    table = TextTable(title=f"without {'the ' if without == 'image' else ''}{without}: how far scores fall")
    for i, column in enumerate(("", "all inputs", f"without {without}", "difference")):
        table.add_column(column, justify="right" if i else "left")
    for key, (before, after) in falls(complete, result.as_dict().get("scores", {})).items():
        table.add_row(key, _percent(before), _percent(after), f"{100 * (after - before):+.2f}")
    return table


def print_scores(result: Evaluation, console: Console) -> None:
    """Print the tables and the headline."""
    if result.scores is not None:
        console.print(score_table(result.scores, f"{result.output} output, {result.samples} images"))
    if result.regions:
        console.print(region_table(result.regions))
    say(console, result.headline())
