"""Figures for papers with matplotlib: charts of scores as vectors, with text that stays text.

Charts of the HTML report are drawn by :mod:`mmseg.report.charts` instead, since its script moves a cursor in them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmseg.errors import ConfigError
from mmseg.io.files import atomic_path
from mmseg.report.comparison import Row, Score, means_of, row_label

FORMATS = (".pdf", ".svg", ".png")
# The colours of tests in the HTML report
COLORS = ("#3d63dd", "#d9540b", "#0f8a70", "#b1349a", "#b58100", "#0a7fb0", "#7a4fd0", "#6b7280")
STYLES = ("-", "--", ":", "-.")
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    # TrueType fonts, as publishers ask for; text of an SVG stays text; the same input gives the same file.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "cmda",
}
# Width of a text column pair, in inches
WIDTH = 7.0


def check_format(path: Path) -> None:
    """Refuse names whose end is not that of a format.

    Raises:
        ConfigError: it is none of :data:`FORMATS`.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path}: give a name that ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")


def save_figure(figure: Any, path: Path, dpi: int = 200) -> None:
    """Write a matplotlib figure atomically, in the format of the name's end.

    Raises:
        ConfigError: another format.
        OSError: the file cannot be written.
    """
    from matplotlib import rc_context

    check_format(path)
    kind = path.suffix.lower()[1:]
    dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    with atomic_path(path) as temporary, rc_context(STYLE):
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=dated[kind], bbox_inches="tight", pad_inches=0.03)


def labels_of(rows: Sequence[Row], names: Sequence[str] = ()) -> list[str]:
    """Names of rows in a chart: those given, else run, model unless it is the student, and output."""
    return list(names) or [row_label(row) for row in rows]


def plain(text: str) -> str:
    """Text that matplotlib prints literally: a pair of dollar signs would begin a formula."""
    return text.replace("$", r"\$")


def class_bars(rows: Sequence[Row], names: Sequence[str] = ()) -> Any:
    """Bars of the final IoU of every class and of the means; whiskers show the standard deviation over seeds.

    Raises:
        ConfigError: no row has scores.
    """
    groups: dict[str, list[list[float]]] = {}
    for name in dict.fromkeys(name for row in rows for name in row.classes):
        groups[name] = [list(row.classes.get(name, [])) for row in rows]
    for key, title in means_of(rows).items():
        if any(row.final.get(key) for row in rows):
            groups[title] = [list(row.final.get(key, [])) for row in rows]
    if not groups:
        raise ConfigError("no run has scores to draw")
    return _bars(groups, labels_of(rows, names))


def _bars(groups: Mapping[str, Sequence[Sequence[float]]], labels: Sequence[str]) -> Any:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6))
        axes = figure.subplots()
        width = 0.8 / len(labels)
        for n, label in enumerate(labels):
            places = [place - 0.4 + (n + 0.5) * width for place in range(len(groups))]
            values = [of[n] for of in groups.values()]
            means = [statistics.fmean(of) if of else 0.0 for of in values]
            spread = [statistics.stdev(of) if len(of) > 1 else 0.0 for of in values]
            whiskers: Any = {"yerr": spread, "error_kw": {"linewidth": 0.7}} if any(spread) else {}
            style: Any = {"color": COLORS[n % len(COLORS)], "hatch": "" if n < len(COLORS) else "///"}
            axes.bar(places, means, width, label=plain(label), **style, **whiskers)
        axes.set_xticks(range(len(groups)), [plain(name) for name in groups], rotation=40, ha="right")
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("IoU (%)")
        _legend(axes, min(len(labels), 4))
    return figure


def score_curves(rows: Sequence[Row], names: Sequence[str] = ()) -> Any:
    """Curves of the mean IoU over the iterations; bands show the standard deviation over seeds.

    The mean is over the classes in the labels (18 of DSEC's) where every row has it, else over all classes.

    Raises:
        ConfigError: no row has scores.
    """
    means = means_of(rows)
    key = next((key for key in reversed(means) if all(_means(row.series, key) for row in rows)), "mIoU")
    curves = {n: _means(row.series, key) for n, row in enumerate(rows) if _means(row.series, key)}
    if not curves:
        raise ConfigError("no run has scores to draw")
    labels = labels_of(rows, names)
    return curve_chart([(labels[n], curve) for n, curve in curves.items()], f"{means[key]} (%)")


def _means(series: Sequence[Sequence[Score]], key: str) -> dict[int, list[float]]:
    """A mean of every run by iteration."""
    found: dict[int, list[float]] = {}
    for scores in series:
        for score in scores:
            if key in score.means:
                found.setdefault(score.iteration, []).append(score.means[key])
    return dict(sorted(found.items()))


def curve_chart(curves: Sequence[tuple[str, Mapping[int, Sequence[float]]]], title: str) -> Any:
    """Lines with bands of a standard deviation as a matplotlib figure.

    Args:
        curves: label, and iteration, ascending -> values of the seeds; each is drawn, also where labels are equal.
        title: of the vertical axis.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 2, 2.4))
        axes = figure.subplots()
        for n, (label, curve) in enumerate(curves):
            means = [statistics.fmean(of) for of in curve.values()]
            spread = [statistics.stdev(of) if len(of) > 1 else 0.0 for of in curve.values()]
            color, style = COLORS[n % len(COLORS)], STYLES[n // len(COLORS) % len(STYLES)]
            axes.plot(list(curve), means, style, color=color, label=plain(label), marker="o", markersize=2.5)
            if any(spread):
                low, high = ([m + sign * s for m, s in zip(means, spread, strict=True)] for sign in (-1, 1))
                axes.fill_between(list(curve), low, high, color=color, alpha=0.2, linewidth=0)
        axes.set_xlabel("iteration")
        axes.set_ylabel(title)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=5, integer=True)
        _legend(axes, min(len(curves), 2))
    return figure


def _legend(axes: Any, columns: int) -> None:
    """A legend above the chart."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)
