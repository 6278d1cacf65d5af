"""Make a toy city: day images with labels, night frames with events, in the formats of the real data sets."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import run_as_script
from mmseg.toy.settings import SIZES


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description="Write OUT/data/cityscapes, OUT/data/DSEC_Night (and OUT/data/dark_zurich), the two frame lists, "
        "toy_city.json (statistics; it says complete: true when all is there), toy_city_files.txt (the files that "
        "--force replaces) and contact_sheet.png.",
        epilog="example: python tools/make_toy_data.py work_dirs/toy --size small --jobs 2",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    count = whole_number(0)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write, empty or absent")
    parser.add_argument("--seed", type=count, default=0, help="equal seeds give equal cities")
    parser.add_argument("--size", choices=list(SIZES), default="small", help="sets all numbers below")
    parser.add_argument(
        "--jobs", type=whole_number(1), default=processors, help="processes; the result does not depend on it"
    )
    parser.add_argument("--force", action="store_true", help="replace the toy city in OUT; other files there stay")
    numbers = parser.add_argument_group("numbers", "each replaces that of --size")
    numbers.add_argument("--day", type=count, help="labelled day images for training", metavar="N")
    numbers.add_argument("--day-val", type=count, help="labelled day images for validation", metavar="N")
    numbers.add_argument("--day-width", type=count, help="width of a day image in pixels", metavar="N")
    numbers.add_argument("--day-height", type=count, help="height of a day image in pixels", metavar="N")
    numbers.add_argument("--night-streets", type=count, help="night streets for training", metavar="N")
    numbers.add_argument("--test-streets", type=count, help="night streets for the test, labelled", metavar="N")
    numbers.add_argument("--frames", type=count, help="consecutive frames of a night street", metavar="N")
    numbers.add_argument("--substeps", type=count, help="renderings a frame for the event camera", metavar="N")
    numbers.add_argument("--dark-zurich", type=count, help="streets of the Dark Zurich tree, 0: none", metavar="N")
    return parser.parse_args()


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    names = ("day", "day_val", "day_width", "day_height", "night_streets", "test_streets", "frames", "substeps")
    settings = SIZES[args.size].with_changes({name: getattr(args, name) for name in (*names, "dark_zurich")})
    from mmseg.toy.dataset import CONTACT_SHEET, make_toy_city

    start = time.monotonic()
    report = make_toy_city(args.out, settings, args.seed, args.jobs, args.force)
    events, edges = report["events_per_frame"], list(report["night_edges"].values())
    for title, classes in report["classes"].items():
        print(f"classes, {title}: {len(classes)} ({', '.join(classes)})")
    print(f"events per frame: {events['least']:,} to {events['most']:,}, median {events['median']:,}")
    if edges[0] and edges[1]:
        print(
            f"night edges with contrast: {edges[1] / edges[0]:.0%} invisible in the image, "
            f"{edges[2] / edges[1]:.0%} of these have events"
        )
    print(f"{args.out} written in {time.monotonic() - start:.0f} s; see {args.out / CONTACT_SHEET}")


if __name__ == "__main__":
    run_as_script(main)
