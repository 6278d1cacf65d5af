"""Write the model card of a run: data, config, scores, hashes, environment."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg.apis.arguments import Parser
from mmseg.errors import ConfigError


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write a Markdown file to publish next to a checkpoint, from the files of its run. What only its "
        "authors know is marked 'fill in'. Paths of your machine are cut.",
        epilog="example: python tools/make_model_card.py work_dirs/local-basic/<run>",
    )
    parser.add_argument("run", metavar="RUN", help="work dir of the run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: model_card.md in RUN)")
    parser.add_argument("--force", action="store_true", help="replace an existing card, with what was filled in")
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.io.files import write_text
    from mmseg.report.model_card import write_card

    out = args.out or Path(args.run) / "model_card.md"
    text = write_card(args.run)
    if out.exists() and not args.force:
        raise ConfigError(f"{out} already exists; add --force to replace it, or choose another file with --out")
    try:
        write_text(out, text)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written ({error.strerror}); choose another file with --out") from error
    print(f"wrote {out}; fill in what is marked")
