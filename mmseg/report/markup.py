"""Pieces of HTML that several sections of a report use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

NO_VALUE = "–"
# Colours of tests and runs in page.css; further ones use them again, with rings and dashed lines.
COLORS = 8


def percent(value: float | None) -> str:
    """A share in percent with one decimal."""
    return NO_VALUE if value is None or math.isnan(value) else f"{100 * value:.1f}"


def swatch(color: tuple[int, int, int]) -> str:
    """Colour mark of a class."""
    return f'<span class="swatch" style="--s:rgb{color}"></span>'.replace(", ", ",")


def key_mark(number: int) -> str:
    """Colour mark of a test or run."""
    return f'<span class="key c{number % COLORS}{" ring" if number >= COLORS else ""}"></span>'


def table(header: str, rows: Sequence[str], name: str, footer: Sequence[str] = (), kind: str = "") -> str:
    """A table that scrolls in its own box on narrow pages; the box can be reached by keyboard."""
    foot = f"<tfoot>{''.join(footer)}</tfoot>" if footer else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table class="{kind}">'
        f"<thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody>{foot}</table></div>"
    )


def best_of(values: Iterable[float | None]) -> float | None:
    """The best of several shares, to print in bold; None if all that are defined look the same, as zeros do."""
    defined = [value for value in values if value is not None]
    return max(defined) if len({percent(value) for value in defined}) > 1 else None


def bar_cell(value: float | None, best: float | None, color: int) -> str:
    """Table cell with a share in percent and a bar, bold if it is the best."""
    if value is None:
        return f'<td class="number none">{NO_VALUE}</td>'
    text = f"<b>{percent(value)}</b>" if value == best else percent(value)
    bar = f'<span class="meter c{color % COLORS}" style="--v:{min(max(value, 0), 1):.4f}"></span>'
    return f'<td class="number">{text}{bar}</td>'
