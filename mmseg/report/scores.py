"""Sections of a report on scores: heading, summary and classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from mmseg.report.data import Report, Test
from mmseg.report.markup import NO_VALUE, bar_cell, best_of, key_mark, percent, swatch, table


def page_header(report: Report) -> str:
    """Title of the page and, for one run, its main scores."""
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
    number = len(first.classes)
    undefined = sum(first.class_iou(i) is None for i in range(number))
    of = f"{number} classes" + (f", {number - undefined} occur" if undefined else "")
    tiles = [("mean IoU", of, percent(first.score("mIoU")) + " %")]
    if key != "mIoU":
        tiles.append(("mean IoU", f"{escape(key.removeprefix('mIoU_'))} valid classes", percent(valid) + " %"))
    tiles.append(("pixel accuracy", "all labelled pixels", percent(first.score("aAcc")) + " %"))
    tiles.append(("images", "tested", escape(samples)))
    shown = "".join(f"<div><dt>{name} <small>{of}</small></dt><dd>{value}</dd></div>" for name, of, value in tiles)
    return f'{heading}<dl class="tiles">{shown}</dl>'


def summary_section(report: Report) -> str:
    """What was tested, and the scores of all tests."""
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
    options = metrics.get("options")
    options = options if isinstance(options, dict) else {}
    where = test_set.get("dataset_txt_path") or test_set.get("dataset_path") or test_set.get("manifest")
    entries = {
        "config": metrics.get("config"),
        "checkpoint": metrics.get("checkpoint"),
        "model": test.model,
        "output": test.output,
        "iterations trained": test.iteration,
        "options": ", ".join(f"{key}={value}" for key, value in options.items()),
        "mode": metrics.get("mode"),
        "test-time augmentation": metrics.get("tta"),
        "zeros in place of": metrics.get("without"),
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
    """Table with a row per test."""
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
    best = [best_of(map(of, tests)) for _, of in columns]
    rows = []
    for test in tests:
        cells = "".join(bar_cell(of(test), best[i], test.color) for i, (_, of) in enumerate(columns))
        iteration = NO_VALUE if test.iteration is None else f"{test.iteration:,}"
        rows.append(
            f'<tr><th scope="row">{key_mark(test.color)}{escape(test.label)}</th>{cells}<td>{escape(test.model)}</td>'
            f"<td>{iteration}</td><td>{escape(str(test.metrics.get('samples', NO_VALUE)))}</td></tr>"
        )
    return table(header, rows, "Scores of the tests", kind="scores")


def classes_section(tests: Sequence[Test]) -> str:
    """Table with the IoU of each class; '' without labels."""
    tests = [test for test in tests if test.metrics.get("per_class")]
    if not tests:
        return ""
    classes = tests[0].classes
    counts = next((test.confusion for test in tests if test.confusion is not None), None)
    labelled = counts.sum(axis=1) if counts is not None else None
    header = '<th scope="col">class</th>'
    header += "".join(f'<th scope="col" class="number">{key_mark(t.color)}{escape(t.label)}</th>' for t in tests)
    header += '<th scope="col">labelled (%)</th>' if labelled is not None else ""
    rows = []
    for i, (color, name) in enumerate(zip(classes.palette, classes.names, strict=True)):
        values = [test.class_iou(i) for test in tests]
        best = best_of(values)
        absent = all(i in test.absent for test in tests)
        unlabelled = labelled is not None and labelled[i] == 0
        note = "absent from this set" if absent else "not in these labels" if unlabelled else ""
        mark = f' <small class="note">{note}</small>' if note else ""
        share = ""
        if labelled is not None:
            value = 100 * labelled[i] / max(labelled.sum(), 1)
            text = NO_VALUE if not value else "&lt;0.1" if value < 0.05 else f"{value:.1f}"
            share = f"<td>{text}</td>"
        cells = "".join(bar_cell(value, best, test.color) for value, test in zip(values, tests, strict=True))
        row = ' class="absent"' if note else ""
        rows.append(f'<tr{row}><th scope="row">{swatch(color)}{escape(name)}{mark}</th>{cells}{share}</tr>')
    return (
        "<p>Intersection over union of each class in percent"
        f"{'; the best of a row is bold' if len(tests) > 1 else ''}. {NO_VALUE}: neither labelled nor predicted.</p>"
        + table(header, rows, "IoU of the classes", _class_means(tests, labelled is not None), "ious")
    )


def _class_means(tests: Sequence[Test], with_share: bool) -> list[str]:
    number = len(tests[0].classes)
    lines: list[tuple[str, Callable[[Test], float | None]]] = [(f"mean of {number}", lambda test: test.score("mIoU"))]
    if any(test.absent for test in tests):
        valid = number - max(len(test.absent) for test in tests)
        lines.append((f"mean of {valid} valid", lambda test: test.valid_score[1]))
    lines.append(("pixel accuracy", lambda test: test.score("aAcc")))
    empty = "<td></td>" if with_share else ""
    rows = []
    for title, of in lines:
        cells = "".join(bar_cell(of(test), None, test.color) for test in tests)
        rows.append(f'<tr><th scope="row">{title}</th>{cells}{empty}</tr>')
    return rows
