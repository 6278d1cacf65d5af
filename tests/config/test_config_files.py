"""Which configs may be code: Python files that the user names. JSON is data; in a work dir without exception."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.golden_tools import GOLDEN
from helpers.script_tools import ROOT, run

from mmseg.config.files import config_from_data
from mmseg.config.load import dump_config, load_config, plain
from mmseg.errors import ConfigError
from mmseg.io.json_files import parse_json
from mmseg.launcher.child import plan_child, write_child_config
from mmseg.work_dir.layout import WorkDir

PUBLISHED = ROOT / "configs/fusion/cs2dsec_image+events_together_b5.py"


@pytest.fixture
def trap(tmp_path) -> Path:
    """Untrusted code; the file ``trapped`` exists once it has run."""
    path = tmp_path / "stranger" / "trap.py"
    path.parent.mkdir()
    path.write_text(f"open({str(tmp_path / 'trapped')!r}, 'w').close()\nseed = 3\n")
    return path


@pytest.fixture
def resolved() -> dict:
    return json.loads((GOLDEN / "configs" / "work_dir_cs2dsec.json").read_text())


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


YAML = "seed: !!python/object/apply:os.system ['touch trapped']\n"


def hostile(trap: Path) -> dict[str, dict]:
    """What a config framework would run, import or substitute in a JSON file."""
    write(trap.with_name("trap.yaml"), YAML)
    write(trap.with_name("trap.json"), {"_base_": "./trap.py"})
    return {
        "absolute base": {"_base_": str(trap)},
        "base beside it": {"_base_": "../stranger/trap.py"},
        "list of bases": {"_base_": [str(PUBLISHED), str(trap)]},
        "base by way of JSON": {"_base_": str(trap.with_name("trap.json"))},
        "YAML base": {"_base_": str(trap.with_name("trap.yaml"))},
        "base of a package": {"_base_": "mmengine::trap.py"},
        "no text": {"_base_": 5},
        "no base": {"_base_": []},
        "imports": {"custom_imports": {"imports": ["trap"], "allow_failed_imports": False}},
        "variable": {"name": "{{ fileDirname }}"},
        "environment": {"name": "{{$HOME:x}}"},
        "variable as key": {"uda": {"{{ fileBasename }}": 1}},
        "variable in a list": {"data": {"train": {"target": {"outputs": ["{{ _base_.seed }}"]}}}},
    }


@pytest.mark.parametrize("place", ["work dir", "any folder"])
def test_json_of_a_stranger_runs_nothing(tmp_path, trap, resolved, monkeypatch, place):
    monkeypatch.chdir(trap.parent)
    monkeypatch.syspath_prepend(str(trap.parent))
    for case, changes in hostile(trap).items():
        path = tmp_path / "run" / ("run.json" if place == "work dir" else "other.json")
        write(path, {**resolved, **changes})
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        message = str(caught.value)
        assert message.startswith(str(path)) or (case == "base by way of JSON" and "trap.json" in message)
        assert message.isprintable()
        with pytest.raises(ConfigError, match="the config in the checkpoint"):
            config_from_data({**resolved, **changes}, "the config in the checkpoint", tmp_path / "x.pth")
    assert not (tmp_path / "trapped").exists()
    assert not (trap.parent / "trapped").exists()


def test_a_work_dir_names_no_base_at_all(tmp_path, resolved):
    """Not even a base of this project: the config is resolved."""
    path = write(tmp_path / "run[a note]" / "run.json", {**resolved, "_base_": str(PUBLISHED)})
    assert WorkDir(path.parent).find_config() == path
    with pytest.raises(ConfigError, match=r"the config of a work dir is resolved, and read as data"):
        load_config(path)


def test_options_bring_no_code(resolved, trap):
    for key in ("_base_", "custom_imports", "custom_imports.imports"):
        with pytest.raises(ConfigError, match=f"{key}=.* cannot be set as an option"):
            load_config(PUBLISHED, {key: str(trap)})


def test_yaml_is_no_config(tmp_path, trap):
    yaml = write(trap.with_name("trap.yaml"), YAML)
    with pytest.raises(ConfigError, match=r"trap\.yaml is not a config; give a \.py or \.json file"):
        load_config(yaml)
    config = write(tmp_path / "mine.py", f"_base_ = [{str(yaml)!r}]\n")
    above = write(tmp_path / "above.py", "_base_ = './mine.py'\n")
    for path in (config, above):
        with pytest.raises(ConfigError, match=r"mine\.py: the _base_ '.*trap\.yaml' is YAML"):
            load_config(path)


def test_python_that_the_user_names_is_code(tmp_path, trap):
    assert load_config(trap).seed == 3
    assert (tmp_path / "trapped").exists()


def test_child_configs_of_the_launcher_keep_their_bases(tmp_path, monkeypatch, resolved):
    """The launcher writes them into one folder, over any base that it was given."""
    monkeypatch.chdir(tmp_path)
    mine = write(tmp_path / "mine.py", f"_base_ = [{str(PUBLISHED)!r}]\nseed = 5\n")
    data = write(tmp_path / "data.json", resolved)
    for base, seed in ((mine, 5), (data, 0), (PUBLISHED, 0)):
        assert load_config(write_child_config(base, "n", None, {})).seed == seed
    path = plan_child(mine, "n", None, {}).write()
    assert load_config(shutil.copy(path, tmp_path / "moved.json")).seed == 5  # it is written whole
    earlier = write(path.with_name("earlier.json"), {"_base_": str(mine)})
    assert load_config(earlier).seed == 5
    with pytest.raises(ConfigError, match=r"moved\.json"):
        load_config(shutil.copy(earlier, tmp_path / "moved.json"))


def test_a_child_config_over_this_project_may_lie_anywhere(tmp_path):
    path = write(tmp_path / "child.json", {"_base_": str(PUBLISHED), "seed": 7})
    assert load_config(path).seed == 7


def test_a_link_into_the_project_is_no_way_around(tmp_path, trap):
    """The bases of the linked config would be looked for next to the link."""
    link = tmp_path / "a" / "link.py"
    link.parent.mkdir()
    link.symlink_to(PUBLISHED)
    write(tmp_path / "_base_" / "default_runtime.py", trap.read_text())
    with pytest.raises(ConfigError, match="would be run as code"):
        load_config(write(tmp_path / "child.json", {"_base_": str(link)}))
    folder = tmp_path / "folder"
    folder.symlink_to(ROOT / "configs" / "fusion")
    with pytest.raises(ConfigError, match=r"would be run as code|does not exist"):
        load_config(write(tmp_path / "child.json", {"_base_": f"./folder/{PUBLISHED.name}"}))
    assert not (tmp_path / "trapped").exists()


def test_a_config_of_a_checkpoint_is_the_one_that_was_written():
    config = load_config(PUBLISHED)
    again = config_from_data(json.loads(dump_config(config)), "x", ROOT / "x.pth")
    assert plain(again.to_dict()) == plain(config.to_dict())
    for text in ("", "[]", "5", "{", '{"a":' * 100_000):
        with pytest.raises(ConfigError, match=r"^the checkpoint "):
            parse_json(text, "the checkpoint", error=ConfigError)


@pytest.mark.parametrize("script", ["my_test.py", "tools/export.py"])
def test_the_scripts_run_no_code_of_a_work_dir(tmp_path, trap, resolved, script):
    work_dir = tmp_path / "run"
    write(work_dir / "run.json", {**resolved, "_base_": str(trap)})
    (work_dir / "iter_1.pth").touch()
    option = "--work_dir" if script == "my_test.py" else "--work-dir"
    done = run(script, option, work_dir, cwd=tmp_path, expect=2)
    assert done.stderr.startswith(f"error: {work_dir / 'run.json'} names the _base_ ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "trapped").exists()
