"""Generate a toy city in the formats of the real data sets: labelled day images, night frames with events."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from mmseg.apis.arguments import DefaultsHelp, ImageSize, Parser, SensorSize, add_workers, usable_cores, whole_number
from mmseg.toy.settings import SIZES


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write OUT/data/cityscapes, OUT/data/DSEC_Night (and OUT/data/dark_zurich), the two frame lists, "
        "manifests (night_train.jsonl, night_test.jsonl, day_val.jsonl), toy_city.json (statistics, with "
        "complete: true once everything is written), toy_city_files.txt (the files that --force replaces) and "
        "contact_sheet.png.",
        epilog="example: python tools/make_toy_data.py work_dirs/toy --size small --workers 2",
        formatter_class=DefaultsHelp,
    )
    count = whole_number(0)
    parser.add_argument("out", metavar="OUT", type=Path, help="output folder, empty or absent")
    parser.add_argument("--seed", type=count, default=0, help="the same seed gives the same city")
    parser.add_argument("--size", choices=list(SIZES), default="small", help="preset for all numbers below")
    add_workers(parser, "number of processes; does not change the result", default=usable_cores())
    parser.add_argument("--force", action="store_true", help="replace the toy city in OUT; other files are kept")
    numbers = parser.add_argument_group("numbers", "override the preset")
    numbers.add_argument("--day", type=count, help="labelled day images for training", metavar="N")
    numbers.add_argument("--day-val", type=count, help="labelled day images for validation", metavar="N")
    numbers.add_argument("--day-size", type=ImageSize(1), help="height and width of a day image", metavar="HxW")
    numbers.add_argument("--day-height", type=count, help=argparse.SUPPRESS)
    numbers.add_argument("--day-width", type=count, help=argparse.SUPPRESS)
    numbers.add_argument("--night-streets", type=count, help="night streets for training", metavar="N")
    numbers.add_argument("--test-streets", type=count, help="labelled night streets for testing", metavar="N")
    numbers.add_argument("--frames", type=count, help="consecutive frames per night street", metavar="N")
    numbers.add_argument("--substeps", type=count, help="renderings per frame for the event camera", metavar="N")
    numbers.add_argument(
        "--dark-zurich", type=count, help="streets in the Dark Zurich tree; 0 leaves it out", metavar="N"
    )
    numbers.add_argument(
        "--sensor",
        type=SensorSize(48),
        metavar="WxH",
        help="size of the event camera and of night images (default: 640x480, DSEC's); nights of another size are "
        "written to OUT/data/night, and only the manifests name them",
    )
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    if args.day_size:
        args.day_height, args.day_width = args.day_size
    names = ("day", "day_val", "day_width", "day_height", "night_streets", "test_streets", "frames", "substeps")
    changes = {name: getattr(args, name) for name in (*names, "dark_zurich")}
    if args.sensor:
        changes["sensor_height"], changes["sensor_width"] = args.sensor
    settings = SIZES[args.size].with_changes(changes)
    from mmseg.toy.dataset import CONTACT_SHEET, make_toy_city

    start = time.monotonic()
    report = make_toy_city(args.out, settings, args.seed, args.workers, args.force)
    events, edges = report["events_per_frame"], list(report["night_edges"].values())
    for title, classes in report["classes"].items():
        print(f"classes, {title}: {len(classes)} ({', '.join(classes)})")
    print(f"events per frame: {events['least']:,} to {events['most']:,}, median {events['median']:,}")
    if edges[0] and edges[1]:
        print(
            f"night edges with contrast: {edges[1] / edges[0]:.0%} are invisible in the image; "
            f"{edges[2] / edges[1]:.0%} of those have events"
        )
    print(f"{args.out} written in {time.monotonic() - start:.0f} s; see {args.out / CONTACT_SHEET}")
