"""The demo from one end to the other, at the smallest size: data, day network, training, tests, the table."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys

import pytest
from helpers.command_tools import load_script
from helpers.script_tools import run as run_script

from mmseg.errors import CMDAError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(toy_city, tmp_path_factory):
    """The demo on a city that is there already; its scripts need not import torch again."""
    folder = tmp_path_factory.mktemp("demo")
    module, printed = load_script("tools/demo.py"), io.StringIO()

    def run(*command: str) -> None:
        print(run_script(*command, cwd=folder).stdout)

    shutil.copytree(toy_city, folder / "data" / "toy_city")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        patch.setattr(module, "run", run)
        patch.setattr(sys, "argv", ["demo.py", "--size", "tiny", "--iterations", "2"])
        module.main()
    assert "data/toy_city already exists" in printed.getvalue()
    return folder, printed.getvalue()


def test_its_scripts_are_those_of_a_user(capfd):
    demo = load_script("tools/demo.py")
    demo.run("tools/make_toy_data.py", "--help")
    assert "usage: make_toy_data.py" in capfd.readouterr().out
    with pytest.raises(CMDAError, match=r"make_toy_data\.py failed with exit status 2"):
        demo.run("tools/make_toy_data.py", "--nothing")


def test_both_networks_are_tested_and_compared(demo):
    folder, printed = demo
    (run,) = (folder / "work_dirs" / "local-basic").glob("*")
    assert re.fullmatch(r"\d+_\d+_demo_cmda_.{5}", run.name)
    found = {output: run / f"preds_{output}" / "metrics.json" for output in ("image", "events", "fusion")}
    found |= {when: folder / "work_dirs" / "demo_day_network" / when / "metrics.json" for when in ("day", "night")}
    for name, path in found.items():
        scores = json.loads(path.read_text())
        assert scores["output"] == {"day": "image", "night": "fusion"}.get(name, name)
        assert f"{100 * scores['scores']['mIoU']:.1f}" in printed
    assert re.search(r"mIoU .*\d", printed)
    assert re.search(r"road .*\d", printed)


def test_the_day_network_knows_days_and_fails_at_night(demo):
    """On a single day street and four night frames, in the input size of its training."""
    folder, _ = demo
    day, night = (
        json.loads((folder / "work_dirs" / "demo_day_network" / when / "metrics.json").read_text())["scores"]
        for when in ("day", "night")
    )
    assert day["aAcc"] > 0.85
    assert night["aAcc"] < 0.6


def test_it_names_pictures_that_exist(demo):
    folder, printed = demo
    lines = "comparison|toy city|training pictures|CMDA panels|day network panels"
    named = re.findall(rf"^(?:{lines}): +(.*)$", printed, re.MULTILINE)
    assert len(named) == 5
    for path in named:
        found = [folder / path] if path.endswith(".png") else list((folder / path).glob("*.png"))
        assert found
        assert all(picture.stat().st_size > 1000 for picture in found)


def test_a_city_of_another_size_is_refused(demo, monkeypatch):
    folder, _ = demo
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["demo.py", "--size", "small"])
    with pytest.raises(CMDAError, match="data/toy_city holds a toy city of another size or version"):
        load_script("tools/demo.py").main()


def test_no_iterations_are_refused(root):
    command = [sys.executable, str(root / "tools" / "demo.py"), "--iterations", "0"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--iterations 0: give a number of at least 1" in result.stderr
