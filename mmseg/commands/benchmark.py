"""Measure the inference speed of a network: latency, throughput and memory by precision and batch size."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from mmseg.apis.arguments import (
    LEAST_SIDE,
    OUTPUT_NAMES,
    PRECISION_NAMES,
    ImageSize,
    Parser,
    add_config_options,
    weight_file,
    whole_number,
)
from mmseg.errors import ConfigError


def positive_number(text: str) -> float:
    """Argument type: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0")
    return number


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Measure inference, from images on the device to class maps of the same size. No data set is "
        "needed; without a checkpoint the weights are random. On a GPU, peak memory is reported too.",
        epilog="example: python tools/benchmark.py configs/fusion/cs2dsec_image+events_together_b5.py --precision fp32 "
        "bf16 --batch 1 8",
    )
    parser.add_argument("config", type=Path, help="config file, .py or .json")
    parser.add_argument(
        "--checkpoint", type=weight_file, help="load the student's weights from this file, address or name"
    )
    parser.add_argument(
        "--output",
        choices=OUTPUT_NAMES,
        help="output of the network (default: the one that a test of the config takes)",
    )
    parser.add_argument(
        "--size",
        type=ImageSize(LEAST_SIDE),
        default="440x640",
        metavar="HxW",
        help="height and width of the images (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISION_NAMES,
        default=["fp32"],
        help="number format of the network; tf32 and fp16 need a GPU (default: fp32)",
    )
    parser.add_argument("--batch", nargs="+", type=whole_number(1), default=[1], help="images per call (default: 1)")
    parser.add_argument("--compile", action="store_true", help="also measure each row with torch.compile")
    parser.add_argument("--device", help="cpu, cuda or cuda:<number> (default: a GPU if available)")
    parser.add_argument(
        "--seconds", type=positive_number, default=3.0, help="duration of each measurement (default: %(default)s)"
    )
    parser.add_argument("--threads", type=whole_number(1), help="CPU threads (default: torch's choice)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    add_config_options(parser)
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    if args.json and not args.json.resolve().parent.is_dir():
        raise ConfigError(f"--json {args.json}: the folder does not exist; make it, or choose another file")
    from mmseg.inference.benchmark import benchmark
    from mmseg.io.files import write_text

    result = benchmark(
        args.config,
        args.checkpoint,
        args.output,
        args.size,
        args.precision,
        args.batch,
        args.compile,
        args.device,
        args.seconds,
        args.threads,
        args.cfg_options,
    )
    if args.json:
        try:
            write_text(args.json, json.dumps(result.as_dict(), indent=1) + "\n")
        except OSError as error:
            raise ConfigError(f"{args.json} cannot be written ({error.strerror}): choose another file") from None
