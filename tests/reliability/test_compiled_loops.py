"""No value of a file makes a compiled loop index outside its arrays; every attack is shown to detect that."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.loop_attacks import ATTACKS, as_python, removed_checks, rounds_to_find
from numba.core.dispatcher import Dispatcher

from mmseg.datasets.normalization import normalize_image
from mmseg.events import voxel_grid
from mmseg.events.voxel_grid import rectified_voxel_grid

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 60


@pytest.mark.parametrize("name", ATTACKS)
def test_a_compiled_loop_stays_within_its_arrays(name):
    module, (attack, _) = importlib.import_module(name), ATTACKS[name]
    for number in range(ROUNDS):
        attack(module, np.random.default_rng(number), watched=False)
    python = as_python(module)
    for number in range(ROUNDS):
        attack(python, np.random.default_rng(number), watched=True)


def test_every_compiled_loop_is_attacked():
    """A new loop needs its own attack."""
    uses = r"^from mmseg.system.compiled import compiled|^ *@numba"
    sources = {path for path in (ROOT / "mmseg").rglob("*.py") if re.search(uses, path.read_text("utf-8"), re.M)}
    assert {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources} == ATTACKS.keys()
    for name, (_, loops) in ATTACKS.items():
        found = vars(importlib.import_module(name)).items()
        dispatchers = {key: value for key, value in found if isinstance(value, Dispatcher)}
        assert {key for key, value in dispatchers.items() if "inline" not in value.targetoptions} == loops


@pytest.mark.parametrize(("check", "change"), [pytest.param(c, f, id=c) for c, f in removed_checks()])
def test_the_attack_finds_a_check_that_is_missing(check, change):
    assert rounds_to_find(voxel_grid, change, 400) < 400


# Each is compiled, which takes seconds: each of the two loops sees both signs, the narrowest and the widest.
WIDTHS = [(np.int8, 1), (np.int8, 2), (np.int64, 1), (np.int64, 2), (np.uint64, 1), (np.uint64, 2), (np.uint32, 1)]
MORE_WIDTHS = [(np.uint32, 2), (np.int16, 1), (np.int16, 2)]


@pytest.mark.parametrize(
    ("dtype", "bins"), [*WIDTHS, *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in MORE_WIDTHS)]
)
def test_whole_types_of_any_width_are_refused_outside_the_map(dtype, bins):
    rectify_map = np.zeros((5, 7, 2), np.float32)
    one, limits = np.ones(1, np.uint8), np.iinfo(dtype)
    times = None if bins == 1 else np.array([0, 1], np.float32)
    for value in {limits.min, limits.max, 7, dtype(0) - dtype(limits.min < 0)} - {0}:
        column = np.array([value], dtype)
        pair = [np.repeat(a, bins) for a in (column, np.zeros(1, dtype), one)]
        with pytest.raises(IndexError, match="pixels outside 7x5"):
            rectified_voxel_grid(times, *pair, rectify_map, bins)


def test_columns_of_several_lengths_are_refused():
    t, x = np.linspace(0, 1, 4, dtype=np.float32), np.ones(4, np.float32)
    for bins in (1, 2):
        with pytest.raises(ValueError, match="columns of events have the shapes"):
            voxel_grid.voxel_grid(t, x, x[:3], x, bins, 5, 7)
        with pytest.raises(ValueError, match="columns of events have the shapes"):
            rectified_voxel_grid(t, x.astype(int), x[:2].astype(int), x, np.zeros((5, 7, 2), np.float32), bins)


@pytest.mark.parametrize("bins", [1, 2])
def test_what_is_not_a_number_is_refused(bins):
    t, x = np.linspace(0, 1, 4, dtype=np.float32), np.ones(4, np.float32)
    for odd in (np.nan, np.inf, -np.inf):
        wrong = np.array([1, 1, odd, 1], np.float32)
        for columns in ((wrong, x, x), (x, wrong, x)):
            with pytest.raises(ValueError, match="position of an event is not a number"):
                voxel_grid.voxel_grid(t, *columns, bins, 5, 7)
    with pytest.raises(ValueError, match="polarity of an event is not a number"):
        voxel_grid.voxel_grid(t, x, x, np.array([1, np.nan, 0, 1]), bins, 5, 7)
    for time in (-0.1, 1.1, np.nan):
        wrong = np.array([0, time, 0.5, 1], np.float32)
        if bins > 1:
            with pytest.raises(ValueError, match=r"event 1 is at .*, outside the window"):
                voxel_grid.voxel_grid(wrong, x, x, x, bins, 5, 7)


def test_an_image_of_another_type_is_refused():
    """The loop would read beyond the table of 256 values."""
    for image in (np.full((2, 2, 3), 999, np.uint16), np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2), np.uint8)):
        with pytest.raises(ValueError, match=r"not \(H, W, 3\) of uint8"):
            normalize_image(image)
