"""Count the classes of a labelled manifest, for rare class sampling."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg.apis.arguments import Parser
from mmseg.errors import DataError


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write sample_class_stats.json and samples_with_class.json of a manifest whose lines all have a "
        "label. Set data.train.source_json_root to their folder to train on the manifest as source.",
        epilog="example: python tools/manifest_statistics.py data/own/day.jsonl",
    )
    parser.add_argument("manifest", type=Path, help="manifest of a labelled source")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="output folder (default: that of the manifest)")
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.classes import CLASS_SETS
    from mmseg.datasets.manifest import read_manifest
    from mmseg.preparation.cityscapes import write_statistics
    from mmseg.preparation.manifests import count_classes

    statistics = count_classes(args.manifest)
    out = args.out or args.manifest.parent
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_statistics(out, statistics)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}); choose another --out") from error
    class_set = read_manifest(args.manifest).class_set
    names = CLASS_SETS[class_set].names if class_set in CLASS_SETS else ()
    label_ids = (
        range(len(names)) if names else sorted({label_id for counts in statistics.values() for label_id in counts})
    )
    for label_id in label_ids:
        pixels = [counts[label_id] for counts in statistics.values() if label_id in counts]
        name = names[label_id] if names else f"of {class_set}"
        print(f"{label_id:2} {name:14} {sum(pixels):14,} pixels in {len(pixels):,} images")
    print(f"class statistics of {len(statistics):,} images in {out}")
