"""A figure of frames and runs for papers: inputs, the prediction of each run, and the label, a line per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmseg.classes import ClassSet
from mmseg.errors import ConfigError, did_you_mean
from mmseg.report.data import Run, Test, check_same_classes, choose_frames, label_tests, tests_of
from mmseg.report.gallery import INPUTS, LABEL, frame_arrays
from mmseg.report.plots import STYLE, WIDTH, plain

# Inches
GAP = 0.03
TITLE_HEIGHT = 0.18
LEGEND_HEIGHT = 0.2
LEGEND_COLUMNS = 10


@dataclass(frozen=True)
class Grid:
    """Pictures of a figure.

    Attributes:
        rows: names of the lines.
        columns: names of the columns.
        maps: numbers of the columns with predictions and labels.
        pictures: a line per row; each picture (H, W, 3) uint8, or None where there is none.
        classes: colours of predictions and labels.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    maps: tuple[int, ...]
    pictures: tuple[tuple[np.ndarray | None, ...], ...]
    classes: ClassSet


def read_tests(folders: Sequence[str | Path]) -> list[Test]:
    """The main test of each work dir, and each test folder as it is; a folder may occur twice.

    Raises:
        ConfigError: a folder holds no test, a file cannot be read, or the tests differ in their classes.
    """
    runs: dict[Path, Run] = {}
    tests = []
    for folder in map(Path, folders):
        found = tests_of(folder, runs, with_siblings=False)
        if not found:
            raise ConfigError(f"{folder} holds no test; test the run first with my_test.py")
        tests.append(found[0])
    check_same_classes(tests)
    return label_tests(tests, several_runs=len(runs) > 1)


def make_grid(
    tests: Sequence[Test],
    frames: Sequence[str] = (),
    limit: int = 4,
    inputs: Sequence[str] = tuple(INPUTS.values()),
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
) -> Grid:
    """Collect the pictures of a figure.

    Args:
        tests: one per column of predictions.
        frames: names of the frames; by default the worst of the first test.
        limit: number of frames without ``frames``.
        inputs: titles of the inputs to show; those that the panels of the tests lack are left out.
        row_names: names of the lines; by default those of the frames.
        column_names: names of all columns shown, or of the tests only.

    Raises:
        ConfigError: no such frame, or another number of names.
    """
    known = list(dict.fromkeys(name for test in tests for name in test.frames))
    for name in frames:
        if name not in known:
            raise ConfigError(f"no test has a frame {name}{did_you_mean(name, known)}")
    chosen = tuple(frames) or choose_frames(tests, limit)[0]
    found = [frame_arrays(tests, name) for name in chosen]
    present = [key for key in inputs if any(key in pictures for pictures in found)]
    keys = [*present, *(f"test{n}" for n in range(len(tests)))]
    keys += [LABEL] if any(LABEL in pictures for pictures in found) else []
    if row_names and len(row_names) != len(chosen):
        raise ConfigError(f"{len(row_names)} row names for {len(chosen)} frames; give one for each")
    return Grid(
        rows=tuple(row_names or chosen),
        columns=_titles(keys, [test.label for test in tests], column_names),
        maps=tuple(n for n, key in enumerate(keys) if key not in INPUTS.values()),
        pictures=tuple(tuple(pictures.get(key) for key in keys) for pictures in found),
        classes=tests[0].classes,
    )


def _titles(keys: Sequence[str], labels: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns: as given for all or for the tests, else inputs, labels of the tests, label."""
    if names and len(names) not in (len(keys), len(labels)):
        raise ConfigError(
            f"{len(names)} names for {len(labels)} runs and {len(keys)} columns; give one for each run or column"
        )
    if len(names) == len(keys) != len(labels):
        return tuple(names)
    of_tests = iter(names or labels)
    return tuple(next(of_tests) if key.startswith("test") else key for key in keys)


def draw_grid(grid: Grid, width: float = WIDTH, legend: bool = False) -> Any:
    """A matplotlib figure of the pictures, with the names of columns above and of rows at the left.

    Pictures are not resampled: a PDF or SVG holds them at their full size.

    Args:
        grid: the pictures.
        width: of the figure, in inches.
        legend: explain the colours of the classes that occur, below the pictures.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    cell = (width - GAP * (len(grid.columns) - 1)) / len(grid.columns)
    heights = [cell * _aspect(line) for line in grid.pictures]
    shown = _classes_in(grid) if legend else []
    below = LEGEND_HEIGHT * -(-len(shown) // LEGEND_COLUMNS)
    total = sum(heights) + GAP * (len(heights) - 1) + TITLE_HEIGHT + below
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(width, total))
        top = total - TITLE_HEIGHT
        for row, (name, height, line) in enumerate(zip(grid.rows, heights, grid.pictures, strict=True)):
            for column, picture in enumerate(line):
                place = (column * (cell + GAP) / width, (top - height) / total, cell / width, height / total)
                axes = figure.add_axes(place)
                axes.set_axis_off()
                if picture is not None:
                    axes.imshow(picture, interpolation="none", aspect="auto")
                if row == 0:
                    title = grid.columns[column]
                    axes.set_title(plain(title), fontsize=_font_size(title, cell), pad=3)
                if column == 0:
                    place_of_name: Any = {"rotation": 90, "ha": "right", "va": "center", "transform": axes.transAxes}
                    axes.text(-0.02, 0.5, plain(name), fontsize=_font_size(name, height), **place_of_name)
            top -= height + GAP
        if shown:
            _draw_legend(figure, grid.classes, shown, below / total)
    return figure


def _font_size(text: str, length: float) -> float:
    """Points at which a text of one line fits into a length in inches; at most that of the figure."""
    # A character is about 0.55 times as wide as the font is high; an inch has 72 points.
    return min(STYLE["font.size"], 72 * length / (0.55 * max(len(text), 1)))


def _aspect(line: Sequence[np.ndarray | None]) -> float:
    """Height by width of the first picture of a line."""
    first = next((picture for picture in line if picture is not None), None)
    return 1.0 if first is None else first.shape[0] / first.shape[1]


def _classes_in(grid: Grid) -> list[int]:
    """Classes whose colour occurs in a prediction or label."""
    colors: set[int] = set()
    for line in grid.pictures:
        for picture in (line[n] for n in grid.maps):
            if picture is not None:
                codes = picture.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
                colors.update(np.unique(codes).tolist())
    return [n for n, (r, g, b) in enumerate(grid.classes.palette) if (r << 16 | g << 8 | b) in colors]


def _draw_legend(figure: Any, classes: ClassSet, shown: Sequence[int], height: float) -> None:
    """Colours of the classes at the bottom of the figure."""
    from matplotlib.patches import Patch

    colors = ["#{:02x}{:02x}{:02x}".format(*classes.palette[n]) for n in shown]
    names = [plain(classes.names[n]) for n in shown]
    marks = [Patch(color=color, label=name) for color, name in zip(colors, names, strict=True)]
    figure.legend(
        handles=marks,
        loc="center",
        bbox_to_anchor=(0, 0, 1, height),
        ncols=LEGEND_COLUMNS,
        fontsize=6.5,
        handlelength=1,
        handleheight=1,
        columnspacing=1,
        handletextpad=0.4,
    )
