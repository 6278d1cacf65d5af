"""List the published configs, with the name by which every command takes them."""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path

from mmseg.apis.arguments import Parser
from mmseg.config.published import PROJECT_CONFIGS, TASKS, published_configs
from mmseg.system.program import spelled


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="List the published configs: the name by which every command takes them, and what they are.",
        epilog="example: cmda configs --path cs2dsec",
    )
    parser.add_argument("--path", metavar="NAME", help="print the path of one config, to read or copy it")
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Print the list, or a path."""
    args = parse_args()
    if args.path:
        from mmseg.config.files import existing_config

        print(existing_config(args.path))
        return
    short = {PROJECT_CONFIGS[0] / path: name for name, path in TASKS.items()}
    for folder, paths in groupby(published_configs().values(), key=lambda path: path.parent.name):
        print(f"{folder}:")
        for path in paths:
            names = path.stem + (f" ({short[path]})" if path in short else "")
            print(f"  {names:58} {description(path)}")


def description(path: Path) -> str:
    """First sentence of the comment that a config begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return spelled(" ".join(lines).partition(". ")[0].rstrip("."))
