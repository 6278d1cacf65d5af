"""The command ``cmda``: runs the module of the command that its first word names."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import mmseg
from mmseg.apis.arguments import Parser
from mmseg.errors import did_you_mean, run_as_script
from mmseg.system.program import GROUPS, SCRIPTS, start_as

# Commands that are no script.
OWN = {"configs": "list the published configs", "completion": "print what makes a shell complete commands"}
WIDTH = 26


def main() -> None:
    """Entry point of ``cmda``."""
    run_as_script(_run)


def _run() -> None:
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_text())
        return
    if words[0] in ("-V", "--version"):
        print(f"cmda {mmseg.__version__}")
        return
    name = command_named(words[0])
    if name is None:
        start_as("")
        hint = did_you_mean(words[0], [*SCRIPTS, *OWN])
        Parser(usage="cmda COMMAND ...").error(f"there is no command {words[0]!r}{hint}; cmda --help lists them")
    start_as(name)
    sys.argv[1:] = words[1:]
    module_of(name).main()


def command_named(word: str) -> str | None:
    """The command that a word names: by its own name, or by that of its script, with hyphens or underscores."""
    name = word.replace("_", "-")
    of_scripts = {Path(script).stem.replace("_", "-"): command for command, script in SCRIPTS.items()}
    return name if name in SCRIPTS or name in OWN else of_scripts.get(name.removesuffix(".py"))


def module_of(name: str) -> ModuleType:
    """Module of a command, with ``make_parser``, ``parse_args`` and ``main``."""
    return import_module(f"mmseg.commands.{name.replace('-', '_')}")


def summary_of(name: str) -> str:
    """What a command does: the first line of its module's docstring, which is not imported."""
    path = Path(__file__).with_name(f"{name.replace('-', '_')}.py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0].rstrip(".").replace("``", "")


def help_text() -> str:
    """What ``cmda --help`` shows."""
    lines = ["usage: cmda COMMAND ...", "", "CMDA: night-time semantic segmentation with an event camera."]
    for title, names in [*GROUPS.items(), ("other", OWN)]:
        lines += ["", f"{title}:"]
        lines += [f"  {name:{WIDTH}}{summary_of(name)}" for name in names]
    lines += [
        "",
        "cmda COMMAND --help shows the options of a command; cmda --version the version.",
        "A config is given by its name (cmda configs lists them) or by its path.",
        "example: cmda demo --size tiny",
    ]
    return "\n".join(lines)
