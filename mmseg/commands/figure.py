"""Draw a figure for a paper: frames by runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import ConfigError

INPUT_NAMES = ("image", "events", "content map")


def width_in_inches(text: str) -> float:
    """Argument type: a width from 1 to 100 inches."""
    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if not 1 <= width <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: give a width from 1 to 100 inches")
    return width


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Draw a line per frame: its inputs, the prediction of each run, and the label. Inputs and labels "
        "come from the panels of the tests. A PDF or SVG holds the pictures at their full size.",
        epilog="example: python tools/figure.py <run> <other run> --names CMDA 'source only' --out figure.pdf",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="work dir, or output folder of a test (with metrics.json)"
    )
    parser.add_argument("--out", type=Path, default=Path("figure.pdf"), metavar="FILE", help="a .pdf, .png or .svg")
    parser.add_argument("--frames", nargs="+", metavar="NAME", default=[], help="frames to show, without .png")
    parser.add_argument(
        "--count", type=whole_number(1), default=4, metavar="N", help="without --frames, the N worst of the first run"
    )
    parser.add_argument(
        "--inputs",
        nargs="*",
        choices=INPUT_NAMES,
        default=list(INPUT_NAMES),
        help="inputs to show, as far as the tests have them (default: all)",
    )
    parser.add_argument(
        "--names",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names of the runs, or of all columns, from left to right",
    )
    parser.add_argument("--row-names", nargs="+", default=[], metavar="NAME", help="names of the lines")
    parser.add_argument("--legend", action="store_true", help="explain the colours of the classes")
    parser.add_argument("--width", type=width_in_inches, default=7.0, metavar="INCHES", help="width of the figure")
    parser.add_argument("--dpi", type=whole_number(30), default=300, help="resolution of a PNG")
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.report.picture_grid import draw_grid, make_grid, read_tests
    from mmseg.report.plots import check_format, save_figure

    check_format(args.out)
    tests = read_tests(args.folders)
    grid = make_grid(tests, args.frames, args.count, args.inputs, args.row_names, args.names)
    try:
        save_figure(draw_grid(grid, args.width, args.legend), args.out, args.dpi)
    except OSError as error:
        raise ConfigError(f"{args.out} cannot be written ({error.strerror}); choose another file") from error
    print(f"wrote {args.out} ({len(grid.rows)} frames, {len(grid.columns)} columns)")
