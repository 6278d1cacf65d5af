"""Command lines: quick help with an example that parses, every spelling of an option, suggestions for misspelt ones."""

import argparse
import json
import re
import resource
import subprocess
import sys

import pytest
from helpers.command_tools import ROOT, SCRIPTS, Command, parse, parser_of

from mmseg.apis.arguments import ImageSize, Parser, add_workers

# imports the libraries that it measures
HEAVY_SCRIPTS = {"benchmarks/data_speed.py"}
HEAVY_MODULES = ("torch", "numpy", "cv2", "PIL", "h5py", "numba", "mmengine")


def misspelt(option: str) -> str:
    """The option with two neighbouring letters in the wrong order."""
    for i in range(len(option) // 2, len(option) - 1):
        if option[i : i + 2].isalpha() and option[i] != option[i + 1]:
            return option[:i] + option[i + 1] + option[i] + option[i + 2 :]
    return option[:-1] + "x"


@pytest.mark.parametrize("script", sorted(set(SCRIPTS) - HEAVY_SCRIPTS))
def test_help_is_quick_and_light(script):
    """Processor time, so that a busy machine does not decide."""
    code = (
        "import json, runpy, sys\n"
        f"sys.argv = [{script!r}, '--help']\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    status = end.code\n"
        f"print(json.dumps([status, [name for name in {HEAVY_MODULES} if name in sys.modules]]))\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.startswith("usage: ")
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


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


# ------------------------------------------------------------------------------------------- spellings


def read(parser: Parser, *words: str) -> dict | None:
    """What a parser reads, whatever it requires besides; None if it refuses the words."""
    for action in parser._actions:
        action.required = False
    for group in parser._mutually_exclusive_groups:
        group.required = False
    try:
        return vars(parser.parse_args(words))
    except SystemExit:
        return None


def test_help_spells_options_one_way():
    """With hyphens, except for the launcher's flags, which keep the names of the publication."""
    for script in SCRIPTS:
        for action in parser_of(script)._actions:
            if action.help == argparse.SUPPRESS or action.container.title in launcher_groups():
                continue
            assert not any("_" in option for option in action.option_strings), (script, action.option_strings)


def launcher_groups() -> set[str]:
    from mmseg.launcher.flags import GROUPS

    return set(GROUPS.values())


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_option_in_both_spellings(script, capsys):
    for action in parser_of(script)._actions:
        for option in action.option_strings:
            other = "--" + (option[2:].replace("-", "_") if "-" in option[2:] else option[2:].replace("_", "-"))
            if not option.startswith("--") or other == option or (action.nargs == 0 and option == "--help"):
                continue
            for value in ([], ["x"], ["64x64"], ["64"], ["0.5"], ["key=1"], [*(action.choices or [])][:1]):
                expected = read(parser_of(script), option, *value)
                if expected is not None:
                    assert read(parser_of(script), other, *value) == expected
                    if value:
                        assert read(parser_of(script), f"{other}={value[0]}") == expected
                    break
            else:
                pytest.fail(f"no value found for {option}")
            assert other not in parser_of(script).format_help()


# options of earlier versions and of the publication -> the words of today
FORMER = [
    ("my_test.py", "--work_dir x --root_path y --image_isr --train_isr_parms --no_panels", "--work-dir x --root-path y "
     "--image-isr --train-isr-parms --no-panels"),
    ("my_run_experiments.py", "--root_path . --base_config x --name n --dry_run --batch_size 1 --train_size 4-4",
     "--root-path . --base-config x --name n --dry-run --batch-size 1 --train-size 4-4"),
    ("create_dsec_dataset_txt.py", "--root_dir x --out_dir y", "--root-dir x --out y"),
    ("tools/convert_datasets/cityscapes.py", "x --gt-dir y --out-dir z --nproc 2", "x --gt-dir y -o z --workers 2"),
    ("tools/test.py", "x y --out-dir z", "x y --out z"),
    ("tools/export.py", "--work-dir x --out-dir y --size 440 640", "--work-dir x --out y --size 440x640"),
    ("tools/infer.py", "--work_dir x --out y --resize 440 640 z", "--work-dir x --out y --resize 440x640 z"),
    ("tools/cache_events.py", "--nproc 2 --root_path x", "--workers 2 --root-path x"),
    ("tools/check_data.py", "--nproc 2 --root_path x", "--workers 2 --root-path x"),
    ("tools/check_submission.py", "x --dataset_path y", "x --dataset-path y"),
    ("tools/make_image_change.py", "x --nproc 2 --out_dir y --sequence_dir z --stop_at_first", "x --workers 2 --out y "
     "--sequence-dir z --stop-at-first"),
    ("tools/warp_images.py", "x --nproc 2 --out_dir y --check_picture z --stop_at_first", "x --workers 2 --out y "
     "--check-picture z --stop-at-first"),
    ("tools/make_style_transfer_data.py", "x --nproc 2 --size 100 200 --day-size 300 400 --night-size 500 600",
     "x --workers 2 --size 200x100 --day-size 400x300 --night-size 600x500"),
    ("tools/make_toy_data.py", "x --jobs 2", "x --workers 2"),
    ("benchmarks/toy_adaptation.py", "--jobs 2", "--workers 2"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "former", "words"), FORMER)
def test_former_spellings(script, former, words):
    assert parse(script, former.split()) == parse(script, words.split())


def test_sides_of_a_toy_image():
    args = parse("tools/make_toy_data.py", ["x", "--day-width", "512", "--day-height", "256"])
    assert (args.day_height, args.day_width) == (256, 512)
    assert parse("tools/make_toy_data.py", ["x", "--day-size", "256x512"]).day_size == (256, 512)


@pytest.mark.parametrize(
    ("script", "words", "name", "value"),
    [
        ("tools/warp_images.py", "x --np 2", "workers", 2),
        ("tools/warp_images.py", "x --nproc=2", "workers", 2),
        ("tools/test.py", "x --out-d y", "out", "y"),
        ("my_test.py", "--work_d x", "work_dir", "x"),
        ("my_test.py", "--work x --out image", "output", "image"),
        ("tools/train.py", "x --work=y", "work_dir", "y"),
        ("tools/make_image_change.py", "x --out_d y", "out", "y"),
        ("tools/make_image_change.py", "x --stop_at", "stop_at_first", True),
    ],
)
def test_abbreviations(script, words, name, value):
    assert getattr(parse(script, words.split()), name) == value


@pytest.mark.parametrize("text", ["440", "440x", "x640", "440X640", "440,640", "-1x64", "440x16", "440x1000000", "٤x٤"])
def test_sizes_that_are_refused(text, capsys):
    parser = Parser(prog="script")
    parser.add_argument("--size", type=ImageSize(32))
    assert read(parser, f"--size={text}") is None
    assert "give <height>x<width>, each at least 32 pixels" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------- suggestions


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
    parser.add_argument("-o", "--out", former=("--out-dir",))
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--number", type=int)
    return parser


def message(parser: Parser, capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_what_is_missing_because_it_is_misspelt(parser, capsys):
    assert message(parser, capsys, "--wrok_dir", "x") == (
        "script: error: the following arguments are required: --work-dir; "
        "there is no --wrok_dir, did you mean '--work-dir'?"
    )


def test_values_and_one_dash(parser, capsys):
    shown = message(parser, capsys, "--work_dir=x", "--nubmer=3", "-work-dir")
    assert "there is no --nubmer, did you mean '--number'?" in shown
    assert "there is no -work-dir, did you mean '--work-dir'?" in shown


def test_nothing_is_suggested_where_nothing_is_near(parser, capsys):
    assert "mean" not in message(parser, capsys, "--work-dir", "x", "--zzz")
    # what argparse takes: abbreviations, values of short options, negative numbers, anything behind --
    for words in (("--work", "x"), ("-out", "--work_dir", "x"), ("--work-dir", "x", "--number", "-1")):
        parser.parse_args(words)
    for word in ("--wrok_dir", "--work_dir", "--nproc"):
        assert parser.parse_args(["--work-dir", "x", "--", word]).name == word


def test_other_mistakes_keep_their_message(parser, capsys):
    assert message(parser, capsys, "--work_dir", "x", "--number", "one").endswith("invalid int value: 'one'")
    add_workers(parser)
    assert message(parser, capsys, "--work-dir", "x", "--nproc", "0").endswith(
        "argument --workers: '0': give a whole number of at least 1"
    )
