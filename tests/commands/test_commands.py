"""The command ``cmda``: every script has its command, with the same code, and shells complete it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command_tools import parser_of

import cmda_command
import mmseg
from mmseg.commands import completion
from mmseg.commands.main import OWN, command_named, help_text
from mmseg.commands.main import main as cmda
from mmseg.config.load import load_config
from mmseg.config.published import PROJECT_CONFIGS, TASKS, find_config, published_configs
from mmseg.errors import ConfigError
from mmseg.system import program
from mmseg.system.program import SCRIPTS, spelled

# Not for users: they make or hold the package.
NO_COMMANDS = {"setup.py", "cmda_command.py"}
SCRIPT = """
import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().{place}))

from mmseg.commands.{module} import main
from mmseg.errors import run_as_script

if __name__ == "__main__":
    run_as_script(main)
"""


@pytest.fixture
def as_command(monkeypatch):
    """Runs ``cmda`` in this process."""
    monkeypatch.setattr(program, "_STARTED", [])

    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/cmda", *map(str, words)])
        try:
            cmda()
        except SystemExit as end:
            return end.code
        return 0

    return run


def test_every_script_has_a_command(root):
    found = {path.relative_to(root).as_posix() for pattern in ("*.py", "tools/**/*.py") for path in root.glob(pattern)}
    assert found - NO_COMMANDS == set(SCRIPTS.values()), "add it to GROUPS of mmseg/system/program.py"


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_and_command_run_the_same_code(name, root):
    script = SCRIPTS[name]
    depth = script.count("/")
    place = f"parents[{depth}]" if depth else "parent"
    text = (root / script).read_text(encoding="utf-8")
    expected = SCRIPT.format(place=place, module=name.replace("-", "_"))
    assert text.partition("\n")[2] == expected, "the code of a script is in mmseg/commands"


def test_help_and_version(as_command, capsys):
    assert as_command("--help") == as_command() == 0
    shown = capsys.readouterr().out
    assert shown == f"{help_text()}\n" * 2
    assert all(f"\n  {name} " in shown for name in (*SCRIPTS, *OWN))
    assert as_command("--version") == 0
    assert capsys.readouterr().out == f"cmda {mmseg.__version__}\n"


def test_a_command_names_itself_and_other_commands(as_command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert as_command("train", "--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: cmda train ")
    assert "examples: cmda train CONFIG; " in shown
    assert "torchrun --nproc_per_node 4 --no-python cmda train CONFIG" in shown
    assert ".py" not in shown.replace("config file, .py or .json", "")
    assert as_command("test-run", "--work_dir", "nowhere") == 2
    assert as_command("trian", "x") == 2
    assert "cmda: error: there is no command 'trian', did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("train", "train"),
        ("make_toy_data", "toy"),
        ("make-toy-data.py", "toy"),
        ("my_test", "test-run"),
        ("compare_runs", "compare"),
        ("configs", "configs"),
        ("nothing", None),
    ],
)
def test_names_of_scripts_are_understood(word, name):
    assert command_named(word) == name


def test_messages_name_scripts_in_a_clone_and_commands_elsewhere(monkeypatch):
    text = "run tools/make_image_change.py, or python create_dsec_dataset_txt.py --root-dir x; see /a/tools/train.py"
    assert spelled(text) == text
    monkeypatch.setattr(program, "_STARTED", ["train"])
    assert spelled(text) == "run cmda make-image-change, or cmda dsec-lists --root-dir x; see /a/tools/train.py"
    assert str(ConfigError("use my_test.py")) == "use cmda test-run"


def test_processes_of_an_installed_package_run_commands(monkeypatch, tmp_path, root):
    assert program.command_line("tools/train.py") == [sys.executable, str(root / "tools/train.py")]
    assert spelled("see data/README.md") == "see data/README.md"
    (tmp_path / "configs").mkdir()
    monkeypatch.setattr(program, "PACKAGE", tmp_path)
    assert spelled("see data/README.md") == f"see {tmp_path / 'guides' / 'data' / 'README.md'}"
    assert program.command_line("tools/train.py") == [sys.executable, str(tmp_path / "commands"), "train"]


def test_started_by_its_path_it_hides_no_module(tmp_path, root):
    """``test`` and others of its modules are named like ones of Python."""
    code = root / "mmseg" / "commands"
    done = subprocess.run([sys.executable, str(code), "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"cmda {mmseg.__version__}\n"), done.stderr


# --------------------------------------------------------------------------------------------- configs by name


def test_names_of_configs_are_unique():
    names = [path.stem for path in PROJECT_CONFIGS[0].glob("[!_]*/*.py") if path.parent.name != "experiments"]
    assert sorted(names) == sorted(published_configs())
    assert not set(TASKS) & set(names)


@pytest.mark.parametrize(
    "given",
    [
        "cs2dsec",
        "cs2dsec_image+events_together_b5",
        "cs2dsec_image+events_together_b5.py",
        "fusion/cs2dsec_image+events_together_b5",
        "configs/fusion/cs2dsec_image+events_together_b5.py",
    ],
)
def test_a_published_config_by_name_from_anywhere(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(given) == PROJECT_CONFIGS[0] / TASKS["cs2dsec"]
    assert load_config(given).train_type == "cs2dsec_image+events_together"


def test_a_file_of_the_user_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cs2dsec").write_text("")
    assert find_config("cs2dsec") == Path("cs2dsec")
    with pytest.raises(ConfigError, match=r"cs2dsec is not a config; give a \.py or \.json file"):
        load_config("cs2dsec")
    for given in ("../fusion/x.py", "/nowhere/cs2dsec", "", ".", "default_runtime", "three_seeds"):
        assert find_config(given) == Path(given)
    with pytest.raises(ConfigError, match=r"cs2dsce does not exist, did you mean 'cs2dsec'\?"):
        load_config("cs2dsce")


def test_list_of_configs(as_command, capsys):
    assert as_command("configs") == 0
    shown = capsys.readouterr().out
    assert "  cs2dsec_image+events_together_b5 (cs2dsec) " in shown
    assert all(f"\n  {name} " in shown for name in published_configs())
    assert as_command("configs", "--path", "cs2dz") == 0
    assert capsys.readouterr().out == f"{PROJECT_CONFIGS[0] / TASKS['cs2dz']}\n"


# -------------------------------------------------------------------------------------------------- completion


@pytest.fixture(scope="module")
def commands():
    return [completion.read_command(name) for name in (*SCRIPTS, *OWN)]


def completed(script: str, *words: str) -> set[str]:
    """What bash offers for the last word."""
    quoted = " ".join(f"'{word}'" for word in words)
    code = f'{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _cmda; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr
    return set(done.stdout.split())


def test_completion_in_bash(commands):
    script = completion.bash(commands)
    assert completed(script, "cmda", "trai") == {"train", "train-style-transfer"}
    assert completed(script, "cmda", "train", "--la") == {"--launcher"}
    assert completed(script, "cmda", "train", "--launcher", "") == {"none", "pytorch", "slurm"}
    assert completed(script, "cmda", "train", "cs2dsec_image+events_t") == {
        "cs2dsec_image+events_together_b5",
        "cs2dsec_image+events_together_fuse_both_b5",
    }
    assert completed(script, "cmda", "run-experiments", "--base-config", "cs2dz", "cs2ds") > {"cs2dsec"}
    assert completed(script, "cmda", "infer", "--save", "label", "ov") == {"overlay"}
    # bash itself offers files
    assert completed(script, "cmda", "infer", "--out", "") == set()
    assert completed(script, "cmda", "train", "work_dirs/") == set()


def test_completion_knows_every_option(commands, as_command, capsys):
    for command in commands:
        if command.name in SCRIPTS:
            known = set(parser_of(SCRIPTS[command.name])._option_string_actions)
            assert {name for option in command.options for name in option.names} <= known
    for shell in completion.SHELLS:
        assert as_command("completion", shell) == 0
        shown = capsys.readouterr().out
        assert "%(" not in shown
        for command in commands:
            assert all(name.lstrip("-") in shown for option in command.options for name in option.names)


@pytest.mark.parametrize(("shell", "check"), [("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])])
def test_shells_can_read_their_script(shell, check, commands, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    path = tmp_path / "script"
    path.write_text(getattr(completion, shell)(commands), encoding="utf-8")
    subprocess.run([shell, *check, str(path)], check=True)


# -------------------------------------------------------------------------------------- another package named mmseg


def test_another_package_of_the_name_is_one_message(monkeypatch, capsys, tmp_path):
    assert cmda_command.conflict() == ""
    monkeypatch.setattr(cmda_command.importlib.metadata, "version", lambda name: "1.2.2")
    with pytest.raises(SystemExit) as end:
        cmda_command.main()
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: MMSegmentation 1.2.2 is installed in this environment")
    assert shown.count("\n") == 1


def test_a_package_that_hides_ours(monkeypatch, tmp_path):
    (tmp_path / "mmseg").mkdir()
    (tmp_path / "mmseg" / "__init__.py").touch()
    spec = cmda_command.importlib.util.spec_from_file_location("mmseg", tmp_path / "mmseg" / "__init__.py")
    monkeypatch.setattr(cmda_command.importlib.util, "find_spec", lambda name: spec)
    assert f"the package mmseg of {tmp_path / 'mmseg' / '__init__.py'} hides that of CMDA" in cmda_command.conflict()
