"""Command lines: an example in every --help, and a suggestion for every misspelt option."""

import argparse
import re

import pytest
from helpers.command_tools import SCRIPTS, Command, parse, parser_of

from mmseg.apis.arguments import Parser


def misspelt(option: str) -> str:
    """The option with two neighbouring letters in the wrong order."""
    for i in range(len(option) // 2, len(option) - 1):
        if option[i : i + 2].isalpha() and option[i] != option[i + 1]:
            return option[:i] + option[i + 1] + option[i] + option[i + 2 :]
    return option[:-1] + "x"


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_help_has_an_example_that_parses(script, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    parser = parser_of(script)
    assert isinstance(parser, Parser)
    assert parser.epilog in parser.format_help().replace("\n", " ")
    assert re.match(r"examples?: python ", parser.epilog)
    for text in re.findall(r"(?:python|torchrun) [^;]*", parser.epilog):
        example = Command(script, text)
        assert example.script == script
        parse(script, example.arguments)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_misspelt_option_is_suggested(script, capsys):
    parser = parser_of(script)
    shown_actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    options = [option for action in shown_actions for option in action.option_strings if len(option) > 5]
    for option in options:
        with pytest.raises(SystemExit) as stopped:
            parser.parse_args([misspelt(option)])
        assert stopped.value.code == 2
        shown = capsys.readouterr().err
        assert shown.startswith("usage: ")
        assert f"there is no {misspelt(option)}, did you mean '{option}'?" in shown


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="script")
    parser.add_argument("name", nargs="?")
    parser.add_argument("-o", "--out-dir")
    parser.add_argument("--work_dir", required=True)
    parser.add_argument("--number", type=int)
    return parser


def message(parser: Parser, capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_what_is_missing_because_it_is_misspelt(parser, capsys):
    assert message(parser, capsys, "--work-dir", "x") == (
        "script: error: the following arguments are required: --work_dir; "
        "there is no --work-dir, did you mean '--work_dir'?"
    )


def test_values_and_one_dash(parser, capsys):
    shown = message(parser, capsys, "--work_dir=x", "--nubmer=3", "-work_dir")
    assert "there is no --nubmer, did you mean '--number'?" in shown
    assert "there is no -work_dir, did you mean '--work_dir'?" in shown


def test_nothing_is_suggested_where_nothing_is_near(parser, capsys):
    assert "mean" not in message(parser, capsys, "--work_dir", "x", "--zzz")
    # what argparse takes: abbreviations, values of short options, negative numbers, anything behind --
    for words in (("--work", "x"), ("-out", "--work_dir", "x"), ("--work_dir", "x", "--number", "-1")):
        parser.parse_args(words)
    assert parser.parse_args(["--work_dir", "x", "--", "--wrok_dir"]).name == "--wrok_dir"


def test_other_mistakes_keep_their_message(parser, capsys):
    assert message(parser, capsys, "--work_dir", "x", "--number", "one").endswith("invalid int value: 'one'")
