"""Hostile arrays for the compiled loops: each loop must refuse them, or give what the plain form gives.

A loop is attacked as it is compiled, its arrays between guard bands, and as Python, where every index is watched. The
second also runs on sources that lack one of their checks, to see that the attack finds it.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

from helpers import plain_forms

HEIGHT, WIDTH = 5, 7
# Cells on each side of an array that nothing may write to.
GUARD = 64
GUARD_VALUE = 77


class Found(AssertionError):
    """A loop indexed outside an array, or gave what is not right."""


class Watched(np.ndarray):
    """An array that takes indices within its bounds alone: not even -1, which a compiled loop takes for the last."""

    def __getitem__(self, key):
        self._watch(key)
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        self._watch(key)
        super().__setitem__(key, value)

    def __iter__(self):
        return iter(np.asarray(self))

    def _watch(self, key) -> None:
        for axis, index in enumerate(key if isinstance(key, tuple) else (key,)):
            size = self.shape[axis]
            ends = (index.start or 0, size if index.stop is None else index.stop) if isinstance(index, slice) else None
            if ends is not None and not 0 <= ends[0] <= ends[1] <= size:
                raise Found(f"slice {index} of axis {axis}, which has {size}")
            if ends is None and not 0 <= index < size:
                raise Found(f"index {index} of axis {axis}, which has {size}")


def whole_number(value) -> int:
    """``int`` as a machine has it: what 64 bits do not hold is anything."""
    if not -(2.0**63) <= value < 2.0**63:
        raise Found(f"{value} becomes a whole number")
    return int(value)


def as_python(module: ModuleType, change: Callable[[str], str] = lambda source: source) -> SimpleNamespace:
    """The functions of a module without numba, after a change to its source; their arrays are watched."""
    path = Path(module.__file__)
    source = change(path.read_text(encoding="utf-8"))
    for line in ("import numba\n", "from mmseg.system.compiled import compiled\n"):
        source = source.replace(line, "")
    numpy = SimpleNamespace(**{name: getattr(np, name) for name in dir(np) if not name.startswith("_")})
    numpy.zeros = lambda *arguments: np.zeros(*arguments).view(Watched)
    # an index without a sign, which shall be seen if it has one
    numpy.uint64 = whole_number
    source = source.replace("import numpy as np\n", "")
    no_numba = SimpleNamespace(njit=lambda **_: lambda function: function)
    space = {"numba": no_numba, "compiled": lambda function: function, "__name__": module.__name__}
    space |= {"np": numpy, "int": whole_number}
    exec(compile(source, str(path), "exec"), space)
    return SimpleNamespace(**space)


# ------------------------------------------------------------------------------------------------ hostile values

FAR = [-1e30, -(2.0**63), -(2.0**31), 2.0**31, 2.0**63, 1e30, 3.4e38]
NO_NUMBERS = [np.nan, np.inf, -np.inf]


def edges(end: int) -> list[float]:
    """Positions at both ends of a range of ``end`` pixels, and far beyond."""
    near = [-2.5, -2, np.nextafter(np.float32(-2), np.float32(0)), -1.5, -1, -0.5, -0.0, 0, 0.25]
    last = [end - 1.5, end - 1, end - 0.5, np.nextafter(np.float32(end), np.float32(0)), end, end + 0.5, end + 1]
    return [*near, *last, *FAR]


def draw(rng: np.random.Generator, count: int, usual: Callable[[], float], odd: list) -> list:
    """Values of which about one in six is odd."""
    return [odd[rng.integers(len(odd))] if rng.random() < 0.17 else usual() for _ in range(count)]


def whole(rng: np.random.Generator, count: int, end: int, dtype: np.dtype) -> np.ndarray:
    """Pixels of a type, of which some lie outside a range, on either side as far as the type goes."""
    limits = np.iinfo(dtype)
    held = range(limits.min, limits.max + 1)
    odd = [v for v in (-end - 1, -end, -2, -1, 0, end - 1, end, end + 1, limits.min, limits.max) if v in held]
    return np.array(draw(rng, count, lambda: int(rng.integers(end)), odd), dtype)


def positions(rng: np.random.Generator, count: int, end: int, odd: list) -> np.ndarray:
    return np.array(draw(rng, count, lambda: rng.uniform(0, end - 1), odd), np.float32)


def polarities(rng: np.random.Generator, count: int, dtype: np.dtype) -> np.ndarray:
    odd = {"u": [1, 2, 255], "i": [-128, -1, 127], "f": [-1, -0.5, 0.5, *NO_NUMBERS]}[np.dtype(dtype).kind]
    return np.array(draw(rng, count, lambda: int(rng.integers(2)), odd), dtype)


def times(rng: np.random.Generator, count: int, bins: int) -> np.ndarray:
    """Times in bins, which are to lie in [0, bins - 1]."""
    last = np.float32(bins - 1)
    odd = [0, last, np.nextafter(last, np.float32(9)), bins - 0.5, bins, -1e-30, -0.5, -1, *FAR, *NO_NUMBERS]
    return np.array(draw(rng, count, lambda: rng.uniform(0, bins - 1), odd), np.float32)


# ------------------------------------------------------------------------------------------------ attacks


class Arrays:
    """Makes the arrays of a call: watched ones for Python, between guard bands for compiled code."""

    def __init__(self, watched: bool) -> None:
        self.watched = watched
        self._banded: list[np.ndarray] = []

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if self.watched:
            return values.view(Watched)
        banded = np.full(values.size + 2 * GUARD, GUARD_VALUE, values.dtype)
        self._banded.append(banded)
        inner = banded[GUARD : GUARD + values.size].reshape(values.shape)
        inner[...] = values
        return inner

    def check(self) -> None:
        """See that the guard bands are as they were."""
        for banded in self._banded:
            if (banded[:GUARD] != GUARD_VALUE).any() or (banded[-GUARD:] != GUARD_VALUE).any():
                raise Found("a write beside an array")


def attack_events(module: SimpleNamespace | ModuleType, rng: np.random.Generator, watched: bool) -> None:
    """Give hostile events to all loops that make voxel grids.

    Raises:
        Found: a loop indexed outside its arrays, took what it must refuse, or gave another grid than the plain form.
    """
    for raw in (False, True):
        for bins in (1, 3):
            _attack_grid(module, rng, Arrays(watched), raw, bins)


def _attack_grid(module, rng: np.random.Generator, array: Arrays, raw: bool, bins: int) -> None:
    count = int(rng.integers(1, 7))
    grid = array(np.zeros((bins, HEIGHT, WIDTH)))
    t = times(rng, count, bins) if bins > 1 else np.zeros(count, np.float32)
    if raw:
        # DSEC's own types, and signed ones as wide
        pixel, sign = (np.uint16, np.uint8) if rng.random() < 0.5 else (np.int16, np.int8)
        x, y = whole(rng, count, WIDTH, pixel), whole(rng, count, HEIGHT, pixel)
        p = polarities(rng, count, sign)
        cells = HEIGHT * WIDTH
        mapped = [positions(rng, cells, end, edges(end)) for end in (WIDTH, HEIGHT)]
        rectify_map = np.stack(mapped, axis=-1).reshape(HEIGHT, WIDTH, 2)
        good = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
        place = rectify_map[np.where(good, y, 0), np.where(good, x, 0)].astype(np.float64)
        arguments = (array(x), array(y), array(p), array(rectify_map))
    else:
        x, y = (positions(rng, count, end, edges(end) + NO_NUMBERS) for end in (WIDTH, HEIGHT))
        p = polarities(rng, count, np.float32)
        good = np.ones(count, bool)
        place = np.stack((x, y), axis=-1).astype(np.float64)
        arguments = (array(x), array(y), array(p))
    good &= (t >= 0) & (t <= bins - 1)
    name = f"_add_{'timed_' if bins > 1 else ''}{'raw_' if raw else ''}events"
    timed = (array(t),) if bins > 1 else ()
    result = getattr(module, name)(grid if bins > 1 else grid[0], *timed, *arguments)
    array.check()
    expected = -1 if good.all() else int(np.argmin(good))
    # without times and a map there is nothing to refuse: what is not a number lies nowhere
    if result != expected and name != "_add_events":
        raise Found(f"{name} gives {result}, where event {expected} is the first that is wrong")
    if expected < 0:
        in_bins = t.astype(np.float64) / max(bins - 1, 1)
        near = (np.abs(place) < HEIGHT + WIDTH).all(axis=1)
        near_events = in_bins[near], *place[near].T, p[near] > 0
        plain = plain_forms.voxel_grid(*near_events, bins, HEIGHT, WIDTH)
        if not np.allclose(np.asarray(grid), plain, atol=1e-4):
            raise Found(f"{name} gives another grid than the plain form")


def attack_scaling(module: SimpleNamespace | ModuleType, rng: np.random.Generator, watched: bool) -> None:
    """The loops of :mod:`mmseg.events.normalize`, on arrays of any length and content."""
    array = Arrays(watched)
    cells = positions(rng, int(rng.integers(0, 9)), 3, [0, -1, *FAR, *NO_NUMBERS])
    with np.errstate(all="ignore"):
        count = module._moments(array(cells))[0]
    if count != (cells != 0).sum():
        raise Found("_moments counts other cells")
    with np.errstate(all="ignore"):
        one = np.float32(1)
        module._standardize(array(cells), one, one, array(np.zeros_like(cells)))
        module._rescale(array(cells), one, np.float32(0), one, -one, one, array(np.zeros_like(cells)))
    array.check()


def attack_changes(module: SimpleNamespace | ModuleType, rng: np.random.Generator, watched: bool) -> None:
    """Content maps whose shift is larger than their image, too."""
    array = Arrays(watched)
    shape = tuple(rng.integers(1, 6, 2))
    intensity = rng.random(shape, np.float32)
    down, aside = (int(step) for step in rng.integers(-8, 9, 2))
    change = array(np.full(shape, 5, np.float32))
    module._changes(array(intensity), down, aside, np.float32(0), change)
    array.check()
    expected = np.zeros(shape, np.float32)
    for row, column in np.ndindex(shape):
        if 0 <= row + down < shape[0] and 0 <= column + aside < shape[1]:
            expected[row, column] = intensity[row + down, column + aside] - intensity[row, column]
    if not np.array_equal(np.asarray(change), expected):
        raise Found("_changes gives another map than the plain form")


def attack_look_up(module: SimpleNamespace | ModuleType, rng: np.random.Generator, watched: bool) -> None:
    """Images of every value; other types and channels are refused before the loop."""
    array = Arrays(watched)
    rgb = rng.integers(0, 256, (2, 3, 3), dtype=np.uint8)
    table = rng.random((256, 3), np.float32)
    normal = array(np.zeros((3, 2, 3), np.float32))
    module._look_up(array(rgb), array(table), normal)
    array.check()
    if not np.array_equal(np.asarray(normal), np.stack([table[rgb[..., c], c] for c in range(3)])):
        raise Found("_look_up gives other values than the table")


def attack_grey(module: SimpleNamespace | ModuleType, rng: np.random.Generator, watched: bool) -> None:
    """Images of any brightness."""
    array = Arrays(watched)
    images = positions(rng, 2 * 3 * 2 * 2, 3, FAR).reshape(2, 3, 2, 2)
    grey = array(np.zeros((2, 2, 2), np.uint8))
    ones = np.ones(3, np.float32)
    with np.errstate(all="ignore"):
        module._grey_levels(array(images), array(ones), array(ones), array(np.ones(3, np.int32)), grey)
    array.check()


# module -> its attack, and the loops that it reaches
ATTACKS = {
    "mmseg.events.voxel_grid": (
        attack_events,
        {"_add_events", "_add_timed_events", "_add_raw_events", "_add_timed_raw_events"},
    ),
    "mmseg.events.normalize": (attack_scaling, {"_moments", "_standardize", "_rescale"}),
    "mmseg.extractors.content": (attack_changes, {"_changes"}),
    "mmseg.datasets.normalization": (attack_look_up, {"_look_up"}),
    "mmseg.uda.augment": (attack_grey, {"_grey_levels"}),
}


# ------------------------------------------------------------------------------------------------ checks to remove


def without(check: str, instead: str = "", number: int = 0) -> Callable[[str], str]:
    """A change of a source that removes a check; ``number`` says which one of equal ones."""

    def change(source: str) -> str:
        parts = source.split(check)
        assert len(parts) > number + 1, f"the source has no such check: {check}"
        return check.join(parts[: number + 1]) + instead + check.join(parts[number + 1 :])

    return change


def removed_checks() -> Iterator[tuple[str, Callable[[str], str]]]:
    """Every check of the loops that make voxel grids, with the change that removes it."""
    for number, loop in enumerate(("one bin", "bins")):
        for check in ("column < 0 or ", "column >= width or ", "row < 0 or ", " or row >= height"):
            yield f"raw events, {loop}: {check}", without(check, number=number)
    in_range = "times[i] >= _ZERO and times[i] <= last"
    for number, loop in enumerate(("positions", "raw events")):
        yield f"{loop}: first time", without(in_range, "times[i] <= last", number)
        yield f"{loop}: last time", without(in_range, "times[i] >= _ZERO", number)
        yield (
            f"{loop}: just after the last time",
            without(in_range, "times[i] >= _ZERO and times[i] < last + _ONE", number),
        )
    four_cells = (
        "x >= _ZERO and ",
        "x < np.float32(width - 1) and ",
        "y >= _ZERO and ",
        " and y < np.float32(height - 1)",
    )
    some_cells = (
        "x > np.float32(-2) and ",
        "x < np.float32(width) and ",
        "y > np.float32(-2) and ",
        " and y < np.float32(height)",
    )
    for check in (*four_cells, *some_cells):
        yield f"near the plane: {check}", without(check)
    for check, instead in (
        ("0 <= row + down < height", "row + down < height"),
        ("0 <= row + down < height", "0 <= row + down"),
        ("0 <= column + aside < width", "column + aside < width"),
        ("0 <= column + aside < width", "0 <= column + aside"),
        ("first + 1 < grid.shape[0]", "True"),
    ):
        yield f"{check}: {instead}", without(check, instead)


def rounds_to_find(module: ModuleType, change: Callable[[str], str], rounds: int) -> float:
    """Number of rounds after which the attack finds that a check is missing; infinity where it does not."""
    mutant = as_python(module, change)
    for number in range(rounds):
        try:
            attack_events(mutant, np.random.default_rng(number), watched=True)
        except Found:
            return number
    return math.inf
