"""Cache what training would otherwise recompute every epoch: voxel grids of events, resized images."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.apis.arguments import Parser, add_config_options, add_workers
from mmseg.errors import ConfigError

DEFAULT = "configs/fusion/cs2dsec_image+events_together_b5.py"
MANIFEST_SUFFIX, EXAMPLE_KEY = ".jsonl", "data.train.target.image_resize_size"
SECTIONS = ("train.source", "train.target", "val", "test")


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write caches for the data sets of a config: images and standardised voxel grids of the listed "
        "frames (DSEC), resized images, labels and image changes (Cityscapes), resized images (Dark Zurich). Training "
        "reads them if the keys data.*.cache name them. Results do not change, and a cache whose parameters or source "
        "files have changed is refused. Valid caches are kept; an interrupted run continues where it stopped.",
        epilog="example: python tools/cache_events.py configs/fusion/cs2dsec_image+events_together_b5.py --workers 8",
    )
    parser.add_argument(
        "config",
        type=Path,
        nargs="?",
        default=Path(DEFAULT),
        help=f"config, or a manifest (.jsonl) with the keys of its section in --cfg-options (default: {DEFAULT})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/cache"),
        help="folder for caches without a path in the config (default: %(default)s)",
    )
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, help="data sets of a config to cache (default: all)")
    parser.add_argument("--root-path", type=Path, help="folder with data/, for a config from another machine")
    add_workers(parser)
    parser.add_argument(
        "--float16",
        action="store_true",
        help="store voxel grids in 16 bits: half the disk space, relative error at most 2^-11 (default: 32 bits, "
        "exact)",
    )
    parser.add_argument("--force", action="store_true", help="replace existing caches")
    add_config_options(parser)
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def settings_of_section(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a data set, from dotted keys of one section of ``data``.

    Raises:
        ConfigError: another key, or keys of several sections.
    """
    settings, found = {}, ""
    for key, value in options.items():
        section, _, name = key.removeprefix("data.").rpartition(".")
        if not key.startswith("data.") or section not in SECTIONS:
            raise ConfigError(f"--cfg-options {key}: for a manifest, give keys of a section, such as {EXAMPLE_KEY}")
        if found not in ("", section):
            raise ConfigError(
                f"--cfg-options {key}: keys of data.{found} were given too; make one cache of a manifest at a time"
            )
        settings[name], found = value, section
    return settings


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.config.data_root import use_root
    from mmseg.config.load import check_values, load_config
    from mmseg.preparation.caches import make_caches, make_manifest_cache

    if args.config.suffix == MANIFEST_SUFFIX:
        if args.root_path:
            raise ConfigError("--root-path is for configs; the paths of a manifest are relative to it")
        if args.sections:
            raise ConfigError("--sections is for configs; the keys in --cfg-options name the section of a manifest")
        settings = settings_of_section(args.cfg_options or {})
        folder = make_manifest_cache(args.config, settings, args.out, args.workers, args.force, args.float16)
        print(f"train with cache={str(folder)!r} in the sections of the config that read {args.config}")
        return
    config = load_config(args.config, args.cfg_options)
    check_values(config)
    if args.root_path:
        for line in use_root(config, args.root_path, args.cfg_options):
            print(f"note: {line}")
    made = make_caches(config, args.sections or SECTIONS, args.out, args.workers, args.force, args.float16)
    options = " ".join(f"data.{section}.cache={folder}" for section, folder in made.items())
    print(f"train with --cfg-options {options}" if options else "nothing of this config can be cached")
