"""``custom_imports``: code of the user registers components; configs that are data need consent."""

import json
import os
import sys
import sysconfig

import pytest
from helpers.golden_tools import GOLDEN
from helpers.script_tools import ROOT

from mmseg.config.files import config_from_data, load_config
from mmseg.config.load import check_values
from mmseg.errors import ConfigError
from mmseg.registry import LOSSES
from mmseg.system import extensions
from mmseg.system.extensions import ANY_MODULE, CONSENT, extension_environment

PUBLISHED = ROOT / "configs/fusion/cs2dsec_image+events_together_b5.py"
MODULE = """
from pathlib import Path
from torch import nn
from mmseg.registry import LOSSES

with Path(__file__).with_name("ran").open("a") as file:
    file.write("ran ")

@LOSSES.register_module()
class {name}(nn.Module):
    def __init__(self, sharpness, floor=0.0):
        super().__init__()
    def forward(self, logits, label, pixel_weight=None, class_weight=None):
        return logits.sum()
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Modules and registered losses of a test are forgotten after it."""
    LOSSES.import_from_location()
    modules, losses = set(sys.modules), dict(LOSSES.module_dict)
    monkeypatch.setattr(extensions, "_modules", {})
    monkeypatch.delenv(CONSENT, raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("their_"):
            del sys.modules[name]
    LOSSES.module_dict.clear()
    LOSSES.module_dict.update(losses)


@pytest.fixture
def package(tmp_path):
    """Folder with the package their_package, whose module losses registers TheirLoss."""
    folder = tmp_path / "elsewhere"
    (folder / "their_package").mkdir(parents=True)
    (folder / "their_package" / "__init__.py").touch()
    (folder / "their_package" / "losses.py").write_text(MODULE.format(name="TheirLoss"))
    return folder


def imports(*names, **options):
    return {"imports": list(names), "allow_failed_imports": False, **options}


def python_config(folder, wanted):
    path = folder / "mine.py"
    path.write_text(f"_base_ = {str(PUBLISHED)!r}\ncustom_imports = {wanted!r}\n")
    return path


def work_dir(folder, wanted):
    """Config of a work dir."""
    content = json.loads((GOLDEN / "configs" / "work_dir_cs2dsec.json").read_text())
    folder.mkdir(exist_ok=True)
    path = folder / f"{folder.name}.json"
    path.write_text(json.dumps({**content, "custom_imports": wanted}))
    return path


def test_a_python_config_registers_components(package, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(package))
    config = load_config(python_config(tmp_path, imports("their_package.losses")))
    assert "TheirLoss" in LOSSES.module_dict
    check_values(config)
    # and once more, from the work dir: the module is there already
    load_config(work_dir(tmp_path / "run", imports("their_package.losses")))
    assert (package / "their_package" / "ran").read_text() == "ran "
    assert extension_environment() == {CONSENT: "their_package.losses"}
    assert extensions.extensions() == {"their_package.losses": str(package)}


def test_one_module_may_be_a_text(package, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(package))
    load_config(python_config(tmp_path, {"imports": "their_package.losses"}))
    assert "TheirLoss" in LOSSES.module_dict


@pytest.mark.parametrize("wanted", [{}, {"imports": 5}, {"imports": ["a-b"]}, {"imports": "x", "allow": 1}, ["x"]])
def test_other_values_are_refused(tmp_path, wanted):
    with pytest.raises(ConfigError, match="custom_imports"):
        load_config(python_config(tmp_path, wanted))


def test_a_module_that_is_not_found(package, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(package))
    with pytest.raises(ConfigError) as caught:
        load_config(python_config(tmp_path, imports("their_package.loses")))
    message = str(caught.value)
    for part in ("their_package.loses", str(package), "mine.py", "PYTHONPATH", "pip install -e"):
        assert part in message
    load_config(python_config(tmp_path, imports("their_absent", allow_failed_imports=True)))
    assert "warning: custom_imports" in capsys.readouterr().err


def test_a_module_that_fails(package, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(package))
    (package / "their_broken.py").write_text("\nimport their_missing_dependency\n")
    with pytest.raises(ConfigError, match=r"their_broken cannot be imported: ModuleNotFoundError.*their_broken\.py"):
        load_config(python_config(tmp_path, imports("their_broken")))
    (package / "their_taken.py").write_text(MODULE.format(name="CrossEntropyLoss"))
    with pytest.raises(ConfigError, match=r"their_taken cannot be imported: KeyError.*CrossEntropyLoss is already"):
        load_config(python_config(tmp_path, imports("their_taken")))


def test_data_imports_nothing_by_itself(package, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(package))
    wanted = imports("their_package.losses")
    path = work_dir(tmp_path / "run", wanted)
    with pytest.raises(ConfigError, match=r"run\.json has custom_imports of their_package.losses.*--allow-custom"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"the config in x.pth has custom_imports of their_package.losses"):
        config_from_data(json.loads(path.read_text()), "the config in x.pth", path)
    monkeypatch.setenv(CONSENT, "another.module")
    with pytest.raises(ConfigError, match=r"custom_imports of their_package.losses"):
        load_config(path)
    assert "TheirLoss" not in LOSSES.module_dict
    assert not (package / "their_package" / "ran").exists()


@pytest.mark.parametrize("consent", [ANY_MODULE, "another, their_package.losses"])
def test_consent(package, tmp_path, monkeypatch, consent):
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.setenv(CONSENT, consent)
    load_config(work_dir(tmp_path / "run", imports("their_package.losses")))
    assert "TheirLoss" in LOSSES.module_dict


@pytest.mark.parametrize("place", ["folder of the config", "below it", "working directory", "relative PYTHONPATH"])
def test_consent_is_not_for_modules_that_came_with_the_config(tmp_path, monkeypatch, place):
    """The module of that name in the user's own environment counts, or there is none."""
    monkeypatch.setenv(CONSENT, ANY_MODULE)
    came_with = tmp_path / "download" / "run"
    path = work_dir(tmp_path / "download", imports("their_trap")).parent
    path = work_dir(came_with, imports("their_trap")) if came_with.mkdir() is None else path
    trap = {"folder of the config": came_with, "below it": came_with / "code"}.get(place, tmp_path / "download")
    trap.mkdir(exist_ok=True)
    (trap / "their_trap.py").write_text(MODULE.format(name="Trap"))
    monkeypatch.chdir(trap)
    monkeypatch.syspath_prepend("" if place == "working directory" else str(trap))
    if place == "relative PYTHONPATH":
        monkeypatch.setenv("PYTHONPATH", ".")
    with pytest.raises(ConfigError, match="there is no module their_trap"):
        load_config(path)
    assert not (trap / "ran").exists()
    before = sys.path[:]
    own = tmp_path / "own"
    own.mkdir()
    (own / "their_trap.py").write_text(MODULE.format(name="Own"))
    sys.path.append(str(own))
    try:
        load_config(path)
    finally:
        sys.path[:] = before
    assert "Own" in LOSSES.module_dict
    assert "Trap" not in LOSSES.module_dict
    assert not (trap / "ran").exists()


def test_a_package_that_reaches_into_the_folder_of_the_config(tmp_path, monkeypatch):
    """Folders without __init__.py are packages, too."""
    monkeypatch.setenv(CONSENT, ANY_MODULE)
    path = work_dir(tmp_path / "their_download", imports("their_download.trap"))
    (path.parent / "trap.py").write_text(MODULE.format(name="Trap"))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="which came with the config: nothing in that folder is run"):
        load_config(path)
    assert not (path.parent / "ran").exists()


def test_an_environment_in_the_folder_of_the_config(package, tmp_path, monkeypatch):
    """A checkpoint may lie in a project folder that also holds the virtual environment."""
    monkeypatch.setenv(CONSENT, ANY_MODULE)
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(package))
    load_config(work_dir(tmp_path, imports("their_package.losses")))
    assert "TheirLoss" in LOSSES.module_dict


def test_processes_of_the_launcher_may_import_the_same(monkeypatch):
    monkeypatch.setattr(extensions, "_modules", {"their.module": "/there"})
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["code", "/abs"]))
    monkeypatch.setenv(CONSENT, "first")
    assert extension_environment() == {
        CONSENT: "first,their.module",
        "PYTHONPATH": os.pathsep.join([os.path.abspath("code"), "/abs"]),
    }
    monkeypatch.setenv(CONSENT, ANY_MODULE)
    assert extension_environment() == {}
