"""Write the HTML report of a test or a run, or compare several."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import ConfigError


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write one HTML file with scores, classes, confusion, training curves and frames of a test or a "
        "run; several folders are shown side by side. The file is self-contained and loads nothing from the network.",
        epilog="example: python tools/report.py work_dirs/local-basic/<run> work_dirs/local-basic/<other run>",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="work dir, or output folder of a test (with metrics.json)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write (default: report.html in the folder; for several, in the current one)",
    )
    parser.add_argument(
        "--frames", type=whole_number(0), default=60, metavar="N", help="show at most the N worst frames (default: 60)"
    )
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.report.page import write_report

    out = args.out or (Path(args.folders[0]) if len(args.folders) == 1 else Path()) / "report.html"
    try:
        report = write_report(args.folders, out, args.frames)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written ({error.strerror}); choose another file with --out") from error
    left_out = f"; {report.left_out} frames left out; --frames shows more" if report.left_out else ""
    print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB, {len(report.frames)} frames{left_out})")
