"""Pretrain a MiT-b0 on many day streets, as initial weights for the toy city in place of ImageNet weights.

Published trainings start from ImageNet weights. Trainings of a few hundred iterations on the toy city all start from
an encoder pretrained to segment day images of other streets, with random light, exposure, colour, blur and noise. The
file has the layout of ImageNet weights, in 16-bit numbers. The configs read ``configs/demo/toy_mit_b0.pth``, which was
made with the defaults from

    python tools/make_toy_data.py POOL --seed 1000 --size tiny --day 320 --day-size 256x512
"""

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
        description=__doc__,
        epilog="example: python benchmarks/toy_pretraining.py toy_day/data/cityscapes toy_mit_b0.pth",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", help="Cityscapes tree of a toy city with another seed and many day images")
    parser.add_argument("out", type=Path, help="file to write, e.g. configs/demo/toy_mit_b0.pth")
    parser.add_argument("--iterations", type=whole_number(1), default=4000, help="iterations (default: %(default)s)")
    parser.add_argument("--batch", type=whole_number(1), default=4, help="batch size (default: %(default)s)")
    parser.add_argument(
        "--size",
        type=whole_number(1),
        default=128,
        help="side of the square crops after resizing (default: %(default)s)",
    )
    parser.add_argument("--seed", type=whole_number(0), default=0, help="random seed (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from pretraining_loop import pretrain

    pretrain(**vars(args))


if __name__ == "__main__":
    run_as_script(main)
