"""Where a program runs: folders that cannot be written, terminals, long names, another Python, a full disk."""

import errno
import io
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import numpy as np
import pytest
from helpers.command_tools import SCRIPTS, load_script
from numba.core import caching

from mmseg.apis.arguments import Parser, weight_file
from mmseg.errors import ConfigError, run_as_script
from mmseg.io.files import atomic_path, remove_leftovers, write_text
from mmseg.system import interpreter
from mmseg.system.compiled import _ForgivingCache, compiled

ROOT = Path(__file__).resolve().parents[2]
# It imports what it measures first.
HEAVY = "benchmarks/data_speed.py"

# ------------------------------------------------------------------------------------------------ compiled loops


def total(values):
    result = 0.0
    for value in values:
        result += value
    return result


VALUES = np.arange(5.0)


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """No folder can be written but the temporary one."""
    ensure = caching._CacheLocator.ensure_cache_path

    def refuse(locator):
        if tmp_path not in Path(locator.get_cache_path()).parents:
            raise PermissionError(errno.EROFS, "Read-only file system", locator.get_cache_path())
        ensure(locator)

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refuse)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def kept(folder: Path) -> list[Path]:
    return list(folder.rglob("*.nbc"))


def test_code_is_kept_in_a_folder_of_the_user_where_nothing_else_can_be_written(read_only):
    assert compiled(total)(VALUES) == 10
    (folder,) = read_only.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(kept(folder)) == 1
    again = compiled(total)
    assert again(VALUES) == 10
    assert sum(again.stats.cache_hits.values()) == 1


@pytest.mark.parametrize("trap", ["writable by others", "a link", "a file", "no temporary folder"])
def test_code_of_a_folder_that_others_can_write_is_not_run(read_only, monkeypatch, trap):
    folder = read_only / f"cmda-compiled-{os.geteuid()}"
    if trap == "writable by others":
        folder.mkdir()
        folder.chmod(0o777)
    elif trap == "a link":
        (read_only / "elsewhere").mkdir()
        folder.symlink_to(read_only / "elsewhere", target_is_directory=True)
    elif trap == "a file":
        folder.touch()
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(read_only / "none"))
    assert compiled(total)(VALUES) == 10
    assert not kept(read_only)


@pytest.mark.parametrize("damage", [b"", b"\x80", b"not a pickle", random.Random(0).randbytes(64)])
@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
def test_damaged_code_is_compiled_again_and_replaced(read_only, kind, damage):
    compiled(total)(VALUES)
    (path,) = read_only.rglob(kind)
    path.write_bytes(damage)
    assert compiled(total)(VALUES) == 10
    again = compiled(total)
    assert again(VALUES) == 10
    assert sum(again.stats.cache_hits.values()) == 1


def test_full_disk_while_code_is_kept(read_only, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    assert compiled(total)(VALUES) == 10


def test_every_compiled_loop_is_kept_so():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "mmseg").rglob("*.py") if path.stem != "compiled"]
    assert not [text for text in sources if "cache=True" in text and "numba" in text]
    from mmseg.events.voxel_grid import _add_events

    assert isinstance(_add_events._cache, _ForgivingCache)


# ------------------------------------------------------------------------------------------------ another Python

ARGUMENTS = {
    "my_test.py": ["--work_dir", "x"],
    "create_dsec_dataset_txt.py": ["--root_dir", "x"],
    "my_run_experiments.py": ["--base_config", "x.py", "--name", "n"],
    "tools/train.py": ["x.py"],
    "tools/test.py": ["x.pth"],
}


def without_packages(script: str, *before: str) -> subprocess.CompletedProcess:
    """Run a script in a Python that has no packages."""
    code = f"import sys, runpy; sys.argv = {[script, *ARGUMENTS.get(script, ['--help'])]!r}; {'; '.join(before)}"
    code += f"\nrunpy.run_path({str(ROOT / script)!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)


@pytest.mark.parametrize("script", ARGUMENTS)
def test_missing_package_is_one_line_that_names_the_interpreter(script):
    result = without_packages(script)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: the package '")
    assert f"is not installed in Python {sys.version.split()[0]} ({sys.executable}): " in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script != HEAVY])
def test_old_python_is_one_line_in_every_script(script):
    result = without_packages(script, "sys.version_info = (3, 10, 13, 'final', 0)")
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(f"error: this is Python 3.10.13 ({sys.executable}); 3.11 or newer is needed: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("made", "used", "package", "old"),
    [
        (False, False, "install' makes an environment in ", "PYTHON=<a newer python>"),
        (True, False, "/.venv/bin/activate'", "/.venv/bin/activate'"),
        (True, True, "install' installs what is missing", "/.venv, then 'make"),
    ],
)
def test_remedy_is_what_helps(tmp_path, monkeypatch, capsys, made, used, package, old):
    monkeypatch.setattr(interpreter, "REPOSITORY", tmp_path)
    if made:
        (tmp_path / ".venv" / "bin").mkdir(parents=True)
        (tmp_path / ".venv" / "bin" / "python").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv") if used else "/usr")
    assert package in interpreter.missing_package(ModuleNotFoundError("x", name="torch.nn"))
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    with pytest.raises(SystemExit):
        interpreter.check_version()
    assert old in capsys.readouterr().err


def test_a_module_of_ours_that_is_missing_is_a_fault_of_ours():
    assert interpreter.missing_package(ModuleNotFoundError("x", name="mmseg.nothing")) is None

    def main():
        raise ModuleNotFoundError("No module named 'mmseg.nothing'", name="mmseg.nothing")

    with pytest.raises(ModuleNotFoundError):
        run_as_script(main)


# ------------------------------------------------------------------------------------------------ terminals and files


def printed_in(encoding: str, main, monkeypatch) -> bytes:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as end:
        run_as_script(main)
    assert not end.value.code
    stream.flush()
    return stream.buffer.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "cp1252", "shift_jis"])
@pytest.mark.parametrize("script", [script for script in SCRIPTS if script != HEAVY])
def test_help_in_any_encoding(script, encoding, monkeypatch):
    module = load_script(script)
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    assert b"usage:" in printed_in(encoding, module.parse_args, monkeypatch)


@pytest.mark.parametrize("name", [os.fsdecode(b"Stra\xdfe.png"), "夜.png", "µ\u2028.png"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "gbk"])
def test_file_names_on_any_terminal(name, encoding, monkeypatch):
    def main():
        print(name)
        raise SystemExit(0)

    text = printed_in(encoding, main, monkeypatch)
    assert text.endswith(b".png\n")


LONG = ["x" * 246 + ".png", "夜" * 83 + ".json", "x" * 255, "x." + "y" * 250, "é" * 125 + ".pth", "x" * 251 + ".npz"]


@pytest.mark.parametrize("name", LONG)
def test_names_as_long_as_a_file_system_takes(tmp_path, name):
    write_text(tmp_path / name, "content")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with atomic_path(tmp_path / name) as temporary:
        assert len(os.fsencode(temporary.name)) <= 255
        assert temporary.suffix in (".tmp", Path(name).suffix)
        temporary.touch()


def test_long_names_that_begin_alike_have_temporary_files_of_their_own(tmp_path):
    first, second = ("x" * 245 + f"{n}.json" for n in (1, 2))
    with atomic_path(tmp_path / first) as one, atomic_path(tmp_path / second) as two:
        assert one != two
        one.touch()
        two.touch()


def test_leftovers_of_long_names_are_found(tmp_path):
    with atomic_path(tmp_path / ("x" * 250 + ".pth")) as mine:
        mine.touch()
        child = subprocess.Popen([sys.executable, "-S", "-c", ""])
        child.wait()
        left = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{child.pid}-"))
        left.touch()
        remove_leftovers(tmp_path)
        assert mine.exists()
        assert not left.exists()


def test_bytes_of_names_are_written_as_they_are(tmp_path):
    write_text(tmp_path / "list.txt", os.fsdecode(b"Stra\xdfe\n"))
    assert (tmp_path / "list.txt").read_bytes() == b"Stra\xdfe\n"


@pytest.mark.parametrize(
    ("number", "filename", "message"),
    [
        (errno.ENOSPC, None, "No space left on device; free some space, or write elsewhere"),
        (errno.ENAMETOOLONG, "xxx", "xxx: File name too long; choose a shorter name"),
        (errno.EROFS, "/data/x", "/data/x: Read-only file system; choose a place that can be written"),
        (errno.EACCES, "x", "x: Permission denied; change its permissions, or choose another place"),
    ],
)
def test_errors_of_the_system_are_one_line(capsys, number, filename, message):
    def main():
        raise OSError(number, os.strerror(number), filename)

    with pytest.raises(SystemExit) as end:
        run_as_script(main)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_who_reads_along_may_stop(tmp_path):
    code = "import sys; from mmseg.errors import run_as_script\nrun_as_script(lambda: print('x\\n' * 100_000))"
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    process.stdout.read(2)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141


@pytest.mark.parametrize(
    "arguments",
    [
        ["--file", "https://example.org/x.pth"],
        ["--file", "s3://bucket/x.pth"],
        ["--folder", "http://example.org"],
        ["--many", "here", "open-mmlab://x"],
    ],
)
def test_address_in_the_place_of_a_path(arguments):
    parser = Parser()
    parser.add_argument("--file")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--many", nargs="+", type=Path)
    with pytest.raises(ConfigError, match="this is an address, and nothing is downloaded here"):
        parser.parse_args(arguments)
    parser.add_argument_group("group").add_argument("--weights", type=weight_file)
    assert parser.parse_args(["--weights", "https://example.org/x.pth"]).weights == "https://example.org/x.pth"
    assert parser.parse_args(["--file", "c:/data/x", "--folder", "a:b", "--many", "x", "./https:"])
