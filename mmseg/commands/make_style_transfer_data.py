"""Make the training data of the style-transfer generator: image changes and night event frames."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from mmseg.apis.arguments import DefaultsHelp, ImageSize, Parser, add_workers, usable_cores, whole_number


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write OUT/trainA (crops of day image changes), OUT/trainB (normalised night event frames), and "
        "OUT/testA, OUT/testB from the last tenth of the source files, as 8-bit grey PNG. An interrupted run continues "
        "where it stopped.",
        epilog="example: python tools/make_style_transfer_data.py data/style_transfer --workers 8",
        formatter_class=DefaultsHelp,
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="output folder")
    parser.add_argument("--cityscapes", type=Path, default=Path("data/cityscapes"), help="Cityscapes root")
    parser.add_argument(
        "--dsec-list", type=Path, default=Path("night_dataset_warp.txt"), help="list of the night frames"
    )
    parser.add_argument("--count", type=whole_number(1), default=1000, help="training pictures per domain", metavar="N")
    parser.add_argument(
        "--held-out", type=whole_number(0), default=50, help="held-out pictures per domain", metavar="N"
    )
    size = ImageSize(24, former_order="WH")
    for option, default, text in (
        ("--size", "480x640", "size of a picture"),
        ("--day-size", "512x1024", "resize image changes to this size before cropping, as in training of CMDA"),
        ("--night-size", "480x640", "resize event frames to this size before cropping, as in training of CMDA"),
    ):
        parser.add_argument(option, type=size, default=default, metavar="HxW", help=text)
    parser.add_argument("--seed", type=whole_number(0), default=0, help="the same seed gives the same pictures")
    add_workers(parser, default=usable_cores())
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from mmseg.style_transfer.make_pictures import PictureSettings, make_pictures

    start = time.monotonic()
    height, width = args.size
    # PictureSettings holds sizes as (width, height).
    sizes = args.day_size[::-1], args.night_size[::-1]
    settings = PictureSettings(args.count, args.held_out, width, height, args.seed, *sizes)
    report = make_pictures(args.cityscapes, args.dsec_list, args.out, settings, args.workers)
    if report["left_out"]:
        print(report["left_out"])
    for folder, number in report["pictures"].items():
        asked = args.count if folder.startswith("train") else args.held_out
        fewer = f" (instead of {asked}: a source file gives one picture of this size)" if number < asked else ""
        print(f"{args.out / folder}: {number} pictures{fewer}")
    print(f"{report['written']} written now, in {time.monotonic() - start:.0f} s")
