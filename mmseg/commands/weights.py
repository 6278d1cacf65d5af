"""List, download and verify weights that have a name or an address."""

from __future__ import annotations

import argparse

from mmseg.apis.arguments import Parser, weight_file
from mmseg.errors import CheckpointError, did_you_mean
from mmseg.weights.archives import weights_in
from mmseg.weights.store import Stored, cache_folder, check_stored, fetch, stored, stored_files
from mmseg.weights.table import Reference, known_weights, reference_of


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="List, download and verify weights. list: names and their sources. fetch: download, unless it is "
        "in the cache, and print the path. verify: compare files in the cache with the SHA-256 that they arrived with. "
        "The cache is the folder CMDA_HOME, by default one of the platform. Whatever takes a weight file also takes a "
        "name or an address, and downloads it itself.",
        epilog="example: python tools/weights.py fetch mit_b5",
    )
    parser.add_argument("action", choices=("list", "fetch", "verify"), help="what to do")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        type=weight_file,
        help="name, https://..., or hf://<owner>/<repository>/<file>@<revision>; verify without one: all in the cache",
    )
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args()
    if args.action == "fetch" and not args.names:
        parser.error("fetch needs a name or an address; list shows the names")
    return args


def main() -> None:
    """Run the action."""
    args = parse_args()
    references = [_reference(name) for name in args.names]
    if args.action == "list":
        show(references or list(known_weights().values()))
    elif args.action == "fetch":
        for reference in references:
            found = fetch(reference)
            print(f"{weights_in(found.path)}\n    from {found.address}, {found.size:,} bytes, SHA-256 {found.sha256}")
    elif not verify(references):
        raise SystemExit(1)


def _reference(name: str) -> Reference:
    # Here a name is one even if a file has the same.
    reference = reference_of(name) or known_weights().get(name)
    if reference is None:
        raise CheckpointError(
            f"{name!r} is neither an address nor a known name{did_you_mean(name, known_weights())}; "
            f"known: {', '.join(known_weights())}"
        )
    return reference


def show(references: list[Reference]) -> None:
    """Print weights with their sources, in the order in which they are tried."""
    for reference in references:
        found = stored(reference)
        state = f" (in the cache, {found.size / 1e6:.1f} MB)" if found else ""
        print(f"{reference.text}: {reference.what}{state}")
        for source in reference.sources:
            print(f"    {source.text}{f' ({source.by_hand})' if source.by_hand else ''}")
    print(f"cache: {cache_folder()}")


def verify(references: list[Reference]) -> bool:
    """Print whether files of the cache are as they arrived, all of them by default; returns whether they are.

    Raises:
        CheckpointError: weights that are not in the cache.
    """
    missing = [reference.text for reference in references if stored(reference) is None]
    if missing:
        raise CheckpointError(f"{', '.join(missing)}: not in the cache; fetch it first")
    files: list[Stored] = [found for reference in references if (found := stored(reference))] or stored_files()
    if not files:
        print(f"the cache is empty: {cache_folder()}")
    faults = [check_stored(found) for found in files]
    for found, fault in zip(files, faults, strict=True):
        print(f"{found.address}: {fault or f'as it arrived, SHA-256 {found.sha256}'}")
    return not any(faults)
