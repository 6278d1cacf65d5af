"""Make the two domains that train the style-transfer generator: image changes and night event frames."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import run_as_script


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description="Write OUT/trainA (crops of day image changes), OUT/trainB (normalised night event frames), and "
        "OUT/testA, OUT/testB, which are cut from the last tenth of the source files. 8-bit grey PNG. A run that was "
        "interrupted goes on when it is started again.",
        epilog="example: python tools/make_style_transfer_data.py data/style_transfer --nproc 8",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument("--cityscapes", type=Path, default=Path("data/cityscapes"), help="Cityscapes root")
    parser.add_argument("--dsec-list", type=Path, default=Path("night_dataset_warp.txt"), help="list of night frames")
    parser.add_argument("--count", type=whole_number(1), default=1000, help="pictures of each domain", metavar="N")
    parser.add_argument("--held-out", type=whole_number(0), default=50, help="held-out pictures of each", metavar="N")
    parser.add_argument(
        "--size", type=whole_number(24), nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"), help="of a picture"
    )
    for option, size, what in (
        ("--day-size", (1024, 512), "image changes"),
        ("--night-size", (640, 480), "event frames"),
    ):
        words = f"that {what} are resized to before they are cropped, as the training of CMDA sees them"
        metavar = ("WIDTH", "HEIGHT")
        parser.add_argument(option, type=whole_number(24), nargs=2, default=size, metavar=metavar, help=words)
    parser.add_argument("--seed", type=whole_number(0), default=0, help="equal seeds give equal pictures")
    parser.add_argument("--nproc", type=whole_number(1), default=processors, help="processes")
    return parser.parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from mmseg.style_transfer.make_pictures import PictureSettings, make_pictures

    start = time.monotonic()
    sizes = tuple(args.day_size), tuple(args.night_size)
    settings = PictureSettings(args.count, args.held_out, *args.size, args.seed, *sizes)
    report = make_pictures(args.cityscapes, args.dsec_list, args.out, settings, args.nproc)
    if report["left_out"]:
        print(report["left_out"])
    for folder, number in report["pictures"].items():
        asked = args.count if folder.startswith("train") else args.held_out
        fewer = f" (not {asked}: each source file gives one picture of this size)" if number < asked else ""
        print(f"{args.out / folder}: {number} pictures{fewer}")
    print(f"{report['written']} written now, in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    run_as_script(main)
