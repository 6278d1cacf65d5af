"""Launch a training experiment from a base config."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from mmseg.apis.arguments import add_config_options
from mmseg.errors import run_as_script


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Write a child config under configs/generated/local-basic/ and train it into "
        "work_dirs/local-basic/<date>_<name>_<5 hex>/.",
        epilog="example: python my_run_experiments.py --root_path . --base_config "
        "configs/fusion/cs2dsec_image+events_together_b5.py --name cmda_cs2dsec",
    )
    parser.add_argument("--base_config", required=True, help="config to derive the experiment from")
    parser.add_argument("--name", required=True, help="name of the experiment")
    parser.add_argument("--root_path", help="folder with data/ and pretrained/ (default: paths as the config has them)")
    add_config_options(parser)
    return parser.parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from mmseg.apis import train, write_child_config
    from mmseg.config import load_config

    train(load_config(write_child_config(args.base_config, args.name, args.root_path, args.cfg_options)))


if __name__ == "__main__":
    run_as_script(main)
