"""Section of a report with the confusion matrix of each test."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from mmseg.classes import ClassSet
from mmseg.report.data import Test
from mmseg.report.markup import percent, swatch, table

LARGEST_CONFUSIONS = 8


def confusion_section(tests: Sequence[Test]) -> str:
    """A matrix per test that has labels, of which the script shows one at a time; '' if none has."""
    with_counts = [(n, test, test.confusion) for n, test in enumerate(tests) if test.confusion is not None]
    if not with_counts:
        return ""
    choice = ""
    if len(with_counts) > 1:
        options = "".join(f'<option value="{n}">{escape(test.label)}</option>' for n, test, _ in with_counts)
        choice = f'<p class="needs-js"><label>Test <select id="confusion-test">{options}</select></label></p>'
    blocks = "".join(
        f'<div class="matrix" id="matrix-{n}"{" hidden" if i else ""}>{_matrix(counts, test.label, test.classes)}'
        f"{_largest(counts, test.classes)}</div>"
        for i, (n, test, counts) in enumerate(with_counts)
    )
    return (
        "<p>Where the pixels of each labelled class (row) went (column), in percent of the row. The diagonal is right; "
        "the rest is confused.</p>"
        f'{choice}{blocks}<p class="readout needs-js" id="confusion-readout" aria-live="polite">Point at a cell, or '
        "move through the matrix with the arrow keys.</p>"
    )


def _matrix(counts: np.ndarray, label: str, classes: ClassSet) -> str:
    """Table of the (classes, classes) pixels by label and prediction."""
    heads = [(swatch(color), escape(name)) for color, name in zip(classes.palette, classes.names, strict=True)]
    totals = counts.sum(axis=1)
    header = '<td class="corner">label ↓ &nbsp; predicted →</td>'
    header += "".join(f'<th scope="col"><span>{mark}{name}</span></th>' for mark, name in heads)
    rows = []
    for i, (mark, name) in enumerate(heads):
        cells = []
        for j in range(len(heads)):
            share = counts[i, j] / totals[i] if totals[i] else 0.0
            kind = " ".join(filter(None, ("hit" if i == j else "", "high" if share > 0.55 else "")))
            text = f"{100 * share:.0f}" if share >= 0.005 else ""
            value = f' style="--v:{share:.3f}"' if share >= 0.0005 else ""
            cells.append(f'<td data-n="{counts[i, j]}"{f" class={kind!r}" if kind else ""}{value}>{text}</td>')
        row = "" if totals[i] else ' class="absent"'
        rows.append(f'<tr{row}><th scope="row">{name}{mark}</th>{"".join(cells)}</tr>')
    return table(header, rows, f"Confusion matrix, {label}", kind="heat")


def _largest(counts: np.ndarray, classes: ClassSet) -> str:
    """List of the pairs of classes that cost the most pixels."""
    totals, all_pixels = counts.sum(axis=1), counts.sum()
    confused = counts.copy()
    np.fill_diagonal(confused, 0)
    order = np.argsort(confused, axis=None)[::-1][:LARGEST_CONFUSIONS]
    pairs = [divmod(int(index), len(classes)) for index in order]
    heads = [f"{swatch(color)}{escape(name)}" for color, name in zip(classes.palette, classes.names, strict=True)]
    items = "".join(
        f"<li>{heads[i]} → {heads[j]}<small>{percent(counts[i, j] / all_pixels)} % of all "
        f"pixels, {percent(counts[i, j] / totals[i])} % of {escape(classes.names[i])}</small></li>"
        for i, j in pairs
        if confused[i, j]
    )
    return f'<div class="largest"><h3>Largest confusions</h3><ol>{items}</ol></div>' if items else ""
