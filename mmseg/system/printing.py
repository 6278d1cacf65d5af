"""Printing of text as it is: rich interprets no markup, emoji or control characters in names and messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mmseg.system.program import spelled
from mmseg.system.text import printable

T = TypeVar("T")


def say(console: Console, text: str, style: str = "") -> None:
    """Print a text unchanged and unwrapped, so that paths can be copied."""
    console.print(Text(printable(spelled(text)), style), highlight=False, soft_wrap=True)


def _text(cell: Any) -> Any:
    return Text(printable(spelled(cell))) if isinstance(cell, str) else cell


class TextTable(Table):
    """A table that shows title, headers and cells unchanged."""

    def __init__(self, *headers: Any, title: Any = None, **options: Any) -> None:
        super().__init__(title=Text(printable(title), "table.title") if isinstance(title, str) else title, **options)
        for header in headers:
            self.add_column(header)

    def add_column(self, header: Any = "", *args: Any, **options: Any) -> None:
        """As in rich, but text is shown unchanged."""
        super().add_column(_text(header), *args, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """As in rich, but text is shown unchanged."""
        super().add_row(*map(_text, cells), **options)


def text_column(template: str = "{task.description}") -> TextColumn:
    """Column of a progress bar that shows text unchanged."""
    return TextColumn(template, markup=False)


def track(
    items: Iterable[T],
    description: str = "",
    total: float | None = None,
    console: Console | None = None,
    transient: bool = False,
    disable: bool = False,
) -> Iterator[T]:
    """Items with a progress bar, as rich's ``track``; the description is shown unchanged."""
    columns = (text_column(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    with Progress(*columns, console=console, transient=transient, disable=disable) as progress:
        yield from progress.track(items, total=total, description=printable(description, keep=""))
