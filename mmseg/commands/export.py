"""Export a trained network to ONNX and torch.export, for use without this code."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg.apis.arguments import LEAST_SIDE, OUTPUT_NAMES, ImageSize, Parser, add_config_options, weight_file
from mmseg.errors import ConfigError


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Export outputs of a trained network as ONNX and torch.export (.pt2) files. Each file is compared "
        "with PyTorch before it is kept; <file>.json next to it describes inputs and outputs. No data set is needed.",
        epilog="example: python tools/export.py --work-dir work_dirs/local-basic/<run> --output all",
    )
    parser.add_argument("--work-dir", type=Path, help="work dir with <its name>.json and iter_*.pth")
    parser.add_argument("--config", type=Path, help="config file, .py or .json (default: the checkpoint's own)")
    parser.add_argument(
        "--checkpoint", type=weight_file, help="checkpoint instead of a work dir: a file, an address or a name"
    )
    parser.add_argument(
        "--model", choices=("student", "teacher"), default="student", help="weights to export (default: student)"
    )
    parser.add_argument(
        "--format", nargs="+", choices=("onnx", "torch"), default=["onnx", "torch"], help="formats (default: both)"
    )
    parser.add_argument(
        "--output",
        nargs="+",
        choices=(*OUTPUT_NAMES, "all"),
        help="outputs of the network, one file each; all: every trained one (default: the one that a test takes)",
    )
    parser.add_argument(
        "--size",
        type=ImageSize(LEAST_SIDE, former_order="HW"),
        metavar="HxW",
        help="height and width of inputs and outputs, e.g. 440x640 (default: as in the config's test)",
    )
    parser.add_argument(
        "--labels",
        action="store_true",
        help="output label (8 bits) and confidence of every pixel instead of logits",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="output folder (default: export/ in the work dir, or next to the checkpoint; work_dirs/<name>/export for "
        "one that is downloaded)",
        former=("--out-dir",),
    )
    add_config_options(parser)
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    if bool(args.work_dir) == bool(args.checkpoint) or (args.work_dir and args.config):
        raise ConfigError(
            "give either --work-dir or --checkpoint (and --config if the checkpoint does not contain its config)"
        )
    from mmseg.inference.export import export, export_work_dir
    from mmseg.weights.table import folder_of

    options = {
        "model": args.model,
        "formats": args.format,
        "outputs": args.output,
        "size": args.size,
        "labels": args.labels,
        "cfg_options": args.cfg_options,
    }
    if args.work_dir:
        export_work_dir(args.work_dir, args.out, **options)
    else:
        export(args.config, args.checkpoint, args.out or folder_of(args.checkpoint) / "export", **options)
