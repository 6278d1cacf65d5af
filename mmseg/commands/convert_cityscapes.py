"""Convert the Cityscapes labels to train ids, and write class statistics and split lists."""

from __future__ import annotations

import argparse

from mmseg.apis.arguments import Parser, add_workers


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write *_gtFine_labelTrainIds.png next to the Cityscapes annotations, the class statistics for "
        "rare class sampling, and train.txt, val.txt and test.txt. Label maps newer than their annotation are kept. "
        "Paths in the JSON files are relative to the root.",
        epilog="example: python tools/convert_datasets/cityscapes.py data/cityscapes --workers 8",
    )
    parser.add_argument("cityscapes_path", help="Cityscapes root, e.g. data/cityscapes")
    parser.add_argument("--gt-dir", default="gtFine", help="annotation folder in the root (default: %(default)s)")
    parser.add_argument(
        "-o",
        "--out",
        metavar="FOLDER",
        help="folder of the JSON files and lists (default: the root)",
        former=("--out-dir",),
    )
    add_workers(parser)
    parser.add_argument(
        "--source",
        choices=("auto", "polygons", "label_ids"),
        default="auto",
        help="what to convert; auto takes *_polygons.json if it exists, else *_labelIds.png, else keeps an existing "
        "*_labelTrainIds.png (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="also rewrite label maps that are up to date")
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for the import below."""
    args = parse_args()
    from mmseg.preparation.cityscapes import convert_cityscapes, print_report

    print_report(convert_cityscapes(args.cityscapes_path, args.gt_dir, args.out, args.workers, args.source, args.force))
