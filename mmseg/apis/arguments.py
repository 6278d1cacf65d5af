"""Command-line arguments shared by the scripts, and the parser that all of them use."""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, NoReturn

from mmseg.config.augmentation import TestTimeAugmentation
from mmseg.config.components import LEAST_SIDE as LEAST_SIDE
from mmseg.errors import CheckpointError, ConfigError, address_remedy, did_you_mean
from mmseg.system.extensions import allow_extensions
from mmseg.system.interpreter import check_version
from mmseg.system.program import name_of_program, spelled
from mmseg.weights.table import reference_of

# Every script imports this module first, so an old Python is reported before it fails on newer syntax.
check_version()


class ImageSize:
    """Argument type: ``HxW`` in pixels, read as ``(height, width)``.

    Args:
        least: smallest height and width.
        former_order: order of the two separate numbers that the option took in earlier versions, ``"HW"`` or
            ``"WH"``; they are still accepted.
    """

    def __init__(self, least: int, former_order: str = "") -> None:
        self.least = least
        self.former_order = former_order

    def __call__(self, text: str) -> tuple[int, int]:
        match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
        size = (int(match[1]), int(match[2])) if match else (-1, -1)
        if min(size) < self.least:
            raise argparse.ArgumentTypeError(
                f"{text!r}: give <height>x<width>, each at least {self.least} pixels, e.g. 440x640"
            )
        return size

    def joined(self, words: Sequence[str]) -> str:
        """The two numbers of the former spelling as one word; an empty string if the words are something else."""
        if not self.former_order or len(words) < 2 or not all(re.fullmatch("[0-9]+", word) for word in words[:2]):
            return ""
        first, second = words[:2]
        return f"{first}x{second}" if self.former_order == "HW" else f"{second}x{first}"


class SensorSize(ImageSize):
    """Argument type: ``WxH``, the width of an event camera first, as its data sheet has it; read as (height, width).

    Two separate numbers are accepted as well.
    """

    def __call__(self, text: str) -> tuple[int, int]:
        try:
            width, height = super().__call__(text)
        except argparse.ArgumentTypeError:
            raise argparse.ArgumentTypeError(
                f"{text!r}: give <width>x<height>, each at least {self.least} pixels, e.g. 1280x720"
            ) from None
        return height, width

    def joined(self, words: Sequence[str]) -> str:
        """See :meth:`ImageSize.joined`."""
        pair = words[:2]
        return "x".join(pair) if len(pair) == 2 and all(re.fullmatch("[0-9]+", word) for word in pair) else ""


def weight_file(text: str) -> str:
    """Argument type: weights by path, address or name, see :func:`mmseg.weights.store.local_file`."""
    try:
        reference_of(text)
    except CheckpointError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def picture_source(text: str) -> str:
    """Argument type: pictures by path or pattern, the number of a camera, or the address of a stream."""
    return text


# Types of arguments that take web addresses too.
TAKE_ADDRESSES = (weight_file, picture_source)


class DefaultsHelp(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults of options that have one and take a value."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """The parser of all scripts.

    - Every option is accepted with hyphens and with underscores (``--work-dir``, ``--work_dir``), and so are the
      ``former`` names of :meth:`add_argument`. Help shows the name that the script gives.
    - The error for an unknown option suggests the closest known one.
    - A web address in place of a path is refused, except where the type is one of :data:`TAKE_ADDRESSES`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._words: Sequence[str] = ()
        # former name -> name
        self._former: dict[str, str] = {}
        super().__init__(*args, **{"prog": name_of_program(), **kwargs})

    def add_argument(self, *names: str, former: Sequence[str] = (), **kwargs: Any) -> argparse.Action:
        """As in argparse.

        Args:
            former: names of the option in earlier versions, accepted but not shown.
        """
        action = super().add_argument(*names, **kwargs)
        self._former |= dict.fromkeys(former, action.option_strings[-1] if former else "")
        return action

    def parse_known_args(self, args=None, namespace=None):
        self._words = sys.argv[1:] if args is None else list(args)
        found, rest = super().parse_known_args(self._current_spelling(self._words), namespace)
        addressed = {action.dest for action in self._actions if action.type in TAKE_ADDRESSES}
        for name, given in vars(found).items():
            if name in addressed:
                continue
            for value in given if isinstance(given, (list, tuple)) else [given]:
                remedy = address_remedy(value) if isinstance(value, (str, PurePath)) else ""
                if remedy:
                    raise ConfigError(f"{name} {value}: {remedy}")
        return found, rest

    def _current_spelling(self, words: Sequence[str]) -> list[str]:
        """The words with every option under the name that argparse knows."""
        spelled: list[str] = []
        left = list(words)
        while left:
            word = left.pop(0)
            if word == "--":
                return [*spelled, word, *left]
            name, equals, value = word.partition("=")
            name = self._current_name(name)
            action = self._option_string_actions.get(name)
            if action and not equals and isinstance(action.type, ImageSize):
                size = action.type.joined(left)
                if size:
                    equals, value, left = "=", size, left[2:]
            spelled.append(f"{name}{equals}{value}")
        return spelled

    def _current_name(self, name: str) -> str:
        """The known name of an option in any spelling, former or abbreviated; other words as they are."""
        known = self._option_string_actions
        if not name.startswith("--") or name in known:
            return name
        folded = _folded(name)
        options = {_folded(option): option for option in known if option.startswith("--")}
        everything = {**{_folded(option): new for option, new in self._former.items()}, **options}
        if folded in everything:
            return everything[folded]
        if not self.allow_abbrev:
            return name
        # An abbreviation of an option that argparse itself finds takes precedence over one of a former name.
        for table in (options, everything):
            meant = {option for spelling, option in table.items() if spelling.startswith(folded)}
            if meant:
                return meant.pop() if len(meant) == 1 else name
        return name

    def format_help(self) -> str:
        """The help; examples are commands of ``cmda`` where it runs."""
        epilog = self.epilog
        try:
            # before the lines are broken
            self.epilog = spelled(epilog) if epilog else epilog
            return spelled(super().format_help())
        finally:
            self.epilog = epilog

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
            name = self._current_name(word.split("=")[0])
            # -1 is a number, -ofile the short option -o with its value
            if not re.match(r"--?[^\W\d]", name) or name in known or name[:2] in known:
                continue
            if self.allow_abbrev and any(_folded(option).startswith(_folded(name)) for option in shown):
                continue
            suggestion = did_you_mean(name, shown)
            if suggestion:
                texts.append(f"there is no {name}{suggestion}")
        return texts


def _folded(option: str) -> str:
    return option.replace("_", "-")


def parse_value(text: str) -> Any:
    """Read a Python literal, ``true``/``false``/``none`` in any case, or else a plain string.

    ``dict(a=1)`` is a literal too. Nothing is run.
    """
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(_Dicts().visit(ast.parse(text.strip(), mode="eval")))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # the last two: deep nesting
        return text


class _Dicts(ast.NodeTransformer):
    """``dict(a=1)`` as ``{"a": 1}``."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        names = [keyword.arg for keyword in node.keywords]
        named_once = None not in names and len(set(names)) == len(names)
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or node.args or not named_once:
            return node  # which is no literal
        return ast.Dict([ast.Constant(name) for name in names], [keyword.value for keyword in node.keywords])


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


def usable_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class KeyValueAction(argparse.Action):
    """Collect ``a.b.c=value`` arguments in a dictionary of dotted keys."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        options = dict(getattr(namespace, self.dest) or {})
        for item in values:
            key, separator, value = item.partition("=")
            if not separator or not key:
                parser.error(f"{option_string} takes key=value, got {item!r}")
            options[key] = parse_value(value)
        setattr(namespace, self.dest, options)


# Number formats a network can compute in, as in mmseg.engine.numerics, which would import torch
PRECISION_NAMES = ("fp32", "tf32", "bf16", "fp16")
# What may start the processes of a training
LAUNCHERS = ("none", "pytorch", "slurm")
# Outputs of a network that can be tested
OUTPUT_NAMES = ("fusion", "image", "events", "fusion_isr", "fusion_all")


def add_workers(parser: Parser, text: str = "number of processes", default: int = 1) -> None:
    """Add ``--workers``.

    Args:
        text: its help.
    """
    parser.add_argument(
        "--workers",
        type=whole_number(1),
        default=default,
        metavar="N",
        help=f"{text} (default: %(default)s)",
        former=("--nproc", "--jobs"),
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add ``--launcher``."""
    parser.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default="none",
        help="what started the processes of a training on several GPUs: torchrun (pytorch) or srun (slurm) (default: "
        "none)",
    )


def add_resume(parser: argparse.ArgumentParser, auto: str) -> None:
    """Add ``--resume``.

    Args:
        auto: what ``auto`` means.
    """
    parser.add_argument(
        "--resume",
        type=weight_file,
        metavar="auto|PATH",
        help=f"resume a training: {auto}; or give a checkpoint or work dir",
    )


def add_config_options(parser: argparse._ActionsContainer) -> None:
    """Add ``--cfg-options``."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=KeyValueAction,
        default={},
        metavar="KEY=VALUE",
        help="override config keys, e.g. runner.max_iters=100 'data.train.source.image_crop_size=(256,256)'",
    )
    parser.add_argument(
        "--allow-custom-imports",
        action=AllowCustomImports,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        help="import the modules that a .json config or a checkpoint names in custom_imports: they run code",
    )


class AllowCustomImports(argparse.Action):
    """Give consent to ``custom_imports`` of configs that are read as data."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        allow_extensions()


def add_content_map_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--train-isr-parms``."""
    parser.add_argument(
        "--train-isr-parms",
        action="store_true",
        help="extract content maps with the parameters of training (default: those of the published tests)",
    )


def augmentation(text: str) -> str:
    """Argument type: what ``--tta`` takes, in the one way in which it is written."""
    try:
        found = TestTimeAugmentation.parse(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--tta ")) from None
    return found.name if found else ""


def add_augmentation_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--tta``."""
    parser.add_argument(
        "--tta",
        type=augmentation,
        metavar="flip,SCALE,...",
        help="test-time augmentation: average the probabilities of mirrored inputs and of these scales, e.g. flip or "
        "flip,0.75,1.0,1.25 (2 and 6.2 times the time; docs/test.md)",
    )


def add_test_options(parser: Parser) -> None:
    """Add the options that ``my_test.py`` and ``tools/test.py`` share."""
    parser.add_argument(
        "--model", choices=("student", "teacher"), default="student", help="weights to test (default: student)"
    )
    parser.add_argument(
        "--output",
        choices=OUTPUT_NAMES,
        help="output of the network to test (default: fusion if the config uses events, else image)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISION_NAMES,
        default="fp32",
        help="number format of the network; tf32 and fp16 need a GPU (default: %(default)s)",
    )
    parser.add_argument(
        "--image-isr",
        action="store_true",
        help="Dark Zurich: test the fusion of image and content map instead of the image only",
    )
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--manifest",
        metavar="FILE",
        help="test on the images of this manifest instead of the config's test set (docs/test.md)",
    )
    images.add_argument(
        "--split",
        choices=("val", "test", "train"),
        help="train: pseudo-labels of the images that the training adapts to; Dark Zurich: val gives scores, test a "
        "submission in the format of the evaluation server, which has taken none since January 2026 (default: the "
        "config's test set)",
    )
    add_content_map_option(parser)
    add_augmentation_option(parser)
    parser.add_argument(
        "--without",
        choices=("events", "image"),
        help="zeros in place of a modality, as if it failed; shows how far scores fall",
    )
    parser.add_argument(
        "--pseudo-labels",
        action="store_true",
        help="write label, confidence and overlay of every image, with or without labels, and no scores; goes on where "
        "an earlier run stopped",
    )
    parser.add_argument("--root-path", help="folder with data/ and pretrained/, for a config from another machine")
    parser.add_argument(
        "--no-panels", action="store_true", help="do not write panels (image | events | prediction | label)"
    )
    add_config_options(parser)


def test_options(args: argparse.Namespace) -> dict[str, Any]:
    """Values of :func:`add_test_options` as arguments of ``mmseg.apis.test``."""
    return {
        "model": args.model,
        "output": args.output,
        "precision": args.precision,
        "root_path": args.root_path,
        "cfg_options": args.cfg_options,
        "panels": not args.no_panels,
        "split": args.split,
        "manifest": args.manifest,
        "image_isr": args.image_isr,
        "train_isr_parms": args.train_isr_parms,
        "tta": args.tta,
        "without": args.without,
        "pseudo_labels": args.pseudo_labels,
    }
