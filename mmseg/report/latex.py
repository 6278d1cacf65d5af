"""The table of a paper in LaTeX: IoU of the classes and mean IoU, a line per row of a comparison."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from mmseg.report.comparison import Row, means_of, row_label

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
HEADER = r"% needs \usepackage{booktabs} and \usepackage{graphicx}; IoU in percent, the best of a column is bold"


def escaped(text: str) -> str:
    """Text as LaTeX prints it literally."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def latex(rows: Sequence[Row], names: Sequence[str] = ()) -> str:
    """The table.

    Args:
        rows: lines of the table.
        names: their names, as LaTeX; by default run, model unless it is the student, and output.
    """
    titles = list(names) or [escaped(row_label(row)) for row in rows]
    classes = list(dict.fromkeys(name for row in rows for name in row.classes))
    means = {key: title for key, title in means_of(rows).items() if any(row.final.get(key) for row in rows)}
    columns = [[row.classes.get(name, []) for row in rows] for name in classes]
    columns += [[row.final.get(key, []) for row in rows] for key in means]
    cells = [_column(values, with_deviation=n >= len(classes)) for n, values in enumerate(columns)]
    heads = [rf"\rotatebox{{90}}{{{escaped(name)}}}" for name in classes] + [escaped(title) for title in means.values()]
    lines = [
        HEADER,
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        r"\midrule",
        *(" & ".join([title, *(of[n] for of in cells)]) + r" \\" for n, title in enumerate(titles)),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _column(values: Sequence[Sequence[float]], with_deviation: bool) -> list[str]:
    """Cells of a column; the best is bold unless all are printed alike."""
    means = [f"{statistics.fmean(of):.1f}" if of else "--" for of in values]
    defined = {float(text) for text in means if text != "--"}
    best = max(defined) if len(defined) > 1 else None
    cells = []
    for text, of in zip(means, values, strict=True):
        cell = rf"\textbf{{{text}}}" if text != "--" and float(text) == best else text
        if with_deviation and len(of) > 1:
            cell += rf" {{\scriptsize $\pm$ {statistics.stdev(of):.1f}}}"
        cells.append(cell)
    return cells
