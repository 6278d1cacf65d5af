"""Write the event index of every DSEC_Night image, and the training and test lists."""

from __future__ import annotations

import argparse
import logging

from mmseg.apis.arguments import Parser


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write images/images_to_events_index.txt in every sequence zurich_city_09_<a-e> under the root, "
        "then the frame lists night_dataset_warp.txt (training) and night_test_dataset_warp.txt (test).",
        epilog="example: python create_dsec_dataset_txt.py --root-dir data/DSEC_Night/",
    )
    parser.add_argument(
        "--root-dir",
        required=True,
        help="folder of DSEC_Night",
    )
    parser.add_argument(
        "--out",
        default=".",
        metavar="FOLDER",
        help="folder of the two lists; they hold image paths relative to it (default: current folder)",
        former=("--out-dir",),
    )
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.preparation.dsec_lists import create_dsec_lists

    logging.basicConfig(format="%(levelname)s: %(message)s")
    create_dsec_lists(args.root_dir, args.out)
