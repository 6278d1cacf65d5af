"""Compare the scores of several runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import ConfigError

RESAMPLES = 10_000


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Show final and best mIoU (over all classes and over those in the labels) and the final IoU of "
        "every class, for every tested output. Runs that differ only in their seed share a row with mean ± standard "
        "deviation.",
        epilog="example: python tools/compare_runs.py work_dirs/local-basic/*cmda* --markdown table.md",
    )
    parser.add_argument("work_dirs", nargs="+", metavar="WORK_DIR", help="work dir of a run")
    parser.add_argument("--each", action="store_true", help="one row per run; do not combine seeds")
    parser.add_argument(
        "--rows", nargs="+", type=whole_number(1), metavar="N", help="show only these rows of the table, in this order"
    )
    parser.add_argument("--names", nargs="+", metavar="NAME", help="names of the rows shown, one for each")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables to this file, as Markdown")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="also write all numbers to this file, as comma-separated values"
    )
    parser.add_argument(
        "--latex", type=Path, metavar="FILE", help="also write a table for a paper to this file; NAMEs may be LaTeX"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="also draw bars of every class and curves with bands over the seeds, to FILE (.pdf, .svg or .png) with "
        "_classes and _curves before its ending",
    )
    parser.add_argument(
        "--bootstrap",
        type=whole_number(100),
        nargs="?",
        const=RESAMPLES,
        metavar="N",
        help="also give the difference of the mean IoU of every row to the first, with its 95 %% confidence interval "
        f"from N resamples of the test frames (default: {RESAMPLES})",
    )
    parser.add_argument(
        "--bootstrap-seed", type=whole_number(0), default=0, metavar="SEED", help="seed of the resamples (default: 0)"
    )
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def read_runs(work_dirs: list[str]) -> list:
    """Read the scores of every run once; report folders that are not work dirs.

    Raises:
        ConfigError: there is no run, or one cannot be read.
    """
    from mmseg.report.comparison import read_run
    from mmseg.work_dir.layout import WorkDir

    runs, skipped = [], []
    for folder in {Path(folder).resolve(): folder for folder in work_dirs}.values():
        if Path(folder).exists() and not WorkDir(folder).config.is_file():
            skipped.append(f"{folder} is not a work dir: it has no {WorkDir(folder).config.name}")
        else:
            runs.append(read_run(folder))
    if not runs:
        raise ConfigError("; ".join(skipped))
    for reason in skipped:
        print(f"note: skipped, {reason}", file=sys.stderr)
    return runs


def chosen_rows(rows: Sequence, args: argparse.Namespace) -> list:
    """The rows to show, in the order of ``--rows`` and with the names of ``--names``.

    Raises:
        ConfigError: no such row, or another number of names.
    """
    numbers = args.rows or range(1, len(rows) + 1)
    if max(numbers) > len(rows):
        raise ConfigError(f"--rows {max(numbers)}: the table has {len(rows)} rows")
    chosen = [rows[number - 1] for number in numbers]
    if args.names is None:
        return chosen
    if len(args.names) != len(chosen):
        raise ConfigError(f"--names has {len(args.names)} names for {len(chosen)} rows; choose rows with --rows")
    return [replace(row, name=name) for row, name in zip(chosen, args.names, strict=True)]


def write(path: Path, writer: Callable[[], object]) -> None:
    """Let ``writer`` write a file, and say so.

    Raises:
        ConfigError: it cannot be written.
    """
    from rich.console import Console

    from mmseg.system.printing import say

    try:
        writer()
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); choose another file") from error
    say(Console(width=400), f"wrote {path}")


def write_files(rows: Sequence, args: argparse.Namespace) -> None:
    """Write the files that were asked for.

    Raises:
        ConfigError: one cannot be written.
    """
    from mmseg.io.files import write_text
    from mmseg.report.comparison import comma_separated, markdown
    from mmseg.report.latex import latex

    texts = (
        (args.markdown, markdown),
        (args.csv, comma_separated),
        (args.latex, lambda rows: latex(rows, args.names or ())),
    )
    for path, text in texts:
        if path:
            write(path, partial(write_text, path, text(rows)))
    if args.plot:
        from mmseg.report.plots import class_bars, save_figure, score_curves

        for kind, draw in (("classes", class_bars), ("curves", score_curves)):
            path = args.plot.with_stem(f"{args.plot.stem}_{kind}")
            figure = draw(rows, args.names or ())
            write(path, partial(save_figure, figure, path))


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from rich.console import Console

    from mmseg.report.comparison import compare, terminal_tables

    if args.plot:
        from mmseg.report.plots import check_format

        check_format(args.plot)
    rows = chosen_rows(compare(read_runs(args.work_dirs), grouped=not args.each), args)
    console = Console()
    if not console.is_terminal:
        # A file or a pipe has no width to keep to.
        console = Console(width=400)
    for table in terminal_tables(rows):
        console.print(table)
    if args.bootstrap:
        from mmseg.report.bootstrap import difference_table

        console.print(difference_table(rows, args.bootstrap, args.bootstrap_seed))
    write_files(rows, args)
