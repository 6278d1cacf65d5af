"""Line charts as inline SVG, and the section of a report with the charts of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mmseg.report.data import Curve, Report, Run
from mmseg.report.markup import COLORS, key_mark

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 26
MAX_POINTS = 250

# (mode, key) in the log -> (title, factor), in the order of a report. A factor of 100 turns shares into percent.
TITLES: dict[tuple[str, str], tuple[str, float]] = {
    ("val", "mIoU"): ("mean IoU (%)", 1.0),
    ("val", "mIoU_18"): ("mean IoU of the 18 valid classes (%)", 1.0),
    ("val", "aAcc"): ("pixel accuracy (%)", 1.0),
    ("train", "decode.loss_seg"): ("loss on the labelled day", 1.0),
    ("train", "mix.decode.loss_seg"): ("loss on mixed images", 1.0),
    ("train", "masked.decode.loss_seg"): ("loss on masked inputs", 1.0),
    ("train", "src.loss_imnet_feat_dist"): ("feature distance to ImageNet", 1.0),
    ("train", "decode.loss_feat_consis"): ("feature consistency", 1.0),
    ("train", "mix.pseudo_weight"): ("confident pseudo-labels (%)", 100.0),
    ("train", "lr"): ("learning rate", 1.0),
}


@dataclass(frozen=True)
class Chart:
    """One metric over the iterations, a line per run that logged it: number of the run -> points."""

    title: str
    lines: dict[int, Curve]
    dots: bool


def charts_of(runs: Sequence[Run]) -> list[Chart]:
    """Charts of scores, losses and other metrics of a training, known ones first."""
    keys = dict.fromkeys(key for run in runs for key in run.curves)
    valid = [key for key in keys if key[0] == "val" and key[1].startswith("mIoU_") and key not in TITLES]
    losses = [key for key in keys if key[0] == "train" and "loss" in key[1] and key not in TITLES]
    charts = []
    for key in [*(key for key in TITLES if key in keys), *valid, *losses]:
        title, factor = TITLES.get(key, (key[1], 1.0))
        lines = {n: _thinned(run.curves[key], factor) for n, run in enumerate(runs) if key in run.curves}
        charts.append(Chart(title, lines, dots=key[0] == "val"))
    return charts


def _thinned(curve: Curve, factor: float) -> Curve:
    """At most ``MAX_POINTS`` points; neighbours are averaged if there are more."""
    size = math.ceil(len(curve.values) / MAX_POINTS)
    starts = range(0, len(curve.values), size)
    values = [curve.values[i : i + size] for i in starts]
    ends = [min(i + size, len(curve.values)) - 1 for i in starts]
    means = tuple(float(f"{factor * sum(group) / len(group):.5g}") for group in values)
    return Curve(tuple(curve.iterations[end] for end in ends), means)


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high`` in about ``wanted`` steps."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if span / (power * m) <= wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, max(last, first + 1) + 1)]


def svg(chart: Chart, number: int, runs: Sequence[Run]) -> str:
    """The chart as an SVG element; a line has the class of its run's colour, ``c<color mod 8>``."""
    xs = [x for line in chart.lines.values() for x in line.iterations]
    ys = [y for line in chart.lines.values() for y in line.values]
    y_ticks = ticks(min(ys), max(ys))
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1)

    def px(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in y_ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{py(tick) + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    for x, anchor in ((x_low, "start"), (x_high, "end")):
        parts.append(f'<text x="{px(x):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{x:,}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">iteration</text>')
    for index, line in chart.lines.items():
        color = runs[index].color
        points = [f"{px(x):.1f},{py(y):.1f}" for x, y in zip(line.iterations, line.values, strict=True)]
        dashed = " dashed" if color >= COLORS else ""
        if len(points) > 1:
            parts.append(f'<polyline class="line c{color % COLORS}{dashed}" points="{" ".join(points)}"/>')
        if chart.dots or len(points) == 1:
            circles = (f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in (point.split(",") for point in points))
            parts.append(f'<g class="dots c{color % COLORS}">{"".join(circles)}</g>')
    summary = "; ".join(
        f"{runs[index].name}: from {line.values[0]:g} to {line.values[-1]:g}" for index, line in chart.lines.items()
    )
    label = escape(f"{chart.title} over {x_low:,} to {x_high:,} iterations. {summary}")
    # Left edge and width of the plot, for the cursor of the script.
    frame = f'data-chart="{number}" data-left="{LEFT}" data-width="{WIDTH - LEFT - RIGHT}"'
    cursor = f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="-9" x2="-9"/>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" {frame}>{"".join(parts)}{cursor}</svg>'


def _short(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:g}"


def training_section(report: Report) -> str:
    """Charts of the trainings; '' if nothing was logged."""
    charts = charts_of(report.runs)
    if not charts:
        return ""
    legend = ""
    if len(report.runs) > 1:
        entries = "".join(f"<li>{key_mark(run.color)}{escape(run.name)}</li>" for run in report.runs)
        legend = f'<ul class="legend">{entries}</ul>'
    figures = []
    for number, chart in enumerate(charts):
        steps = max(len(line.iterations) for line in chart.lines.values()) - 1
        scrub = (
            f'<input class="scrub needs-js" type="range" min="0" max="{steps}" value="{steps}" data-scrub="{number}" '
            f'aria-label="Iteration shown of {escape(chart.title)}">'
            if steps
            else ""
        )
        figures.append(
            f'<figure class="chart"><figcaption>{escape(chart.title)}</figcaption>'
            f'{svg(chart, number, report.runs)}{scrub}<output class="needs-js" data-value="{number}"></output></figure>'
        )
    return f'{legend}<div class="charts">{"".join(figures)}</div>'
