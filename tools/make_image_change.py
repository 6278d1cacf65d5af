"""Make the image changes of Cityscapes, leftImg8bit_IC1, from the frames of leftImg8bit_sequence."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import run_as_script


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description="Write leftImg8bit_IC1/<split>/<city>/<name>_leftImg8bit.png for every image of "
        "leftImg8bit/<split>: its log-intensity change since the frame before. What is there and whole is kept, so an "
        "interrupted run goes on where it was. A file that cannot be made is named at the end, with exit status 1.",
        epilog="example: python tools/make_image_change.py data/cityscapes --nproc 8",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("cityscapes_path", type=Path, help="Cityscapes root, for example data/cityscapes")
    parser.add_argument("--splits", nargs="+", default=["train"], metavar="SPLIT", help="training reads train alone")
    parser.add_argument("--offset", type=whole_number(1), default=1, help="how many frames earlier the other frame is")
    parser.add_argument("--nproc", type=whole_number(1), default=1, help="number of processes")
    parser.add_argument("--sequence_dir", default="leftImg8bit_sequence", help="frames: folder of the root, or a path")
    parser.add_argument("--out_dir", default="leftImg8bit_IC1", help="image changes: folder of the root, or a path")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.add_argument("--stop_at_first", action="store_true", help="stop at the first file that cannot be made")
    return parser.parse_args()


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.io.file_work import print_failures
    from mmseg.preparation.image_change import change_tasks, make_changes

    splits = list(dict.fromkeys(args.splits))
    folders = (args.offset, args.sequence_dir, args.out_dir)
    tasks = [task for split in splits for task in change_tasks(args.cityscapes_path, split, *folders)]
    report = make_changes(tasks, args.offset, args.nproc, args.force, args.stop_at_first)
    print(f"{args.cityscapes_path / args.out_dir} ({', '.join(splits)}): {report.summary()}")
    print_failures(report)
    if report.failures:
        raise SystemExit(1)


if __name__ == "__main__":
    run_as_script(main)
