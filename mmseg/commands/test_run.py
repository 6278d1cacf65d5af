"""Test a work dir, or a published checkpoint folder: write predictions, print IoU."""

from __future__ import annotations

import argparse

from mmseg.apis.arguments import Parser, add_test_options, test_options


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Test the checkpoint of a work dir (iter_40000.pth, else the newest iter_*.pth) with the config "
        "next to it. Predictions, panels and metrics.json are written to <work dir>/preds/, or preds_<options>/ if "
        "options change what is tested.",
        epilog="example: python my_test.py --work-dir work_dirs/local-basic/<run>",
    )
    parser.add_argument("--work-dir", required=True, help="folder with <its name>.json and iter_*.pth")
    add_test_options(parser)
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from mmseg.apis import test_work_dir

    test_work_dir(args.work_dir, **test_options(args))
