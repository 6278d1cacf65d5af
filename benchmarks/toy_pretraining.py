"""Weights to start from on the toy city, in place of ImageNet's: a MiT-b0 that has seen many day streets.

The published trainings start from ImageNet weights. Trainings of a few hundred iterations on the toy city need a start
too, and all of them get the same: an encoder pretrained to segment day images of streets that the toy city does not
have, under random light, exposure, colour, blur and noise. It writes a file in the layout of ImageNet weights, in
16-bit numbers. The configs read ``configs/demo/toy_mit_b0.pth``, which was made with the defaults from

    python tools/make_toy_data.py POOL --seed 1000 --size tiny --day 320 --day-width 512 --day-height 256
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
    parser.add_argument("data", help="Cityscapes tree of a toy city of another seed, with many day images")
    parser.add_argument("out", type=Path, help="file to write, e.g. configs/demo/toy_mit_b0.pth")
    parser.add_argument("--iterations", type=whole_number(1), default=4000, help="(%(default)s)")
    parser.add_argument("--batch", type=whole_number(1), default=4, help="(%(default)s)")
    parser.add_argument("--size", type=whole_number(1), default=128, help="side of a crop after resizing (%(default)s)")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="(%(default)s)")
    return parser.parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from pretraining_loop import pretrain

    pretrain(**vars(args))


if __name__ == "__main__":
    run_as_script(main)
