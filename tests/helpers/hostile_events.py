"""Events in any type of number, some of them impossible, as hypothesis draws them."""

import numpy as np
from hypothesis import strategies as st

from mmseg.events.recording import HEIGHT, WIDTH

TYPES = {
    "t": ["uint32", "uint32", "int64", "uint64", "float64", ">u4"],
    "x": ["uint16", "uint16", "int16", "int64", "uint64", "float32"],
    "y": ["uint16", "uint16", "int8", "int32", ">u2", "float64"],
    "p": ["uint8", "uint8", "int8", "bool", "int64", "float32"],
}
RANGES = {"t": (0, 60_000), "x": (0, WIDTH - 1), "y": (0, HEIGHT - 1), "p": (0, 1)}


@st.composite
def event_columns(draw) -> dict[str, np.ndarray]:
    """Columns in DSEC's types or others; a value of any size the type holds here and there."""
    count = draw(st.integers(0, 20))
    columns = {}
    for key, types in TYPES.items():
        dtype, (low, high) = np.dtype(draw(st.sampled_from(types))), RANGES[key]
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            high = min(high, limits.max)
            edges = [limits.min, limits.max, high, min(high + 1, limits.max)]
            odd = st.integers(limits.min, limits.max) | st.sampled_from(edges)
        else:
            odd = st.floats(width=min(64, 8 * dtype.itemsize)) if dtype.kind == "f" else st.booleans()
        values = np.random.default_rng(draw(st.integers(0, 99))).integers(low, high + 1, count)
        values = (np.sort(values) if key == "t" else values).astype(dtype)
        for place in draw(st.lists(st.integers(0, count - 1), max_size=2)) if count and draw(st.booleans()) else ():
            values[place] = draw(odd)
        columns[key] = values
    return columns


def usable(columns: dict[str, np.ndarray], part: slice) -> bool:
    """Whether the values of a window are those of events, said in Python's own numbers."""
    t, x, y, p = ([value.item() for value in columns[key][part]] for key in "txyp")
    whole = all(value == value and abs(value) < 2**62 and value == int(value) for value in (*t, *x, *y))
    inside = all(0 <= a < WIDTH and 0 <= b < HEIGHT for a, b in zip(x, y, strict=True))
    # floats beyond 2^53 stand for several whole numbers
    exact = columns["t"].dtype.kind != "f" or all(abs(value) <= 2**53 for value in t)
    return whole and inside and exact and t == sorted(t) and all(value == value for value in p)


def as_lines(columns: dict[str, np.ndarray], order: str) -> list[str]:
    """The events as lines of a table."""
    values = ([repr(value.item()) for value in columns[key]] for key in order)
    return [",".join(cells) for cells in zip(*values, strict=True)]
