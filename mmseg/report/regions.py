"""Section of a report on scores by brightness of the pixel and near class boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mmseg.report.data import Test
from mmseg.report.markup import NO_VALUE, bar_cell, best_of, key_mark, percent, table


def regions_section(tests: Sequence[Test]) -> str:
    """Table with the mean IoU in each region; '' if no test has any."""
    tests = [test for test in tests if test.regions]
    if not tests:
        return ""
    regions: dict[str, str] = {}
    for test in tests:
        for name, region in test.regions.items():
            regions.setdefault(name, str(region.get("definition") or ""))
    header = '<th scope="col">pixels</th>'
    header += "".join(f'<th scope="col" class="number">{key_mark(t.color)}{escape(t.label)}</th>' for t in tests)
    header += '<th scope="col">labelled (%)</th>'
    rows = []
    for name, definition in regions.items():
        values = [test.region_score(name) for test in tests]
        best = best_of(values)
        cells = "".join(bar_cell(value, best, test.color) for value, test in zip(values, tests, strict=True))
        share = next((test.regions[name].get("share") for test in tests if name in test.regions), None)
        title = f'{escape(name)} <small class="note">{escape(definition)}</small>'
        rows.append(f'<tr><th scope="row">{title}</th>{cells}<td>{percent(share)}</td></tr>')
    whole = "".join(bar_cell(test.valid_score[1], None, test.color) for test in tests)
    footer = [f'<tr><th scope="row">all pixels</th>{whole}<td></td></tr>']
    key = next((test.valid_score[0] for test in tests if test.valid_score[0] != "mIoU"), "")
    of = f" over the {escape(key.removeprefix('mIoU_'))} valid classes" if key else ""
    text = (
        f"<p>Mean IoU{of} in percent where the image is dark, of middle brightness or glaring, and near boundaries of "
        "classes or away from them. A class that is neither labelled nor predicted there is in no mean, so compare "
        f"tests, not regions. {NO_VALUE}: no such pixels.</p>"
    )
    return text + table(header, rows, "Mean IoU by region", footer, "ious")
