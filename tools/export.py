"""Export a trained network to ONNX and to torch.export, for use without this code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg.apis.arguments import LEAST_SIDE, Parser, add_config_options, whole_number
from mmseg.errors import ConfigError, run_as_script


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description="Write outputs of a trained network as ONNX and torch.export (.pt2) files. Each is compared with "
        "PyTorch before it gets its name; <file>.json beside it says what goes in and what comes out. No data are "
        "needed.",
        epilog="example: python tools/export.py --work-dir work_dirs/local-basic/<run> --output all",
    )
    parser.add_argument("--work-dir", type=Path, help="folder with <its name>.json and iter_*.pth")
    parser.add_argument("--config", type=Path, help="config file, .py or .json (default: the checkpoint's own)")
    parser.add_argument("--checkpoint", type=Path, help="checkpoint, in place of a work dir")
    parser.add_argument(
        "--model", choices=("student", "teacher"), default="student", help="whose weights to take (default: student)"
    )
    parser.add_argument(
        "--format", nargs="+", choices=("onnx", "torch"), default=["onnx", "torch"], help="(default: both)"
    )
    parser.add_argument(
        "--output",
        nargs="+",
        choices=("image", "events", "fusion", "fusion_isr", "fusion_all", "all"),
        help="one file each; all: every trained output of the network (default: the one that a test takes)",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=whole_number(LEAST_SIDE),
        metavar=("HEIGHT", "WIDTH"),
        help="of inputs and outputs, e.g. 440 640 (default: that of the config's test)",
    )
    parser.add_argument(
        "--labels",
        action="store_true",
        help="give label (8 bits) and confidence of every pixel in place of logits",
    )
    parser.add_argument(
        "--out-dir", type=Path, help="folder of the files (default: export/ in the work dir or beside the checkpoint)"
    )
    add_config_options(parser)
    return parser.parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    if bool(args.work_dir) == bool(args.checkpoint) or (args.work_dir and args.config):
        raise ConfigError(
            "give either --work-dir, or --checkpoint (and --config where the checkpoint does not carry its config)"
        )
    from mmseg.inference.export import export, export_work_dir

    options = {
        "model": args.model,
        "formats": args.format,
        "outputs": args.output,
        "size": args.size,
        "labels": args.labels,
        "cfg_options": args.cfg_options,
    }
    if args.work_dir:
        export_work_dir(args.work_dir, args.out_dir, **options)
    else:
        export(args.config, args.checkpoint, args.out_dir or args.checkpoint.parent / "export", **options)


if __name__ == "__main__":
    run_as_script(main)
