"""Test a checkpoint with a config, like the script of the same name in MMSegmentation."""

from __future__ import annotations

import argparse

from mmseg.apis.arguments import Parser, add_test_options, test_options, weight_file


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Test a checkpoint: write predictions, panels and metrics.json, print IoU and accuracy.",
        epilog="example: python tools/test.py configs/fusion/<config>.py work_dirs/<run>/iter_40000.pth",
    )
    parser.add_argument("config", nargs="?", help="config file, .py or .json (default: the checkpoint's own)")
    parser.add_argument("checkpoint", type=weight_file, help="checkpoint: a file, an address or a name")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="output folder (default: preds/ next to the checkpoint, preds_<options>/ with options; below "
        "work_dirs/<name> for a checkpoint that is downloaded)",
        former=("--out-dir",),
    )
    add_test_options(parser)
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from mmseg.apis import test

    test(
        args.config,
        args.checkpoint,
        args.out,
        **test_options(args),
    )
