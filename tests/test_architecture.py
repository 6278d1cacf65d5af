"""The rooms of the package: imports run down only, and no module imports itself through others."""

import sys

import pytest
from helpers.script_tools import ROOT

sys.path.append(str(ROOT / "docs"))
import rooms

# imports that still run up; to be removed
KNOWN_UP = {
    ("mmseg.events.files", "mmseg.preparation.dsec_lists"),
    ("mmseg.inference.benchmark", "mmseg.apis.arguments"),
    ("mmseg.inference.export", "mmseg.apis.arguments"),
    ("mmseg.inference.model", "mmseg.apis.arguments"),
}
KNOWN_CYCLES: list[set[str]] = []


@pytest.fixture(scope="module")
def graph():
    return rooms.imports()


def test_every_module_has_a_room(graph):
    assert {rooms.room_of(module) for module in graph} == {"", *rooms.ROOMS}


def test_imports_run_down_only(graph):
    up = {
        pair
        for (room, target), pairs in rooms.arrows(graph).items()
        if rooms.ROOMS.index(target) > rooms.ROOMS.index(room)
        for pair in pairs
    }
    assert up <= KNOWN_UP


def test_no_module_imports_itself_through_others(graph):
    assert [cycle for cycle in rooms.cycles(graph) if cycle not in KNOWN_CYCLES] == []
