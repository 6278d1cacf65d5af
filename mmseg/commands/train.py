"""Train a config, like the script of the same name in MMSegmentation."""

from __future__ import annotations

import argparse

from mmseg.apis.arguments import Parser, add_config_options, add_launcher, add_resume


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Train a config as it is.",
        epilog="examples: python tools/train.py CONFIG; after an interruption: python tools/train.py CONFIG --resume "
        "auto; on several GPUs: torchrun --nproc_per_node 4 tools/train.py CONFIG --launcher pytorch",
    )
    parser.add_argument("config", help="config file, .py or .json")
    parser.add_argument(
        "--work-dir", help="folder of the run (default: as in the config, else work_dirs/<config name>)"
    )
    add_resume(
        parser, "auto takes the newest valid checkpoint in the work dir, or starts from the beginning if there is none"
    )
    add_launcher(parser)
    add_config_options(parser)
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from mmseg.apis import train
    from mmseg.config.load import load_config

    options = {**args.cfg_options, **({"resume_from": args.resume} if args.resume else {})}
    train(load_config(args.config, options), args.work_dir, launcher=args.launcher)
