"""Command lines as the documentation has them: found, told apart, parsed and run in this process."""

import argparse
import importlib.util
import re
import shlex
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from mmseg.apis.arguments import Parser
from mmseg.commands.main import module_of
from mmseg.system.program import SCRIPTS as COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.py", "tools/**/*.py", "benchmarks/*.py")
    for path in ROOT.glob(pattern)
    if path.relative_to(ROOT).as_posix() in COMMANDS.values() or "def parse_args" in path.read_text(encoding="utf-8")
)
STARTERS = ("python", "torchrun", "srun", "make", "cmda")
# what lines that begin with "..." continue
LAUNCHER = "python my_run_experiments.py --base-config CONFIG --name NAME"


@dataclass(frozen=True)
class Command:
    """A command of a document; placeholders ``<...>`` are still in its text."""

    document: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(re.sub(r"<[^>]*>", "placeholder", self.text), comments=True)

    @property
    def script(self) -> str | None:
        """The script of the repository whose code it runs, if it does."""
        if "cmda" in self.words:
            return COMMANDS.get(self.words[self.words.index("cmda") + 1])
        return next((word for word in self.words if word.endswith(".py")), None)

    @property
    def arguments(self) -> list[str]:
        if "cmda" in self.words:
            return self.words[self.words.index("cmda") + 2 :]
        return self.words[self.words.index(self.script) + 1 :]


def fenced_blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return re.findall(r"^```([\w-]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands_of(path: Path) -> list[Command]:
    """Commands in the fenced blocks of a document."""
    found = []
    for language, block in fenced_blocks(path.read_text(encoding="utf-8")):
        if language not in ("", "sh", "bash"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().replace("...", LAUNCHER) if line.startswith("... ") else line.strip()
            if line.startswith(tuple(f"{name} " for name in STARTERS)):
                found.append(Command(path.relative_to(ROOT).as_posix(), line))
    return found


@cache
def load_script(script: str) -> ModuleType:
    """The module with the code of a script: that of its command, else the script itself."""
    if script in COMMANDS.values():
        return module_of(next(name for name, known in COMMANDS.items() if known == script))
    spec = importlib.util.spec_from_file_location(f"script_{re.sub(r'[/.]', '_', script)}", ROOT / script)
    module = importlib.util.module_from_spec(spec)
    # dataclasses of a script look themselves up there
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str((ROOT / script).parent))
        spec.loader.exec_module(module)
    return module


def parser_of(script: str) -> Parser:
    """The parser that a script makes."""

    class Made(Exception):
        pass

    def stop(parser, *_):
        raise Made(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Made) as made:
            load_script(script).parse_args()
    return made.value.args[0]


def parse(script: str, arguments: list[str]):
    """What a script reads from its arguments.

    Raises:
        SystemExit: its parser refuses them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments])
        return load_script(script).parse_args()
