"""Test a work dir, or a published checkpoint folder: write predictions, print IoU."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from mmseg.apis.arguments import Parser, add_test_options, test_options
from mmseg.errors import run_as_script


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description="Test the checkpoint of a work dir (iter_40000.pth, else the newest iter_*.pth) with the config "
        "next to it. Predictions, panels and metrics.json are written to <work dir>/preds/, or preds_<options>/ if "
        "options change what is tested.",
        epilog="example: python my_test.py --work-dir work_dirs/local-basic/<run>",
    )
    parser.add_argument("--work-dir", required=True, help="folder with <its name>.json and iter_*.pth")
    add_test_options(parser)
    return parser.parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from mmseg.apis import test_work_dir

    test_work_dir(args.work_dir, **test_options(args))


if __name__ == "__main__":
    run_as_script(main)
