"""Make the HTML report of a test or a run, or put several side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import ConfigError, run_as_script


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description="Write one HTML file with scores, classes, confusion, training curves and frames of a test or a "
        "run. Several folders are put side by side. The file needs nothing else and loads nothing.",
        epilog="example: python tools/report.py work_dirs/local-basic/<run> work_dirs/local-basic/<other run>",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="work dir, or folder of a test (with metrics.json)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default: report.html in the folder, of several here)"
    )
    parser.add_argument(
        "--frames", type=whole_number(0), default=60, help="frames to show at most, the worst ones (default: 60)"
    )
    return parser.parse_args()


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.report.page import write_report

    out = args.out or (Path(args.folders[0]) if len(args.folders) == 1 else Path()) / "report.html"
    try:
        report = write_report(args.folders, out, args.frames)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written ({error.strerror}); choose another place with --out") from error
    left_out = f"; {report.left_out} frames are left out, --frames shows more" if report.left_out else ""
    print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB, {len(report.frames)} frames{left_out})")


if __name__ == "__main__":
    run_as_script(main)
