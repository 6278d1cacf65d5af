"""Convert the Cityscapes ground truth to train ids and write class statistics and split lists.

    python tools/convert_datasets/cityscapes.py data/cityscapes --nproc 8

Paths in the JSON files are relative to the Cityscapes root, so they hold from any working directory.
See mmseg/preparation/cityscapes.py for the files that are written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# This checkout's mmseg must win over an installed MMSegmentation, which has the same name.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import run_as_script


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description="Write *_gtFine_labelTrainIds.png beside the Cityscapes annotations, the class "
        "statistics for rare class sampling, and train.txt, val.txt and test.txt. Label maps that are newer "
        "than their annotation are kept. Paths in the JSON files are relative to cityscapes_path.",
        epilog="example: python tools/convert_datasets/cityscapes.py data/cityscapes --nproc 8",
    )
    parser.add_argument("cityscapes_path", help="Cityscapes root, for example data/cityscapes")
    parser.add_argument("--gt-dir", default="gtFine", help="annotation folder inside the root (default: %(default)s)")
    parser.add_argument("-o", "--out-dir", help="folder of the JSON files and lists (default: the root)")
    parser.add_argument(
        "--nproc", type=whole_number(1), default=1, help="number of worker processes (default: %(default)s)"
    )
    parser.add_argument(
        "--source",
        choices=("auto", "polygons", "label_ids"),
        default="auto",
        help="what to convert; auto takes *_polygons.json where it exists, else *_labelIds.png, else "
        "uses an existing *_labelTrainIds.png as it is (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="also rewrite label maps that are up to date")
    return parser.parse_args()


def main() -> None:
    """Convert and print a summary."""
    args = parse_args()
    # Only now: --help and a mistyped flag should not wait for the imaging library.
    from mmseg.preparation.cityscapes import convert_cityscapes, print_report

    print_report(
        convert_cityscapes(args.cityscapes_path, args.gt_dir, args.out_dir, args.nproc, args.source, args.force)
    )


if __name__ == "__main__":
    run_as_script(main)
