"""``--root-path``: what lies below it, what does not, and roots at the wrong level."""

from pathlib import Path

import pytest

from mmseg.config.data_root import check_root, outside_root, set_root, use_root
from mmseg.config.load import load_config
from mmseg.errors import ConfigError
from mmseg.launcher.child import plan_child

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "configs/fusion/cs2dsec_image+events_together_b5.py"


@pytest.fixture
def city(tmp_path, monkeypatch) -> Path:
    """A root with data and lists; the working directory has none."""
    city = tmp_path / "data" / "toy_city"
    for name in ("cityscapes/leftImg8bit", "DSEC_Night/zurich_city_09_a/images"):
        (city / "data" / name).mkdir(parents=True)
    for name in ("night_dataset_warp.txt", "night_test_dataset_warp.txt"):
        (city / name).touch()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return city


@pytest.mark.parametrize(
    "given",
    ["data", "data/", "data/DSEC_Night", "data/cityscapes/leftImg8bit", "..", "data/../data"],
)
@pytest.mark.parametrize("for_training", [True, False])
def test_wrong_level_names_the_right_one(city, given, for_training):
    config = load_config(BASE)
    with pytest.raises(ConfigError) as error:
        use_root(config, f"{city}/{given}", {}, for_training)
    message = str(error.value)
    assert message.startswith(f"--root-path {city / given} holds no folder data/")
    assert str(city) in message.split(": ")[1]
    assert "\n" not in message


@pytest.mark.parametrize(
    ("given", "state"), [("nowhere", "does not exist"), ("night_dataset_warp.txt", "is not a folder")]
)
def test_what_is_no_folder(city, given, state):
    with pytest.raises(ConfigError, match=rf"--root-path .*{given} {state}; give the folder that holds data/"):
        check_root(load_config(BASE), city / given, {})


def test_launcher_refuses_it_too(city):
    with pytest.raises(ConfigError, match=rf"--root-path .*: {city} holds one"):
        plan_child(BASE, "n", str(city / "data"), {}).check()


def test_nothing_near_is_named_where_nothing_is_near(tmp_path):
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"nor anything else that the config names$"):
        use_root(load_config(BASE), tmp_path / "a" / "b" / "c" / "d", {})


def test_right_root_is_silent(city):
    config = load_config(BASE)
    assert use_root(config, city, {}) == []
    assert config.data.test.dataset_txt_path == str(city / "night_test_dataset_warp.txt")
    assert "root_path" not in config.data.test


def test_what_is_read_from_elsewhere_is_said(city, tmp_path):
    """The data of a list in the working directory is still looked for below the root."""
    (city / "night_test_dataset_warp.txt").unlink()
    Path("night_test_dataset_warp.txt").touch()
    config = load_config(BASE)
    line = f"data.test.dataset_txt_path is not below --root-path {city}; it is read from night_test_dataset_warp.txt"
    assert use_root(config, city, {}, for_training=False) == [line]
    assert config.data.test.root_path == str(city)
    child = plan_child(BASE, "n", str(city), {})
    assert line in child.notes
    assert child.resolved.data.test.root_path == str(city)
    assert "root_path" not in child.resolved.data.train.target
    # A path that the user gave is not reported.
    given = {"data.test.dataset_txt_path": "night_test_dataset_warp.txt"}
    assert outside_root(load_config(BASE, given), city, given, for_training=False) == []


def test_root_of_another_machine_is_replaced(city):
    config = load_config(BASE, {"data.test.root_path": "/home/other/CMDA"})
    set_root(config, city)
    assert config.data.test.root_path == str(city)
    config = load_config(BASE, {"data.test.root_path": "mine"})
    set_root(config, city, {"data.test.root_path": "mine"})
    assert config.data.test.root_path == "mine"
