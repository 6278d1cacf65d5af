"""Compare the scores of several runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmseg.apis.arguments import Parser
from mmseg.errors import ConfigError


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Show final and best mIoU (over 19 and 18 classes) and the final IoU of every class, for every "
        "tested output. Runs that differ only in their seed share a row with mean ± standard deviation.",
        epilog="example: python tools/compare_runs.py work_dirs/local-basic/*cmda* --markdown table.md",
    )
    parser.add_argument("work_dirs", nargs="+", metavar="WORK_DIR", help="work dir of a run")
    parser.add_argument("--each", action="store_true", help="one row per run; do not combine seeds")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables to this file, as Markdown")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="also write all numbers to this file, as comma-separated values"
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


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from rich.console import Console

    from mmseg.io.files import write_text
    from mmseg.report.comparison import comma_separated, compare, markdown, terminal_tables
    from mmseg.system.printing import say

    rows = compare(read_runs(args.work_dirs), grouped=not args.each)
    console = Console()
    if not console.is_terminal:
        # A file or a pipe has no width to keep to.
        console = Console(width=400)
    for table in terminal_tables(rows):
        console.print(table)
    for path, text in ((args.markdown, markdown), (args.csv, comma_separated)):
        if path:
            try:
                write_text(path, text(rows))
            except OSError as error:
                raise ConfigError(f"{path} cannot be written ({error.strerror}); choose another file") from error
            say(console, f"wrote {path}")
