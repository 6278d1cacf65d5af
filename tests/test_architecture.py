"""The rooms of the package: imports run down only, and no module imports itself through others."""

import ast
import re
import sys

import pytest
from helpers.script_tools import ROOT

sys.path.append(str(ROOT / "docs"))
import rooms

ORDER = list(rooms.ROOMS)


@pytest.fixture(scope="module")
def graph():
    return rooms.imports()


def test_every_module_has_a_room(graph):
    assert {rooms.room_of(module) for module in graph} == {"", *rooms.ROOMS}


def test_imports_run_down_only(graph):
    up = {
        pair
        for (room, target), pairs in rooms.arrows(graph).items()
        if ORDER.index(target) > ORDER.index(room)
        for pair in pairs
    }
    assert not up


def test_no_module_imports_itself_through_others(graph):
    assert rooms.cycles(graph) == []


def test_the_picture_is_that_of_today():
    """Rooms, floors and arrows; the numbers of lines may be a little old."""
    numbers = re.compile(r"[\d.]+k lines|small")
    shown, current = rooms.PICTURE.read_text(encoding="utf-8"), rooms.draw()
    assert numbers.sub("", shown) == numbers.sub("", current), "run python docs/rooms.py"


def test_the_page_names_what_there_is():
    """Names, files and folders in ``docs/architecture.md``; each room has its row."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    spans = set(re.findall(r"`([^`\n]+)`", page))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in rooms.modules().values())
    words = set(re.findall(r"\w+", sources))
    for span in spans:
        if re.fullmatch(r"(mmseg|tests|docs|tools|benchmarks)(/[\w.]+)*/?", span):
            assert (ROOT / span).exists(), span
        elif re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", span) and not span.endswith((".json", ".txt", ".py")):
            assert words.issuperset(span.split(".")), span
    shown = {span.removeprefix("mmseg/").removesuffix(".py") for span in spans}
    assert shown >= set(rooms.ROOMS)


def test_no_test_imports_another():
    """What several tests need is in ``tests/helpers`` or ``tests/conftest.py``."""
    names = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not names.intersection(part for name in imported for part in name.split(".")), path


def test_tests_mirror_the_rooms():
    """Each room has its folder of tests; what concerns several has a folder of its own."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= {*rooms.ROOMS, "golden", "helpers", "reliability", "scripts"}
