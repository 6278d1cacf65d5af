"""Train the style-transfer generator of the Image Motion-Extractor, from day image changes to night events."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg.apis.arguments import Parser, weight_file, whole_number
from mmseg.style_transfer.settings import StyleTransferSettings

# Field of the settings -> type, metavar, help of its option
NUMBERS = {
    "iterations": (int, "N", "iterations"),
    "constant": (
        int,
        "N",
        "iterations at the full learning rate, before it falls linearly to 0 (default: half of all)",
    ),
    "crop": (int, "PIXELS", "side of the square crops, a multiple of 4"),
    "batch": (int, "N", "pairs per iteration"),
    "seed": (int, "N", "random seed"),
    "log_interval": (int, "N", "iterations between log lines"),
    "picture_interval": (int, "N", "iterations between sample sheets"),
    "checkpoint_interval": (int, "N", "iterations between checkpoints"),
}
EXPERT_NUMBERS = {
    "filters": (int, "N", "width of the networks; only 64 fits the published generator, others get another file name"),
    "learning_rate": (float, "X", "learning rate of Adam"),
    "beta1": (float, "X", "beta1 of Adam"),
    "cycle_weight": (float, "X", "weight of the cycle loss"),
    "identity_weight": (float, "X", "weight of the identity loss, relative to the cycle weight"),
    "pool": (int, "N", "earlier translations kept for each discriminator"),
}


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Train CycleGAN between image changes and night event frames. The generator from image changes to "
        "events is written to the work dir as cityscapes_ICD_to_dsec_EN.pth; copy it to pretrained/ to train CMDA with "
        "it.",
        epilog="example: python tools/train_style_transfer.py --data data/style_transfer",
    )
    data, work_dir = Path("data/style_transfer"), Path("work_dirs/style_transfer")
    parser.add_argument(
        "--data", type=Path, default=data, help=f"output of make_style_transfer_data.py (default: {data})"
    )
    parser.add_argument("--work-dir", type=Path, default=work_dir, help=f"folder of the run (default: {work_dir})")
    parser.add_argument("--resume", action="store_true", help="resume from the newest checkpoint in the work dir")
    parser.add_argument(
        "--workers", type=whole_number(0), default=2, metavar="N", help="processes for loading pictures (default: 2)"
    )
    parser.add_argument(
        "--evaluate",
        type=weight_file,
        metavar="GENERATOR",
        help="do not train; measure how close this generator brings held-out image changes to real event frames",
    )
    _add_numbers(parser, NUMBERS)
    _add_numbers(parser.add_argument_group("expert options", "of CycleGAN"), EXPERT_NUMBERS)
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def _add_numbers(parser: argparse._ActionsContainer, numbers: dict) -> None:
    defaults = StyleTransferSettings()
    for name, (kind, metavar, text) in numbers.items():
        default = getattr(defaults, name)
        shown = text if default is None else f"{text} (default: {default})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, metavar=metavar, help=shown)


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    if args.evaluate:
        from mmseg.style_transfer.training import evaluate_generator

        evaluate_generator(args.evaluate, args.data)
        return
    settings = StyleTransferSettings(**{name: getattr(args, name) for name in {**NUMBERS, **EXPERT_NUMBERS}}).checked()
    from mmseg.style_transfer.training import train_style_transfer

    train_style_transfer(args.data, args.work_dir, settings, args.resume, args.workers)
