"""Train one or several experiments, derived from base configs."""

from __future__ import annotations

import argparse
import re
import sys

from mmseg.apis.arguments import Parser, add_config_options, add_launcher, add_resume
from mmseg.launcher.flags import add_flags, given_flags, read_flags


def _seeds(text: str) -> list[int]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers, e.g. 0,1,2")
    return list(dict.fromkeys(int(seed) for seed in text.split(",")))


def _gpus(text: str) -> list[str]:
    gpus = text.split(",")
    if not all(re.fullmatch(r"[\w-]+", gpu) for gpu in gpus) or len(set(gpus)) < len(gpus):
        raise argparse.ArgumentTypeError(f"{text!r}: give distinct GPUs, e.g. 0,1,2")
    return gpus


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Derive a config from a base config and flags, write it to configs/generated/local-basic/ and "
        "train it in work_dirs/local-basic/<date>_<name>_<5 hex>/; or do so for several configs or seeds. Options and "
        "flags are accepted with hyphens or underscores.",
        usage="%(prog)s --base-config CONFIG --name NAME [--root-path FOLDER] [flags] [--cfg-options KEY=VALUE ...]\n"
        "       %(prog)s (--base-config CONFIG [CONFIG ...] | --exp NAME) [--seeds 0,1,2] [--gpus 0,1] [--dry-run] ...",
        epilog="example: python my_run_experiments.py --root-path . --base-config "
        "configs/fusion/cs2dsec_image+events_together_b5.py --name cmda_cs2dsec",
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--base-config", nargs="+", metavar="CONFIG", help="config, or several, to derive runs from")
    what.add_argument("--exp", metavar="NAME", help="list of experiments: configs/experiments/NAME.py, or a path")
    parser.add_argument("--name", help="name of the run; for several runs, prefix of their names")
    parser.add_argument("--root-path", help="folder with data/ and pretrained/ (default: paths as in the config)")
    add_resume(
        parser,
        "auto takes the newest run with this name and these settings, or starts from the beginning if there is none",
    )
    add_launcher(parser)
    add_config_options(parser)
    several = parser.add_argument_group(
        "several runs",
        "each in its own process; a failed run is reported and does not stop the others. Flags and --cfg-options apply "
        "to all runs.",
    )
    several.add_argument("--seeds", type=_seeds, metavar="N,N,...", help="train each config with these seeds")
    several.add_argument("--gpus", type=_gpus, metavar="N,N,...", help="use these GPUs, one run at a time on each")
    several.add_argument("--dry-run", action="store_true", help="show what would run; write nothing")
    add_flags(parser)
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args()
    if is_single(args) and not args.name:
        parser.error("the following arguments are required: --name")
    if args.launcher != "none" and not is_single(args):
        parser.error("--launcher works with a single run only")
    if args.seeds and (hasattr(args, "seed") or "seed" in args.cfg_options):
        parser.error("--seeds cannot be combined with a seed given by --seed or --cfg-options")
    return args


def is_single(args: argparse.Namespace) -> bool:
    """Whether one run is trained, in this process."""
    several = args.exp or args.seeds or args.gpus or args.dry_run or len(args.base_config) > 1
    return not several


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    flags = given_flags(args)
    read_flags(flags)
    if not is_single(args):
        launch_several(args, flags)
        return
    from mmseg.apis import plan_child, train
    from mmseg.config.load import config_of, dump_config
    from mmseg.parallel.agreement import broadcast_from_first
    from mmseg.parallel.distributed import process_group

    def planned() -> str:
        child = plan_child(args.base_config[0], args.name, args.root_path, args.cfg_options, flags, args.resume)
        child.check()
        for note in child.notes:
            print(f"note: {note}", file=sys.stderr)
        child.write()
        return dump_config(child.resolved)

    with process_group(args.launcher):
        # Run names are random and files may change, so all processes use what the first one read.
        train(config_of(broadcast_from_first(planned)), launcher=args.launcher)


def launch_several(args: argparse.Namespace, flags: dict) -> None:
    """Run or show several experiments, given by ``--exp``, several configs or several seeds.

    Raises:
        SystemExit: with status 1, if a run failed.
    """
    from mmseg.launcher import experiments as e
    from mmseg.launcher.running import run_all, show_summary
    from mmseg.system.console import steady_console

    # A file or a pipe has no width that limits a table.
    console = steady_console() if sys.stdout.isatty() else steady_console(width=250)
    if args.exp:
        chosen, seeds = e.named_experiments(args.exp)
    else:
        chosen, seeds = e.config_experiments(args.base_config), []
    runs = e.plan_runs(chosen, args.seeds or seeds, args.name, args.root_path, args.cfg_options, flags, args.resume)
    if args.dry_run:
        e.show_plan(runs, console)
        return
    try:
        run_all(runs, args.gpus or (), console)
    finally:
        all_done = show_summary(runs, console)
    if not all_done:
        raise SystemExit(1)
