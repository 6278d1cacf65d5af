"""Odd paths, a read-only data root, and runs that interfere with each other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.process_tools import server
from helpers.script_tools import PUBLISHED, ROOT, SMALL, make_project, run

from mmseg.io.files import atomic_path, remove_leftovers
from mmseg.work_dir.layout import new_run_name

pytestmark = pytest.mark.slow

QUICK = {
    "evaluation.interval": 0,
    "runner.max_iters": 1,
    "model.fusion_isr_module.type": "",
    "uda.debug_img_interval": 1,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return make_project(tmp_path_factory.mktemp("Nacht – 夜+{city} 'of' $HOME & 100%"))


def options() -> list[str]:
    return [f"{key}={value}" for key, value in {**SMALL, **QUICK}.items()]


def test_odd_names_of_all_folders(project, tmp_path):
    """Lists, converter, launcher and test."""
    here = tmp_path / "work äöü [1] + more"
    here.mkdir()
    arguments = ("--root_path", f"{project}/", "--base_config", ROOT / PUBLISHED, "--name", "naïve run+1 (b)")
    run("my_run_experiments.py", *arguments, "--cfg-options", *options(), cwd=here)
    (work_dir,) = (here / "work_dirs" / "local-basic").iterdir()
    run("my_test.py", "--work_dir", work_dir, "--no_panels", cwd=here)
    assert (work_dir / "preds" / "metrics.json").is_file()


# Root can write anywhere except on a file system mounted read-only.
READ_ONLY = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
new_mounts, private, bind, remount_read_only = 0x20000, 0x44000, 0x1000, 0x1021
folder = os.environ['READ_ONLY'].encode()
refused = libc.unshare(new_mounts) or libc.mount(b'none', b'/', None, private, None)
refused = refused or libc.mount(folder, folder, None, bind, None)
if refused or libc.mount(folder, folder, None, remount_read_only, None):
    sys.exit('no mount')
try:
    open(folder + b'/written', 'w')
except OSError:
    pass
else:
    sys.exit('not read-only')
"""


def test_a_read_only_data_root(project, tmp_path):
    """Training, with nothing written next to the data."""
    arguments = ("--root_path", project, "--base_config", ROOT / PUBLISHED, "--name", "reader")
    as_root = os.geteuid() == 0
    folders = [] if as_root else [path for path in (project, *project.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        started = server().start(
            tmp_path,
            "my_run_experiments.py",
            *(*arguments, "--cfg-options", *options()),
            before=READ_ONLY if as_root else "",
            READ_ONLY=str(project),
        )
        status = started.wait()
    finally:
        for folder in folders:
            folder.chmod(0o755)
    if started.stderr == "no mount\n":
        pytest.skip("file systems cannot be mounted here")
    assert status == 0, started.stderr
    assert list(tmp_path.glob("work_dirs/local-basic/*_reader_*/iter_1.pth"))


def test_launches_in_the_same_minute_have_their_own_folders():
    assert len({new_run_name("x") for _ in range(20)}) == 20


def test_an_existing_work_dir_is_gone_on_with(project, tmp_path):
    """Existing files are kept, and reported."""
    work_dir = tmp_path / "run"
    work_dir.mkdir()
    (work_dir / "notes.txt").write_text("mine")
    base = (ROOT / PUBLISHED, "--work-dir", work_dir, "--cfg-options", *options())
    paths = {"data.train.target.dataset_txt_path": "night_dataset_warp.txt"}
    paths |= {f"data.{part}.dataset_txt_path": "night_test_dataset_warp.txt" for part in ("val", "test")}
    words = [f"{key}={project / value}" for key, value in paths.items()]
    words += [f"data.train.source.dataset_path={project}/data/cityscapes"]
    words += [f"data.train.source_json_root={project}/data/cityscapes", "uda.cyclegan_itrd2en_path="]
    run("tools/train.py", *base, *words, cwd=tmp_path)
    again = run("tools/train.py", *base, *words, cwd=tmp_path).stdout
    assert "holds checkpoints of an earlier run, the newest is iter_1.pth" in again
    assert (work_dir / "notes.txt").read_text() == "mine"


def test_leftovers_of_killed_processes_are_removed_and_no_others(tmp_path):
    with atomic_path(tmp_path / "iter_1.pth") as mine:
        mine.write_text("being written")
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        left = tmp_path / f".iter_2.{child.pid}.tmp.pth"
        left.write_text("half")
        (tmp_path / ".hidden.tmp").write_text("not ours")
        remove_leftovers(tmp_path)
        assert mine.exists()
        assert not left.exists()
        assert (tmp_path / ".hidden.tmp").exists()
