"""Section of a report with the confusion matrix of each test."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from mmseg.classes import CLASSES
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
        f'<div class="matrix" id="matrix-{n}"{" hidden" if i else ""}>{_matrix(counts, test.label)}'
        f"{_largest(counts)}</div>"
        for i, (n, test, counts) in enumerate(with_counts)
    )
    return (
        "<p>Where the pixels of each labelled class (row) went (column), in percent of the row. The diagonal is right; "
        "the rest is confused.</p>"
        f'{choice}{blocks}<p class="readout needs-js" id="confusion-readout" aria-live="polite">Point at a cell, or '
        "move through the matrix with the arrow keys.</p>"
    )


def _matrix(counts: np.ndarray, label: str) -> str:
    """Table of the (classes, classes) pixels by label and prediction."""
    totals = counts.sum(axis=1)
    header = '<td class="corner">label ↓ &nbsp; predicted →</td>'
    header += "".join(f'<th scope="col"><span>{swatch(i)}{name}</span></th>' for i, name in enumerate(CLASSES))
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
        rows.append(f'<tr{row}><th scope="row">{name}{swatch(i)}</th>{"".join(cells)}</tr>')
    return table(header, rows, f"Confusion matrix, {label}", kind="heat")


def _largest(counts: np.ndarray) -> str:
    """List of the pairs of classes that cost the most pixels."""
    totals, all_pixels = counts.sum(axis=1), counts.sum()
    confused = counts.copy()
    np.fill_diagonal(confused, 0)
    order = np.argsort(confused, axis=None)[::-1][:LARGEST_CONFUSIONS]
    pairs = [divmod(int(index), len(CLASSES)) for index in order]
    items = "".join(
        f"<li>{swatch(i)}{CLASSES[i]} → {swatch(j)}{CLASSES[j]}<small>{percent(counts[i, j] / all_pixels)} % of all "
        f"pixels, {percent(counts[i, j] / totals[i])} % of {CLASSES[i]}</small></li>"
        for i, j in pairs
        if confused[i, j]
    )
    return f'<div class="largest"><h3>Largest confusions</h3><ol>{items}</ol></div>' if items else ""
