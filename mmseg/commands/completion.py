"""Print what makes a shell complete the commands of ``cmda``, their options and values."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmseg.apis.arguments import Parser
from mmseg.commands.main import OWN, module_of, summary_of
from mmseg.config.published import TASKS, published_configs
from mmseg.system.program import SCRIPTS, spelled

SHELLS = ("bash", "zsh", "fish")
# Arguments that take the name of a published config, or a path
CONFIG_ARGUMENTS = ("config", "base_config")


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Print a script that makes a shell complete cmda: its commands, their options, and the values that "
        "these take. bash: source it. zsh: write it to a file _cmda in a folder of fpath. fish: write it to "
        "~/.config/fish/completions/cmda.fish.",
        epilog="example: cmda completion bash",
    )
    parser.add_argument("shell", choices=SHELLS, help="shell to complete in")
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Print the script."""
    args = parse_args()
    write = {"bash": bash, "zsh": zsh, "fish": fish}[args.shell]
    print(write([read_command(name) for name in (*SCRIPTS, *OWN)]))


@dataclass(frozen=True)
class Argument:
    """An option, or a positional argument.

    Attributes:
        names: ``--work-dir`` and so on; none for a positional argument.
        help: one line.
        takes: how many values: 0, 1, or 2 for any number.
        words: its values, if they are known.
        files: whether a path is a value too.
    """

    names: tuple[str, ...]
    help: str
    takes: int
    words: tuple[str, ...]
    files: bool


@dataclass(frozen=True)
class Command:
    """A command with its options and its positional arguments."""

    name: str
    summary: str
    options: tuple[Argument, ...]
    positional: tuple[Argument, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """Values of positional arguments, in any place."""
        return tuple(word for argument in self.positional for word in argument.words)


def read_command(name: str) -> Command:
    """A command as its parser describes it."""
    shown = [action for action in module_of(name).make_parser()._actions if action.help != argparse.SUPPRESS]
    arguments = [_argument(action) for action in shown]
    options = tuple(argument for argument in arguments if argument.names)
    return Command(name, summary_of(name), options, tuple(argument for argument in arguments if not argument.names))


def _argument(action: argparse.Action) -> Argument:
    takes = {0: 0, None: 1, 1: 1, "?": 1}.get(action.nargs, 2)
    words = tuple(map(str, action.choices or ()))
    is_config = action.dest in CONFIG_ARGUMENTS
    if is_config:
        words = (*TASKS, *published_configs())
    # help holds %-formats for its defaults
    text = re.sub(r" *\([^()]*%\([^()]*\)[^()]*\)", "", action.help or "").replace("%%", "%")
    return Argument(tuple(action.option_strings), spelled(text), takes, words, is_config or (not words and takes > 0))


# ---------------------------------------------------------------------------------------------------- bash


def bash(commands: Sequence[Command]) -> str:
    """Completion for bash. Where it offers no word, bash offers files."""
    lines = [
        "# completion of cmda in bash",
        "_cmda() {",
        '  local current="${COMP_WORDS[COMP_CWORD]}" command="${COMP_WORDS[1]}" option="" place words="" values=""',
        '  if [ "$COMP_CWORD" -eq 1 ]; then',
        f'    COMPREPLY=($(compgen -W {_quoted([*(c.name for c in commands), "--help", "--version"])} -- "$current"))',
        "    return",
        "  fi",
        "  # the option whose value the cursor is at, and the words behind it",
        "  for ((place = COMP_CWORD - 1; place > 1; place--)); do",
        '    case "${COMP_WORDS[place]}" in -*) option="${COMP_WORDS[place]}"; break ;; esac',
        "  done",
        '  case "$command" in',
    ]
    for command in commands:
        names = [name for option in command.options for name in option.names]
        lines += [f"    {command.name})", f"      words={_quoted(command.words)}", f"      options={_quoted(names)}"]
        lines += ['      case "$option" in', *_bash_values(command.options), "      esac ;;"]
    lines += [
        "  esac",
        '  case "$values" in',
        '    one:*) [ "$place" -eq $((COMP_CWORD - 1)) ] && words="${values#one:}" ;;',
        '    any:*) words="${values#any:}" ;;',
        "  esac",
        '  case "$current" in -*) words="$options" ;; esac',
        '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -o bashdefault -F _cmda cmda",
    ]
    return "\n".join(lines)


def _bash_values(options: Sequence[Argument]) -> Iterator[str]:
    for option in options:
        if option.takes:
            kind = "one" if option.takes == 1 else "any"
            yield f"        {'|'.join(option.names)}) values={_quoted([f'{kind}:', *option.words])} ;;"


def _quoted(words: Sequence[str]) -> str:
    return shlex.quote(" ".join(words))


# ----------------------------------------------------------------------------------------------------- zsh


def zsh(commands: Sequence[Command]) -> str:
    """Completion for zsh."""
    lines = ["#compdef cmda", "_cmda() {", "  local -a commands", "  commands=("]
    lines += [f"    {shlex.quote(f'{command.name}:{command.summary}')}" for command in commands]
    lines += [
        "  )",
        "  if (( CURRENT == 2 )); then",
        "    _describe command commands",
        "    return",
        "  fi",
        "  local command=$words[2]",
        "  shift words",
        "  (( CURRENT-- ))",
        "  case $command in",
    ]
    for command in commands:
        specs = [spec for argument in (*command.options, *command.positional[:1]) for spec in _zsh_specs(argument)]
        lines += [f"    {command.name})", "      _arguments -S \\"]
        lines += [f"        {shlex.quote(spec)} \\" for spec in specs[:-1]]
        lines += [f"        {shlex.quote(spec)} ;;" for spec in specs[-1:]]
    return "\n".join([*lines, "  esac", "}", '_cmda "$@"'])


def _zsh_specs(argument: Argument) -> Iterator[str]:
    words = " ".join(argument.words)
    action = f"({words})" if words else "_files"
    if words and argument.files:
        action = f' _alternative "words\\:config\\:({words})" "files\\:file\\:_files"'
    if not argument.names:
        yield f"*:argument:{action}"
    for name in argument.names:
        text = re.sub(r"([\[\]:\\])", r"\\\1", argument.help)
        yield f"{name}[{text}]" + (f":value:{action}" if argument.takes else "")


# ---------------------------------------------------------------------------------------------------- fish


def fish(commands: Sequence[Command]) -> str:
    """Completion for fish."""
    lines = [
        "# completion of cmda in fish",
        "function __cmda_runs",
        "    set -l words (commandline -opc)",
        "    test (count $words) -gt 1; and test $words[2] = $argv[1]",
        "end",
        "function __cmda_begins",
        "    test (count (commandline -opc)) -eq 1",
        "end",
    ]
    for command in commands:
        lines.append(f"complete -c cmda -n __cmda_begins -f -a {command.name} -d {_fish_text(command.summary)}")
        start = f"complete -c cmda -n '__cmda_runs {command.name}'"
        for option in command.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            value = (" -r" if option.files else " -x") if option.takes else ""
            words = f" -a {_fish_text(' '.join(option.words))}" if option.words else ""
            lines.append(f"{start} {names}{value}{words} -d {_fish_text(option.help)}")
        if command.words:
            lines.append(f"{start} -a {_fish_text(' '.join(command.words))}")
    return "\n".join(lines)


def _fish_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
