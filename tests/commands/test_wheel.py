"""The wheel in a fresh environment outside of the clone: no network, with the packages that are installed here."""

import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from helpers.network_tools import make_network
from PIL import Image

import mmseg
from mmseg.config.published import published_configs

SOURCES = ("mmseg", "configs", "data/README.md", "pretrained/README.md", "pyproject.toml", "setup.py")
SOURCES += ("cmda_command.py", "requirements.txt", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
QUIET = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


class Installed:
    """An environment with nothing but the wheel; it sees the packages of this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=False)
        self.python = folder / "bin" / "python"
        (self.site,) = folder.glob("lib/python*/site-packages")
        seen = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
        (self.site / "packages.pth").write_text("".join(f"{path}\n" for path in sorted(seen)))

    def run(self, *words: object, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess:
        """Run a program of the environment as a user would who has activated it."""
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        environment |= {**QUIET, "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    def files(self) -> set[Path]:
        return {path for path in self.site.rglob("*") if "__pycache__" not in path.parts}


def make_wheel(folder: Path, root: Path) -> Path:
    """Build the wheel from a copy of its sources, so that nothing is written into the clone."""
    for name in SOURCES:
        place = folder / "source" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (root / name).is_dir():
            shutil.copytree(root / name, place, ignore=shutil.ignore_patterns("__pycache__", "generated"))
        else:
            shutil.copy(root / name, place)
    # what must stay out of it
    (folder / "source" / "configs" / "generated" / "local-basic").mkdir(parents=True)
    (folder / "source" / "configs" / "generated" / "local-basic" / "mine.py").touch()
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder]
    subprocess.run([*PIP, "wheel", *options, folder / "source"], check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory, root) -> Installed:
    if shutil.which("pip") is None and subprocess.run([*PIP, "--version"], capture_output=True).returncode:
        pytest.skip("needs pip")
    folder = tmp_path_factory.mktemp("wheel")
    environment = Installed(folder / "environment")
    command = [*PIP, "--python", environment.python, "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, make_wheel(folder, root)], check=True)
    return environment


def test_what_it_holds(installed, root):
    found = {path.relative_to(installed.site).as_posix() for path in installed.files() if path.is_file()}
    configs = {path.relative_to(root).as_posix() for path in published_configs().values()}
    sources = {path.relative_to(root).as_posix() for path in (root / "mmseg").rglob("*.py")}
    assert {f"mmseg/{name}" for name in configs} | sources <= found
    assert {"mmseg/configs/demo/toy_mit_b0.pth", "mmseg/configs/_base_/default_runtime.py", "cmda_command.py"} <= found
    assert {"mmseg/configs/experiments/three_seeds.py", "mmseg/report/page.html"} <= found
    assert "mmseg/guides/data/README.md" in found
    assert not [name for name in found if "generated" in name]
    metadata = next(installed.site.glob("cmda-*.dist-info")) / "METADATA"
    text = metadata.read_text(encoding="utf-8")
    assert f"\nVersion: {mmseg.__version__}\n" in text
    for line in (root / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            assert f"\nRequires-Dist: {line}\n" in text


def test_commands_outside_of_a_clone(installed, tmp_path):
    before = installed.files()
    assert installed.run("cmda", "--version", cwd=tmp_path).stdout == f"cmda {mmseg.__version__}\n"
    for words in (["--help"], ["train", "--help"]):
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = installed.run("cmda", *words, cwd=tmp_path).stdout
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < 0.5
        assert shown.startswith(f"usage: cmda {words[0] if words[1:] else 'COMMAND'} ")
    path = installed.run("cmda", "configs", "--path", "cs2dsec", cwd=tmp_path).stdout.strip()
    assert Path(path).is_relative_to(installed.site)
    assert "_cmda()" in installed.run("cmda", "completion", "bash", cwd=tmp_path).stdout
    assert installed.files() == before


def test_a_picture_outside_of_a_clone(installed, tmp_path):
    """What is written lies in the working directory."""
    before = installed.files()
    network = make_network(tmp_path / "dsec", "cmda_toy_city")
    Image.new("RGB", (96, 64), (40, 50, 60)).save(tmp_path / "photo.png")
    words = ("--work-dir", network["config"].parent, "--out", "out", "--no-resize")
    shown = installed.run("cmda", "infer", "photo.png", *words, cwd=tmp_path).stdout
    assert "1 of 1 pictures predicted" in shown
    assert (tmp_path / "out" / "overlay" / "photo.png").is_file()
    assert installed.files() == before


@pytest.mark.exhaustive
def test_the_demo_outside_of_a_clone(installed, tmp_path):
    before = installed.files()
    shown = installed.run("cmda", "demo", "--size", "tiny", "--iterations", "1", cwd=tmp_path).stdout
    assert "$ cmda toy data/toy_city --size tiny" in shown
    assert "$ cmda run-experiments --root-path data/toy_city --base-config " in shown
    assert "mIoU" in shown
    assert list((tmp_path / "work_dirs/local-basic").glob("*_demo_cmda_*/comparison.png"))
    assert installed.files() == before


def test_mmsegmentation_next_to_it_is_one_message(installed, tmp_path):
    other = installed.site / "mmsegmentation-1.2.2.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: mmsegmentation\nVersion: 1.2.2\n")
    try:
        refused = installed.run("cmda", "train", "cs2dsec", cwd=tmp_path, expect=2)
        assert refused.stderr.startswith("error: MMSegmentation 1.2.2 is installed in this environment")
        assert refused.stderr.count("\n") == 1
        imported = installed.run("python", "-c", "from mmseg.apis import load", cwd=tmp_path, expect=1)
        assert "ImportError: MMSegmentation (mmsegmentation-1.2.2.dist-info) is installed in " in imported.stderr
    finally:
        shutil.rmtree(other)
