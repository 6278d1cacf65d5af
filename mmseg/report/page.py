"""A report as one HTML file. Everything that comes from files is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from mmseg import __version__
from mmseg.classes import CLASSES, PALETTE
from mmseg.io.files import write_text
from mmseg.report.charts import charts_of, svg
from mmseg.report.data import MAX_FRAMES, Report, Test, collect
from mmseg.report.gallery import INPUTS, LABEL, Picture, frame_pictures

LARGEST_CONFUSIONS = 8
NO_VALUE = "–"


def write_report(folders: Sequence[str | Path], path: str | Path, max_frames: int = MAX_FRAMES) -> Report:
    """Write the report of test folders or work dirs.

    Args:
        folders: see :func:`mmseg.report.data.collect`.
        path: file to write.
        max_frames: maximum number of frames to show.

    Raises:
        CMDAError: nothing to report, or a file cannot be read.
        OSError: the report cannot be written.
    """
    report = collect(folders, max_frames)
    write_text(path, render(report))
    return report


def render(report: Report) -> str:
    """The whole page."""
    # Each frame's pictures once: the page is made of them and of numbers alone.
    pictures = {name: frame_pictures(report, name) for name in report.frames}
    sections = [
        ("summary", "Summary", _summary(report)),
        ("classes", "Classes", _classes(report.tests)),
        ("confusion", "Confusion", _confusion(report.tests)),
        ("curves", "Training", _curves(report)),
        ("gallery", "Frames", _gallery(report, pictures)),
    ]
    present = [(key, title, content) for key, title, content in sections if content]
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in present)
    main = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>{content}</section>'
        for key, title, content in present
    )
    body = (
        f'<header class="top"><div class="wide">{_header(report)}</div></header>'
        f'<nav class="bar" aria-label="Sections"><ul class="wide">{links}</ul></nav>'
        f'<main id="content" class="wide" tabindex="-1">{main}</main>'
        f'<footer class="wide">Made with CMDA {__version__}. This file needs nothing else and loads nothing.</footer>'
    )
    package = files(__package__)
    script = package.joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(package.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{report.title} · CMDA report"),
        version=__version__,
        style=package.joinpath("page.css").read_text(encoding="utf-8"),
        body=body,
        data=_script_safe(_data(report)),
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _script_safe(data: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(report: Report) -> dict[str, Any]:
    """Numbers for the script."""

    def rounded(value: float) -> float | None:
        return None if math.isnan(value) else round(100 * float(value), 2)

    frames = []
    for name in report.frames:
        scores = [test.frames.get(name) for test in report.tests]
        pixels = next((s.label_pixels for s in scores if s is not None), np.zeros(0))
        frames.append(
            {
                "name": name,
                "classes": np.flatnonzero(pixels).tolist(),
                "mean": [None if s is None else rounded(s.mean_iou) for s in scores],
                "iou": [None if s is None else [rounded(value) for value in s.iou] for s in scores],
            }
        )
    charts = [
        {str(run): [line.iterations, line.values] for run, line in chart.lines.items()}
        for chart in charts_of(report.runs)
    ]
    return {
        "classes": CLASSES,
        "colors": PALETTE,
        "tests": [test.label for test in report.tests],
        "runs": [run.name for run in report.runs],
        "frames": frames,
        "charts": charts,
    }


def _percent(value: float | None) -> str:
    return NO_VALUE if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _swatch(train_id: int) -> str:
    return f'<span class="swatch" style="--s:rgb{PALETTE[train_id]}"></span>'.replace(", ", ",")


def _key(number: int) -> str:
    """Colour mark of a test or run."""
    return f'<span class="key c{number % 8}"></span>'


def _table(header: str, rows: Sequence[str], name: str, footer: Sequence[str] = (), kind: str = "") -> str:
    """A table that scrolls in a box of its own where the page is narrow; the box can be reached by keyboard."""
    foot = f"<tfoot>{''.join(footer)}</tfoot>" if footer else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table class="{kind}">'
        f"<thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody>{foot}</table></div>"
    )


def _header(report: Report) -> str:
    tests, runs = report.tests, report.runs
    if len(runs) > 1 or not tests:
        title, names = escape(report.title), ""
        if len(runs) > 1:
            title = f"{len(runs)} runs side by side"
            entries = "".join(f"<li>{escape(run.name)}</li>" for run in runs)
            names = f'<ul class="names">{entries}</ul>'
        return f'<p class="over">CMDA report</p><h1>{title}</h1>{names}'
    first = tests[0]
    what = f"{escape(first.output)} output of the {escape(first.model)}"
    heading = f'<p class="over">CMDA test report · {what}</p><h1>{escape(report.title)}</h1>'
    samples = f"{first.metrics.get('samples', len(first.frames))}"
    if not first.metrics.get("scores"):
        return f"{heading}<p>{escape(samples)} images predicted. There are no labels, so there is no score.</p>"
    key, valid = first.valid_score
    undefined = sum(first.class_iou(i) is None for i in range(len(CLASSES)))
    of = f"{len(CLASSES)} classes" + (f", {len(CLASSES) - undefined} occur" if undefined else "")
    tiles = [("mean IoU", of, _percent(first.score("mIoU")) + " %")]
    if key != "mIoU":
        tiles.append(("mean IoU", f"{escape(key.removeprefix('mIoU_'))} valid classes", _percent(valid) + " %"))
    tiles.append(("pixel accuracy", "all labelled pixels", _percent(first.score("aAcc")) + " %"))
    tiles.append(("images", "tested", escape(samples)))
    shown = "".join(f"<div><dt>{name} <small>{of}</small></dt><dd>{value}</dd></div>" for name, of, value in tiles)
    return f'{heading}<dl class="tiles">{shown}</dl>'


def _summary(report: Report) -> str:
    parts = []
    if report.tests and len(report.runs) < 2:
        parts.append(_tested(report.tests[0]))
    if len(report.tests) > 1:
        parts.append(_scores(report.tests))
    if not report.tests:
        parts.append("<p>No test of this run was found; its training follows.</p>")
    return "".join(parts)


def _tested(test: Test) -> str:
    metrics, test_set = test.metrics, test.metrics.get("test_set")
    test_set = test_set if isinstance(test_set, dict) else {}
    options = metrics.get("options") if isinstance(metrics.get("options"), dict) else {}
    where = test_set.get("dataset_txt_path") or test_set.get("dataset_path")
    entries = {
        "config": metrics.get("config"),
        "checkpoint": metrics.get("checkpoint"),
        "model": test.model,
        "output": test.output,
        "iterations trained": test.iteration,
        "options": ", ".join(f"{key}={value}" for key, value in options.items()),
        "mode": metrics.get("mode"),
        "test set": " ".join(str(v) for v in (test_set.get("type"), test_set.get("split"), where) if v),
        "images": metrics.get("samples"),
        "folder": test.folder,
    }
    rows = "".join(
        f"<div{' class=long' if len(str(value)) > 40 else ''}><dt>{key}</dt><dd>{escape(str(value))}</dd></div>"
        for key, value in entries.items()
        if value
    )
    return f'<dl class="tested">{rows}</dl>'


def _scores(tests: Sequence[Test]) -> str:
    """A row for each test."""
    valid = next((key for key, _ in (test.valid_score for test in tests) if key != "mIoU"), None)
    columns: list[tuple[str, Callable[[Test], float | None]]] = [("mIoU", lambda test: test.score("mIoU"))]
    if valid:
        title = f"mIoU of {escape(valid.removeprefix('mIoU_'))} valid"
        columns.append((title, lambda test: test.valid_score[1]))
    columns += [
        ("pixel accuracy", lambda test: test.score("aAcc")),
        ("mean accuracy", lambda test: test.score("mAcc")),
    ]
    header = '<th scope="col">test</th>'
    header += "".join(f'<th scope="col" class="number">{title} (%)</th>' for title, _ in columns)
    header += "".join(f'<th scope="col">{title}</th>' for title in ("model", "iterations", "images"))
    best = [max((v for v in map(of, tests) if v is not None), default=None) for _, of in columns]
    rows = []
    for test in tests:
        cells = "".join(_bar_cell(of(test), best[i], test.color) for i, (_, of) in enumerate(columns))
        iteration = NO_VALUE if test.iteration is None else f"{test.iteration:,}"
        rows.append(
            f'<tr><th scope="row">{_key(test.color)}{escape(test.label)}</th>{cells}<td>{escape(test.model)}</td>'
            f"<td>{iteration}</td><td>{escape(str(test.metrics.get('samples', NO_VALUE)))}</td></tr>"
        )
    return _table(header, rows, "Scores of the tests", kind="scores")


def _bar_cell(value: float | None, best: float | None, color: int) -> str:
    """Table cell with a share in percent and a bar; the best of several is bold."""
    if value is None:
        return f'<td class="number none">{NO_VALUE}</td>'
    text = f"<b>{_percent(value)}</b>" if value == best else _percent(value)
    bar = f'<span class="meter c{color % 8}" style="--v:{min(max(value, 0), 1):.4f}"></span>'
    return f'<td class="number">{text}{bar}</td>'


def _classes(tests: Sequence[Test]) -> str:
    tests = [test for test in tests if test.metrics.get("per_class")]
    if not tests:
        return ""
    counts = next((test.confusion for test in tests if test.confusion is not None), None)
    labelled = counts.sum(axis=1) if counts is not None else None
    header = '<th scope="col">class</th>'
    header += "".join(f'<th scope="col" class="number">{_key(t.color)}{escape(t.label)}</th>' for t in tests)
    header += '<th scope="col">labelled (%)</th>' if labelled is not None else ""
    rows = []
    for i, name in enumerate(CLASSES):
        values = [test.class_iou(i) for test in tests]
        best = max((v for v in values if v is not None), default=None) if len(tests) > 1 else None
        absent = all(i in test.absent for test in tests)
        unlabelled = labelled is not None and labelled[i] == 0
        note = "absent from this set" if absent else "not in these labels" if unlabelled else ""
        mark = f' <small class="note">{note}</small>' if note else ""
        share = ""
        if labelled is not None:
            value = 100 * labelled[i] / max(labelled.sum(), 1)
            text = NO_VALUE if not value else "&lt;0.1" if value < 0.05 else f"{value:.1f}"
            share = f"<td>{text}</td>"
        cells = "".join(_bar_cell(value, best, test.color) for value, test in zip(values, tests, strict=True))
        row = ' class="absent"' if note else ""
        rows.append(f'<tr{row}><th scope="row">{_swatch(i)}{name}{mark}</th>{cells}{share}</tr>')
    return (
        "<p>Intersection over union of each class in percent"
        f"{'; the best of a row is bold' if len(tests) > 1 else ''}. {NO_VALUE}: neither labelled nor predicted.</p>"
        + _table(header, rows, "IoU of the classes", _class_means(tests, labelled is not None), "ious")
    )


def _class_means(tests: Sequence[Test], with_share: bool) -> list[str]:
    lines: list[tuple[str, Callable[[Test], float | None]]] = [
        (f"mean of {len(CLASSES)}", lambda test: test.score("mIoU"))
    ]
    if any(test.absent for test in tests):
        valid = len(CLASSES) - max(len(test.absent) for test in tests)
        lines.append((f"mean of {valid} valid", lambda test: test.valid_score[1]))
    lines.append(("pixel accuracy", lambda test: test.score("aAcc")))
    empty = "<td></td>" if with_share else ""
    rows = []
    for title, of in lines:
        cells = "".join(_bar_cell(of(test), None, test.color) for test in tests)
        rows.append(f'<tr><th scope="row">{title}</th>{cells}{empty}</tr>')
    return rows


def _confusion(tests: Sequence[Test]) -> str:
    with_counts = [(number, test) for number, test in enumerate(tests) if test.confusion is not None]
    if not with_counts:
        return ""
    choice = ""
    if len(with_counts) > 1:
        options = "".join(f'<option value="{n}">{escape(test.label)}</option>' for n, test in with_counts)
        choice = f'<p class="needs-js"><label>Test <select id="confusion-test">{options}</select></label></p>'
    blocks = "".join(
        f'<div class="matrix" id="matrix-{n}"{" hidden" if i else ""}>{_matrix(test)}{_largest(test)}</div>'
        for i, (n, test) in enumerate(with_counts)
    )
    return (
        "<p>Where the pixels of each labelled class (row) went (column), in percent of the row. The diagonal is right; "
        "the rest is confused.</p>"
        f'{choice}{blocks}<p class="readout needs-js" id="confusion-readout" aria-live="polite">Point at a cell, or '
        "move through the matrix with the arrow keys.</p>"
    )


def _matrix(test: Test) -> str:
    counts = test.confusion
    totals = counts.sum(axis=1)
    header = '<td class="corner">label ↓ &nbsp; predicted →</td>'
    header += "".join(f'<th scope="col"><span>{_swatch(i)}{name}</span></th>' for i, name in enumerate(CLASSES))
    rows = []
    for i, name in enumerate(CLASSES):
        cells = []
        for j in range(len(CLASSES)):
            share = counts[i, j] / totals[i] if totals[i] else 0.0
            kind = " ".join(filter(None, ("hit" if i == j else "", "high" if share > 0.55 else "")))
            text = f"{100 * share:.0f}" if share >= 0.005 else ""
            value = f' style="--v:{share:.3f}"' if share >= 0.0005 else ""
            cells.append(f'<td data-n="{counts[i, j]}"{f" class={kind!r}" if kind else ""}{value}>{text}</td>')
        row = "" if totals[i] else ' class="absent"'
        rows.append(f'<tr{row}><th scope="row">{name}{_swatch(i)}</th>{"".join(cells)}</tr>')
    return _table(header, rows, f"Confusion matrix, {test.label}", kind="heat")


def _largest(test: Test) -> str:
    """The pairs of classes that cost most pixels."""
    counts = test.confusion.copy()
    totals, all_pixels = counts.sum(axis=1), counts.sum()
    np.fill_diagonal(counts, 0)
    order = np.argsort(counts, axis=None)[::-1][:LARGEST_CONFUSIONS]
    pairs = [np.unravel_index(index, counts.shape) for index in order]
    items = "".join(
        f"<li>{_swatch(i)}{CLASSES[i]} → {_swatch(j)}{CLASSES[j]}<small>{_percent(counts[i, j] / all_pixels)} % of all "
        f"pixels, {_percent(counts[i, j] / totals[i])} % of {CLASSES[i]}</small></li>"
        for i, j in pairs
        if counts[i, j]
    )
    return f'<div class="largest"><h3>Largest confusions</h3><ol>{items}</ol></div>' if items else ""


def _curves(report: Report) -> str:
    names = [run.name for run in report.runs]
    charts = charts_of(report.runs)
    if not charts:
        return ""
    legend = ""
    if len(names) > 1:
        entries = "".join(f"<li>{_key(n)}{escape(name)}</li>" for n, name in enumerate(names))
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
            f'<figure class="chart"><figcaption>{escape(chart.title)}</figcaption>{svg(chart, number, names)}{scrub}'
            f'<output class="needs-js" data-value="{number}"></output></figure>'
        )
    return f'{legend}<div class="charts">{"".join(figures)}</div>'


def _gallery(report: Report, pictures: dict[str, list[Picture]]) -> str:
    frames = "".join(_frame(report.tests, n, name, pictures[name]) for n, name in enumerate(report.frames))
    if not frames:
        return ""
    scored = any(frame is not None for test in report.tests for frame in test.frames.values())
    order = f"worst first by the mean IoU of {escape(report.tests[0].label)}" if scored else "in order of their names"
    count = len(report.frames)
    # With the script, the line below the controls tells the order.
    intro = f"{count} frame{'s' if count > 1 else ''}<span class=without-js>, {order}</span>."
    if scored:
        intro += " The mean IoU of a frame is over the classes that its label holds."
    if report.left_out:
        kind = "the worst of" if scored else "an even selection of"
        intro += f" <strong>{report.left_out} more are left out</strong>: these are {kind} {count + report.left_out}."
    if not any(picture.key == "image" for shown in pictures.values() for picture in shown):
        intro += " The tests were made without panels, so there are no inputs and labels to show."
    legend = "".join(f"<li>{_swatch(i)}{name}</li>" for i, name in enumerate(CLASSES))
    return (
        f"<p>{intro}</p>{_toolbar(report, pictures, scored)}"
        f'<ul class="legend" aria-label="Colours of the classes">{legend}'
        '<li><span class="swatch" style="--s:#000"></span>ignored</li></ul>'
        f'<ol class="frames" id="frames">{frames}</ol>'
    )


def _toolbar(report: Report, pictures: dict[str, list[Picture]], scored: bool) -> str:
    controls = [*(_order_controls(report) if scored else []), *_overlay_controls(report.tests, pictures)]
    if not controls:
        return ""
    status = '<p class="status" id="status" role="status"></p>'
    return f'<div class="tools needs-js" role="group" aria-label="Show frames">{"".join(controls)}{status}</div>'


def _select(key: str, title: str, options: Sequence[tuple[str, str]]) -> str:
    inner = "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in options)
    return f'<label>{title} <select id="{key}">{inner}</select></label>'


def _order_controls(report: Report) -> list[str]:
    """Which frames to show, and in which order."""
    held = np.zeros(len(CLASSES), np.int64)
    for name in report.frames:
        frame = next((f for f in (test.frames.get(name) for test in report.tests) if f is not None), None)
        held += 0 if frame is None else frame.label_pixels > 0
    classes = [(str(i), f"{CLASSES[i]} ({held[i]})") for i in np.flatnonzero(held)]
    controls = [_select("class-filter", "Class", [("", "all classes"), *classes])]
    if len(report.tests) > 1:
        controls.append(_select("score-of", "Score of", [(str(n), t.label) for n, t in enumerate(report.tests)]))
    orders = [("worst", "worst first"), ("best", "best first"), ("name", "by name")]
    return [*controls, _select("order", "Order", orders)]


def _overlay_controls(tests: Sequence[Test], pictures: dict[str, list[Picture]]) -> list[str]:
    """Which picture lies over which; none where there is nothing to lay a prediction over."""
    titles = {picture.key: picture.title for shown in pictures.values() for picture in shown}
    below = [(key, titles[key]) for key in (*INPUTS, LABEL) if key in titles]
    above = [(f"test{n}", test.title) for n, test in enumerate(tests) if f"test{n}" in titles]
    if LABEL in titles:
        above += [(f"errors-{key}", f"errors of {title}") for key, title in above]
    above += [(key, title) for key, title in below if key != "image"]
    if not (below and above):
        return []
    return [
        _select("base", "Below", below),
        _select("over", "Above", above),
        _select("mode", "By", [("wipe", "wiping"), ("blend", "blending")]),
        '<label class="all">All frames <input id="all" type="range" min="0" max="100" value="50" '
        'aria-label="How much of the upper picture is shown, in all frames"></label>',
    ]


def _frame(tests: Sequence[Test], number: int, name: str, pictures: Sequence[Picture]) -> str:
    title = escape(name)
    scores = [(n, test, test.frames.get(name)) for n, test in enumerate(tests)]
    chips = "".join(
        f'<li data-test="{n}">{_key(test.color)}{escape(test.label)} <b>{_percent(frame.mean_iou)}</b></li>'
        for n, test, frame in scores
        if frame is not None
    )
    strip = "".join(
        f'<li><label><input type="radio" name="over-{number}" value="{p.key}" class="needs-js">'
        f'<img src="{p.uri}" alt="{title}: {escape(p.title)}" data-key="{p.key}"'
        f"{' class=map' if p.classes else ''} decoding=async><span>{escape(p.title)}</span></label></li>"
        for p in pictures
    )
    missing = [test.label for n, test in enumerate(tests) if not any(p.key == f"test{n}" for p in pictures)]
    gone = f'<p class="note">No prediction here: {escape(", ".join(missing))}</p>' if missing else ""
    stage = (
        '<div class="stage needs-js" aria-hidden="true"><img class="base" alt=""><img class="over" alt="">'
        '<span class="seam"></span></div>'
        f'<input class="slide needs-js" type="range" min="0" max="100" value="50" '
        f'aria-label="How much of the upper picture is shown, {title}"><p class="under needs-js">&nbsp;</p>'
        if len(pictures) > 1
        else ""
    )
    return (
        f'<li class="frame" data-frame="{number}"><h3>{title}</h3><ul class="chips">{chips}</ul>{stage}'
        f'<ul class="strip" role="group" aria-label="Pictures of {title}">{strip}</ul>{gone}</li>'
    )
