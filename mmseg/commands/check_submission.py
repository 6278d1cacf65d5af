"""Check a Dark Zurich submission, in the format of the evaluation server."""

from __future__ import annotations

import argparse

from mmseg.apis.arguments import Parser


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Check number, names, size, type and values of the files in labelTrainIds/, labelTrainIds_invalid/ "
        "and confidence/ of a submission. The server has taken no submissions since January 2026 (docs/test.md).",
        epilog="example: python tools/check_submission.py <work_dir>/preds_test/submission.zip",
    )
    parser.add_argument(
        "submission", metavar="FOLDER_OR_ZIP", help="folder that holds these three folders, or a zip archive of them"
    )
    parser.add_argument(
        "--dataset-path",
        help="Dark Zurich folder, to compare names with its test images, e.g. data/dark_zurich (default: compare the "
        "three folders with each other only)",
    )
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for numpy."""
    args = parse_args()
    from rich.console import Console

    from mmseg.evaluation.submission import SERVER_CLOSED, TEST_IMAGES, check_submission
    from mmseg.system.printing import say

    names = None
    if args.dataset_path:
        from mmseg.datasets.dark_zurich import DarkZurichICDataset

        names = DarkZurichICDataset(args.dataset_path, test_mode=True, split="test", outputs=("image",)).file_names
    console = Console()
    with console.status("checking"):
        count = check_submission(args.submission, names)
    compared = f" and match the test images of {args.dataset_path}" if names else ""
    say(
        console,
        f"{args.submission}: {count} predictions are valid{compared}. The full test split has {TEST_IMAGES} images.",
    )
    say(console, f"note: {SERVER_CLOSED}")
