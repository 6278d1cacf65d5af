"""Check a data root before training: files, counts, sizes, label values, recordings, lists, weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg.apis.arguments import Parser, add_config_options, add_workers
from mmseg.config.published import PROJECT_CONFIGS, TASKS
from mmseg.errors import DataError

MANIFEST_SUFFIX = ".jsonl"


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Check everything that training reads and print a table: check, found, expected, state, remedy. "
        "Exit status 1 if anything is wrong.",
        epilog="example: python tools/check_data.py cs2dsec --deep --workers 8",
    )
    parser.add_argument(
        "task",
        nargs="?",
        metavar="TASK",
        help=f"published config to check for ({' or '.join(TASKS)}; default: cs2dsec), or a manifest (.jsonl), whose "
        "lines are checked without a config",
    )
    parser.add_argument("--config", type=Path, help="any other config, instead of a task")
    parser.add_argument(
        "--root-path", type=Path, help="folder with data/ and pretrained/ (default: paths as in the config)"
    )
    parser.add_argument("--deep", action="store_true", help="read every pixel and event, not only names and headers")
    add_workers(parser, "number of processes for --deep")
    parser.add_argument(
        "--subset",
        action="store_true",
        help="the data is a part of the published data sets, or a toy city: counts and sizes are reported but not "
        "checked",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the findings to this file")
    add_config_options(parser)
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args()
    if args.task and args.config:
        parser.error("give a task or --config, not both")
    args.manifest = Path(args.task) if args.task and args.task.endswith(MANIFEST_SUFFIX) else None
    if args.manifest is None and args.task and args.task not in TASKS:
        known = f"{', '.join(TASKS)} nor a manifest (*{MANIFEST_SUFFIX})"
        parser.error(f"invalid choice: {args.task!r} is neither {known}; for a config, give --config FILE")
    if args.manifest and (args.root_path or set(args.cfg_options or {}) - {"classes"}):
        parser.error("a manifest takes no --root-path, and of --cfg-options only classes; the others go with --config")
    return args


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.checks.findings import findings_json, is_good, print_findings
    from mmseg.checks.run import check_data, check_manifest, summary
    from mmseg.config.class_sets import class_set
    from mmseg.config.data_root import use_root
    from mmseg.config.load import check_values, load_config
    from mmseg.io.files import write_text

    if args.manifest:
        path = args.manifest
        given = (args.cfg_options or {}).get("classes")
        findings = check_manifest(path, class_set(given) if given else None, args.deep, args.workers)
    else:
        path = args.config or PROJECT_CONFIGS[0] / TASKS[args.task or "cs2dsec"]
        config = load_config(path, args.cfg_options)
        check_values(config)
        if args.root_path:
            for line in use_root(config, args.root_path, args.cfg_options):
                print(f"note: {line}")
        findings = check_data(config, args.subset, args.deep, args.workers)
    print_findings(findings)
    if args.json:
        about = summary(path, args.root_path, args.deep, args.subset)
        try:
            write_text(args.json, findings_json(findings, dict(about)))
        except OSError as error:
            raise DataError(f"{args.json} cannot be written ({error.strerror}): choose another file") from None
    if not is_good(findings):
        raise SystemExit(1)
