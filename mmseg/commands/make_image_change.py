"""Make the image changes of Cityscapes (leftImg8bit_IC1) from leftImg8bit_sequence."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg.apis.arguments import DefaultsHelp, Parser, add_workers, whole_number


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write leftImg8bit_IC1/<split>/<city>/<name>_leftImg8bit.png for every image of "
        "leftImg8bit/<split>: the change of log intensity since the previous frame. Complete files are kept, so an "
        "interrupted run continues where it stopped. Files that cannot be made are listed at the end, with exit status "
        "1.",
        epilog="example: python tools/make_image_change.py data/cityscapes --workers 8",
        formatter_class=DefaultsHelp,
    )
    parser.add_argument("cityscapes_path", type=Path, help="Cityscapes root, for example data/cityscapes")
    parser.add_argument(
        "--splits", nargs="+", default=["train"], metavar="SPLIT", help="splits to process; training reads only train"
    )
    parser.add_argument(
        "--offset", type=whole_number(1), default=1, metavar="N", help="distance to the earlier frame, in frames"
    )
    add_workers(parser)
    parser.add_argument(
        "--sequence-dir", default="leftImg8bit_sequence", help="folder of the frames, in the root, or a path"
    )
    parser.add_argument(
        "--out",
        default="leftImg8bit_IC1",
        metavar="FOLDER",
        help="output folder, in the root, or a path",
        former=("--out-dir",),
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    parser.add_argument("--stop-at-first", action="store_true", help="stop at the first file that cannot be made")
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.io.file_work import print_failures
    from mmseg.preparation.image_change import change_tasks, make_changes

    splits = list(dict.fromkeys(args.splits))
    folders = (args.offset, args.sequence_dir, args.out)
    tasks = [task for split in splits for task in change_tasks(args.cityscapes_path, split, *folders)]
    report = make_changes(tasks, args.offset, args.workers, args.force, args.stop_at_first)
    print(f"{args.cityscapes_path / args.out} ({', '.join(splits)}): {report.summary()}")
    print_failures(report)
    if report.failures:
        raise SystemExit(1)
