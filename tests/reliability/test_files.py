"""Odd or hostile files and names: temporary names, permissions, links, leftovers, run names, tables."""

import csv
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mmseg.errors import ConfigError, DataError
from mmseg.io.files import atomic_path, open_to_append, remove_leftovers, temporary_folder, write_text
from mmseg.launcher.child import plan_child
from mmseg.report.comparison import Row, comma_separated, markdown, terminal_tables
from mmseg.system.printing import TextTable, say, track
from mmseg.system.processes import host_mark, is_running, start_of
from mmseg.system.text import as_name, csv_cell, name_fault, printable
from mmseg.toy import placing
from mmseg.work_dir.layout import WorkDir


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ------------------------------------------------------------------------------------------------ temporary files


def test_temporary_names_cannot_be_foretold_and_follow_no_link(tmp_path, monkeypatch):
    target = tmp_path / "of somebody else"
    target.write_text("dear")
    tokens = iter(["0" * 12, "1" * 12])
    monkeypatch.setattr("mmseg.io.files.secrets.token_hex", lambda _: next(tokens))
    planted = tmp_path / f".x.{host_mark()}-{os.getpid()}-{'0' * 12}.tmp.txt"
    planted.symlink_to(target)
    write_text(tmp_path / "x.txt", "mine")
    assert target.read_text() == "dear"
    assert (tmp_path / "x.txt").read_text() == "mine"
    monkeypatch.undo()
    with atomic_path(tmp_path / "y.txt") as one, atomic_path(tmp_path / "y.txt") as other:
        assert one != other
        one.write_text("")
        other.write_text("")


def test_a_link_is_replaced_not_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link.json"
    target.write_text("dear")
    link.symlink_to(target)
    write_text(link, "mine")
    assert not link.is_symlink()
    assert (target.read_text(), link.read_text()) == ("dear", "mine")


@pytest.mark.parametrize("before", [0o600, 0o640, 0o444, 0o755])
def test_a_file_that_is_replaced_hands_on_its_permissions(tmp_path, before):
    path = tmp_path / "secret.json"
    path.write_text("old")
    path.chmod(before)
    with atomic_path(path) as temporary:
        assert mode(temporary) == before  # while it is being written too
        temporary.unlink()  # some writers recreate the file
        temporary.write_text("new")
    assert mode(path) == before
    assert path.read_text() == "new"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "new", "")
    finally:
        os.umask(before)
    assert mode(tmp_path / "new") == 0o666 & ~mask


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 125 + ".json", "x." + "y" * 253, "夜" * 84 + ".x", "🌃" * 63])
def test_names_as_long_as_the_file_system_takes(tmp_path, name):
    write_text(tmp_path / name, "content")
    assert names(tmp_path) == {name}
    with temporary_folder(tmp_path / name) as folder:
        assert folder.parent == tmp_path
    assert names(tmp_path) == {name}


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "x.json", "")
    assert names(tmp_path) == {"x.json"}


def test_a_device_is_written_to_and_stays():
    write_text("/dev/null", "gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    code = "from mmseg.io.files import write_text; write_text('/dev/stdout', 'shown')"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "shown"


@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_what_was_planted_in_the_place_of_a_file_is_replaced(tmp_path, kind):
    path = tmp_path / "metrics.json"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/full")
    write_text(path, "content")
    assert stat.S_ISREG(path.lstat().st_mode)
    assert path.read_text() == "content"


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no file system in memory")
def test_files_in_memory_are_replaced():
    with temporary_folder("/dev/shm/cmda") as folder:
        for text in ("longer", "new"):
            write_text(folder / "x.json", text)
        assert (folder / "x.json").read_text() == "new"


def test_what_ends_badly_leaves_nothing(tmp_path):
    def fail() -> None:
        with atomic_path(tmp_path / "x") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not names(tmp_path)


@pytest.mark.parametrize("number", ["9" * 400, "²", "0", "-1", "4294967296", "9223372036854775808", "1e5", " 1"])
def test_hostile_leftovers_stop_nobody(tmp_path, number):
    for middle in (number, f"{host_mark()}-{number}-0123456789ab"):
        name = f".iter_1.{middle}.tmp.pth"
        if len(name) < 250:
            (tmp_path / name).mkdir()
            (tmp_path / f"{name}x").symlink_to("/nowhere")
    remove_leftovers(tmp_path)
    assert all((tmp_path / name).is_dir() for name in names(tmp_path) if not name.endswith("x"))
    remove_leftovers(tmp_path / "absent")


def test_leftovers_of_other_machines_are_removed_when_they_are_old(tmp_path):
    other = "0" * 8 if host_mark() != "0" * 8 else "1" * 8
    young, old = (tmp_path / f".iter_{n}.{other}-1-0123456789ab.tmp.pth" for n in (1, 2))
    for path in (young, old):
        path.write_text("half")
    os.utime(old, (0, 0))
    remove_leftovers(tmp_path)
    assert names(tmp_path) == {young.name}


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_log_is_a_regular_file(tmp_path, kind):
    path = tmp_path / "run.log"
    if kind == "link":
        (tmp_path / "target").write_text("dear")
        path.symlink_to(tmp_path / "target")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r"run\.log|symbolic|regular"):
        open_to_append(path)


def test_a_process_is_told_from_its_successor():
    started = start_of(os.getpid())
    assert is_running(os.getpid(), started)
    assert started is None or not is_running(os.getpid(), f"{started}0")
    child = subprocess.Popen([sys.executable, "-c", ""])
    assert not is_running(child.pid) or child.poll() is None
    child.wait()
    assert not is_running(child.pid)
    assert not any(map(is_running, (0, -1, 2**31, 2**70)))


# ------------------------------------------------------------------------------------------------ names and texts


@pytest.mark.parametrize(
    "name",
    ["a/b", "a\\b", "../x", "x\ny", "x=y", "x[best]", "x]", "{x}", "x\x1b[31m", "\t", "", " ", ".", "..", " x", "x ",
     "x\u202ey", "x\u2028y", "x\0", "x" * 300, "ä" * 150, "\udcff"],
)  # fmt: skip
def test_names_that_are_refused(root, name):
    with pytest.raises(ConfigError, match=r"--name .* cannot be a file name: ") as error:
        plan_child(root / "configs/fusion/cs2dsec_image+events_together_b5.py", name, None, {})
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()
    assert not name_fault(as_name(name))


@pytest.mark.parametrize("name", ["naïve run+1 (b)", "夜", "-x", "a.b", "it's", "$HOME", "100%", "x" * 200])
def test_names_that_are_taken(name):
    assert not name_fault(name)
    assert as_name(name) == name


def test_what_a_terminal_acts_upon_is_escaped():
    assert printable("a\x1b[31m\rb\x07") == r"a\x1b[31m\rb\x07"
    assert printable("Stra\udcdfe.png") == r"Stra\xdfe.png"
    assert printable("\u202egnp.exe\u2069") == r"\u202egnp.exe\u2069"
    assert printable("two\nlines\tand") == "two\nlines\tand"
    assert printable("two\nlines", keep="") == r"two\nlines"
    for text in ("Straße", "夜 🌃", "می‌خواهم", "a [b] :car:"):
        assert printable(text) == text
    assert str(DataError("x\x1b]0;title\x07")) == r"x\x1b]0;title\x07"


@pytest.mark.parametrize("name", ["x[best]", "[red]x[/red]", "x[/]", ":car:", "[link=http://x]y", "\\[a]", "a\x1b[2Jb"])
def test_names_are_shown_as_they_are(name):
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    say(console, f"wrote {name}")
    table = TextTable(name, title=f"title {name}")
    table.add_column(f"column {name}")
    table.add_row(name, "1")
    console.print(table)
    list(track([1], f"working on {name}", console=console))
    shown = console.file.getvalue()
    for text in ("wrote ", "title ", "column ", "working on "):
        assert f"{text}{printable(name)}" in shown


def row(name: str) -> Row:
    return Row(name, (0,), "student", "-", (4,), {"mIoU": [1.0], "mIoU_18": []}, {"mIoU": [1.0], "mIoU_18": []},
               {name: [2.0]}, {})  # fmt: skip


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@SUM(A1)", "\t=1", " =1", "=cmd|'/C x'!A0", "\n=1", "x[best]"])
def test_no_cell_is_a_formula_and_none_ends_its_table(name):
    rows = [row(name)]
    for line in csv.reader(io.StringIO(comma_separated(rows))):
        assert not any(cell.lstrip()[:1] in ("=", "+", "@") or cell.lstrip()[:2] == "-x" for cell in line)
        assert all(cell.isprintable() for cell in line)
    lines = [line for line in markdown(rows).splitlines() if line]
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)
    console = Console(file=io.StringIO(), width=400)
    for table in terminal_tables(rows):
        console.print(table)
    assert printable(name.strip()) in console.file.getvalue() or "\n" in name or "\t" in name


def test_numbers_stay_numbers():
    assert [csv_cell(value) for value in (-1.5, 3, "12.5", "-", "", None)] == [-1.5, 3, "12.5", "-", "", None]


@pytest.mark.parametrize("name", ["x[best]", "260101_1200_x_0a1b2[60.05]", "plain"])
def test_the_config_of_a_folder_with_a_note_in_its_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    cut = folder / f"{name.split('[')[0]}.json"
    assert WorkDir(folder).config == cut
    whole = folder / f"{name}.json"
    whole.write_text("{}")
    assert WorkDir(folder).config == whole


# ------------------------------------------------------------------------------------------------ the toy city


def city(folder: Path, *files: str) -> Path:
    for name in (*files, "toy_city.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"made {folder.name}")
    return folder


IMAGE, OTHER = "data/cityscapes/leftImg8bit/a.png", "data/DSEC_Night/zurich_city_09_a/b.png"


def test_a_city_is_replaced_file_by_file(tmp_path):
    out = tmp_path / "out"
    placing.place(city(tmp_path / "one", IMAGE, OTHER), out, ["list.txt"], "toy_city.json")
    (out / "list.txt").write_text("list")
    mine = ("data/cityscapes/leftImg8bit/mine.png", "data/mine.txt", "notes.txt")
    for name in mine:
        (out / name).write_text("dear")
    placing.place(city(tmp_path / "two", IMAGE), out, ["list.txt"], "toy_city.json")
    assert [(out / name).read_text() for name in mine] == ["dear"] * 3
    assert (out / IMAGE).read_text() == "made two"
    assert not (out / "data/DSEC_Night").exists()
    assert not (out / "list.txt").exists()  # it is written later


@pytest.mark.parametrize("line", ["../dear.txt", "/etc/dear", "notes.txt", "data/cityscapes/../../../dear.txt"])
def test_a_hostile_list_removes_nothing_else(tmp_path, line):
    out = tmp_path / "out"
    placing.place(city(tmp_path / "one", IMAGE), out, [], "toy_city.json")
    for path in (tmp_path / "dear.txt", out / "notes.txt"):
        path.write_text("dear")
    with (out / placing.FILES).open("a") as file:
        file.write(f"{line}\n")
    placing.place(city(tmp_path / "two", IMAGE), out, [], "toy_city.json")
    assert (tmp_path / "dear.txt").read_text() == (out / "notes.txt").read_text() == "dear"


def test_nothing_is_replaced_through_links_or_over_other_files(tmp_path):
    out, elsewhere = tmp_path / "out", city(tmp_path / "elsewhere", "leftImg8bit/a.png")
    placing.place(city(tmp_path / "one", OTHER), out, [], "toy_city.json")
    (out / "data/cityscapes").symlink_to(elsewhere)
    with pytest.raises(DataError, match="cityscapes is not a folder of a toy city"):
        placing.place(city(tmp_path / "two", IMAGE), out, [], "toy_city.json")
    (out / "data/cityscapes").unlink()
    (out / IMAGE).parent.mkdir(parents=True)
    (out / IMAGE).write_text("dear")
    with pytest.raises(DataError, match=r"a\.png does not belong to the toy city there"):
        placing.place(city(tmp_path / "three", IMAGE), out, [], "toy_city.json")
    assert (out / IMAGE).read_text() == "dear"
    (out / placing.FILES).unlink()
    with pytest.raises(DataError, match="may belong to a toy city of an earlier version"):
        placing.place(city(tmp_path / "four", "data/cityscapes/x.png"), out, [], "toy_city.json")
    assert (elsewhere / "leftImg8bit/a.png").read_text() == "made elsewhere"
