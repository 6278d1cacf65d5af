"""Command-line arguments that several scripts share."""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, NoReturn

from mmseg.errors import ConfigError, address_remedy, did_you_mean
from mmseg.system.interpreter import check_version

# Every script imports this module first: an old Python shall say so before it meets what it does not understand.
check_version()


class Parser(argparse.ArgumentParser):
    """Parser of all scripts: of an option that does not exist, its error names the closest one that does; an address
    of the web is no path."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args=None, namespace=None):
        self._words = sys.argv[1:] if args is None else list(args)
        found, rest = super().parse_known_args(args, namespace)
        for name, given in vars(found).items():
            for value in given if isinstance(given, (list, tuple)) else [given]:
                remedy = address_remedy(value) if isinstance(value, (str, PurePath)) else ""
                if remedy:
                    raise ConfigError(f"{name} {value}: {remedy}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Print usage and message, with suggestions, and exit with status 2."""
        super().error("; ".join([message, *self._suggestions()]))

    def _suggestions(self) -> list[str]:
        known = self._option_string_actions
        shown = [option for option, action in known.items() if action.help != argparse.SUPPRESS]
        texts = []
        for word in self._words:
            if word == "--":
                break
            name = word.split("=")[0]
            # -1 is a number, -ofile the short option -o with its value
            if not re.match(r"--?[^\W\d]", name) or name in known or name[:2] in known:
                continue
            if self.allow_abbrev and any(option.startswith(name) for option in shown):
                continue
            suggestion = did_you_mean(name, shown)
            if suggestion:
                texts.append(f"there is no {name}{suggestion}")
        return texts


def parse_value(text: str) -> Any:
    """Read a Python literal, ``true``/``false``/``none`` in any case, or else a plain string."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # the last two where it nests deeply
        return text


def whole_number(least: int) -> Callable[[str], int]:
    """Argument type: a whole number of at least ``least``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least {least}")
        return number

    return parse


class KeyValueAction(argparse.Action):
    """Collect ``a.b.c=value`` arguments into a dictionary of dotted keys."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for item in values:
            key, separator, value = item.partition("=")
            if not separator or not key:
                parser.error(f"{option_string} takes key=value, got {item!r}")
            options[key] = parse_value(value)
        setattr(namespace, self.dest, options)


# pixels a side that the encoders need
LEAST_SIDE = 32
# what a network can compute in, as of mmseg.engine.numerics, which would import torch
PRECISION_NAMES = ("fp32", "tf32", "bf16", "fp16")
# what may start the processes of a training
LAUNCHERS = ("none", "pytorch", "slurm")


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add ``--launcher``."""
    parser.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default="none",
        help="what started the processes of a training on several GPUs: torchrun (pytorch) or srun (default: none)",
    )


def add_resume(parser: argparse.ArgumentParser, auto: str) -> None:
    """Add ``--resume``.

    Args:
        auto: what ``auto`` means.
    """
    parser.add_argument(
        "--resume",
        metavar="auto|PATH",
        help=f"go on with a training that was stopped: {auto}; or a checkpoint or work dir",
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=KeyValueAction,
        default={},
        metavar="KEY=VALUE",
        help="set any config key, e.g. runner.max_iters=100 'data.train.source.image_crop_size=(256,256)'",
    )


def add_test_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``my_test.py`` and ``tools/test.py`` share."""
    parser.add_argument(
        "--model", choices=("student", "teacher"), default="student", help="whose weights to test (default: student)"
    )
    parser.add_argument(
        "--output",
        choices=("fusion", "image", "events", "fusion_isr", "fusion_all"),
        help="fusion, image, events, fusion_isr or fusion_all (default: fusion with events where there are any, else "
        "image)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISION_NAMES,
        default="fp32",
        help="of the network; tf32 and fp16 need a GPU (default: %(default)s)",
    )
    parser.add_argument(
        "--image_isr",
        action="store_true",
        help="Dark Zurich: test image and content map, fused, in place of the image alone",
    )
    parser.add_argument(
        "--split",
        choices=("val", "test"),
        help="Dark Zurich: val gives scores, test a submission for the evaluation server (default: the config's, val)",
    )
    parser.add_argument(
        "--train_isr_parms",
        action="store_true",
        help="extract content maps with the parameters of the training (default: those of the published tests)",
    )
    parser.add_argument("--root_path", help="folder with data/ and pretrained/, for a config of another machine")
    parser.add_argument("--no_panels", action="store_true", help="write no panels image | events | prediction | label")
    add_config_options(parser)


def test_options(args: argparse.Namespace) -> dict[str, Any]:
    """What :func:`add_test_options` added, as arguments of ``mmseg.apis.test``."""
    return {
        "model": args.model,
        "output": args.output,
        "precision": args.precision,
        "root_path": args.root_path,
        "cfg_options": args.cfg_options,
        "panels": not args.no_panels,
        "split": args.split,
        "image_isr": args.image_isr,
        "train_isr_parms": args.train_isr_parms,
    }
