"""Event files as people have them: every type and format is read right, or refused by name with what is the matter."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from helpers import plain_forms
from helpers.event_tools import COUNT, events, write_csv, write_h5, write_map

from mmseg.checks.recordings import EventTask, read_events
from mmseg.errors import DataError
from mmseg.events.event_index import image_event_index
from mmseg.events.files import open_events
from mmseg.events.hdf5 import MAX_CHUNK_BYTES, read_rectify_map
from mmseg.events.recording import HEIGHT, WIDTH, EventRecording

# Polarity of brighter and darker events, in every type that a file may have.
POLARITIES = {
    "bool": (True, False),
    "uint8": (1, 0),
    "uint8 of 255": (255, 0),
    "int8": (1, -1),
    "int8 of zeros": (1, 0),
    "int16": (1, -1),
    "int32": (7, -7),
    "int64": (1, -1),
    "uint64": (1, 0),
    "float16": (1, -1),
    "float32": (1, 0),
    "float64": (0.5, -0.5),
    ">i2": (1, -1),
}


WRITERS = {
    "e.h5": write_h5,
    "e.npz": lambda path, columns: np.savez(path, **columns),
    "e.csv": write_csv,
}


@pytest.fixture(scope="module")
def rectify_map(tmp_path_factory) -> Path:
    return write_map(tmp_path_factory.mktemp("map") / "rectify_map.h5")


# ---------------------------------------------------------------- polarity


@pytest.mark.parametrize("kind", POLARITIES)
def test_positive_is_brighter_in_every_type_and_format(tmp_path, rectify_map, kind):
    brighter, darker = POLARITIES[kind]
    columns = events()
    expected = columns["p"] > 0
    polarity = np.where(expected, brighter, darker).astype(kind.split()[0])
    for name, write in WRITERS.items():
        write(tmp_path / name, columns | {"p": polarity})
        found = open_events(tmp_path / name).events(0, COUNT - 1)
        np.testing.assert_array_equal(found.p, expected, err_msg=name)
        assert found.p.dtype == np.uint8
    recording = EventRecording(tmp_path / "e.h5", rectify_map)
    t = columns["t"].astype(np.float64)
    for bins in (1, 5):
        in_window = (t - t[0]) / (t[-1] - t[0])
        plain = plain_forms.voxel_grid(in_window, columns["x"], columns["y"], expected, bins, HEIGHT, WIDTH)
        np.testing.assert_allclose(recording.voxel_grid(0, COUNT - 1, bins), plain, atol=1e-5)
    assert read_events(EventTask(tmp_path / "e.h5", 0, COUNT)) == COUNT


@pytest.mark.parametrize("kind", ["int16", "int64", "uint64", "float32", ">u2"])
def test_pixels_and_times_of_other_types(tmp_path, rectify_map, kind):
    columns = events()
    time_type = {"float32": "float64", ">u2": ">i8", "int16": "int32"}.get(kind, kind)
    other = columns | {
        "x": columns["x"].astype(kind),
        "y": columns["y"].astype(kind),
        "t": columns["t"].astype(time_type),
    }
    expected = EventRecording(write_h5(tmp_path / "dsec.h5", columns), rectify_map).voxel_grid(0, COUNT - 1, 5)
    found = EventRecording(write_h5(tmp_path / "other.h5", other), rectify_map).voxel_grid(0, COUNT - 1, 5)
    np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- what is wrong is wrong for every reader


def changed(key: str, place: int, value, dtype: str | None = None) -> dict[str, np.ndarray]:
    columns = events()
    columns[key] = columns[key].astype(dtype or columns[key].dtype)
    columns[key][place] = value
    return columns


WRONG = {
    "a time before its window": (changed("t", 20, 0), "times that are not in order"),
    "a time after its window": (changed("t", 20, 2**32 - 1), "times that are not in order"),
    "a negative time": (changed("t", 20, -5, "int64"), "times that are not in order"),
    "half a microsecond": (changed("t", 20, 1000.5, "float64"), "times that are not whole microseconds"),
    "no time": (changed("t", 20, np.nan, "float64"), "times that are not whole microseconds"),
    "endless time": (changed("t", 39, np.inf, "float64"), "times that are not whole microseconds"),
    "a time of 64 bits": (changed("t", 39, 2**63 + 5, "uint64"), "times that no clock shows"),
    "x at the right border": (changed("x", 20, WIDTH), "pixels outside 640x480"),
    "x far right": (changed("x", 20, 65535), "pixels outside 640x480"),
    "x left of the sensor": (changed("x", 20, -1, "int16"), "pixels outside 640x480"),
    "x far left": (changed("x", 20, -(2**63), "int64"), "pixels outside 640x480"),
    "x of 64 bits": (changed("x", 20, 2**64 - 1, "uint64"), "pixels outside 640x480"),
    "y below the sensor": (changed("y", 20, HEIGHT), "pixels outside 640x480"),
    "y above the sensor": (changed("y", 20, -3, "int32"), "pixels outside 640x480"),
    "no polarity": (changed("p", 20, np.nan, "float32"), "polarities that are not numbers"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_all_readers_and_the_deep_check_agree_on_what_is_wrong(tmp_path, rectify_map, fault):
    columns, message = WRONG[fault]
    path = write_h5(tmp_path / "e.h5", columns)
    np.savez(tmp_path / "e.npz", **columns, height=HEIGHT, width=WIDTH)
    recording = EventRecording(path, rectify_map)
    readers = {
        "one bin": lambda: recording.voxel_grid(0, COUNT - 1, 1),
        "five bins": lambda: recording.voxel_grid(0, COUNT - 1, 5),
        "window": lambda: recording.window(0, COUNT - 1),
        "deep check": lambda: read_events(EventTask(path, 0, COUNT)),
        "npz": lambda: open_events(tmp_path / "e.npz"),
        "npz and map": lambda: open_events(tmp_path / "e.npz", rectify_map),
    }
    for reader, read in readers.items():
        with pytest.raises(DataError) as caught:
            read()
        assert message in str(caught.value), reader
        assert "e.npz" in str(caught.value) if "npz" in reader else "e.h5" in str(caught.value)
    if "time" not in message:
        # what lies in another window does not matter to this one
        assert np.isfinite(recording.voxel_grid(0, 19, 5)).all()


def test_order_is_checked_where_times_are_not_needed(tmp_path, rectify_map):
    """Within a window; at its ends, the duration shows it."""
    columns = events()
    for place in (5, COUNT - 1):
        t = columns["t"].copy()
        t[place] = 0
        recording = EventRecording(write_h5(tmp_path / "e.h5", columns | {"t": t}), rectify_map)
        for _ in range(2):
            with pytest.raises(DataError, match=r"events 0\.\.39 of .* hold times that are not in order"):
                recording.voxel_grid(0, COUNT - 1, 1)
        recording.close()


def test_another_sensor(tmp_path):
    columns = events()
    columns["x"][7], columns["y"][7] = 1279, 719
    recording = EventRecording(write_h5(tmp_path / "e.h5", columns), None, (720, 1280))
    assert recording.voxel_grid(0, COUNT - 1, 1).shape == (1, 720, 1280)
    with pytest.raises(DataError, match="pixels outside 346x260"):
        EventRecording(tmp_path / "e.h5", None, (260, 346)).voxel_grid(0, COUNT - 1, 1)


# ---------------------------------------------------------------- HDF5: shapes before sizes, and what is the matter


def replaced(name: str, make):
    def edit(file: h5py.File) -> None:
        del file[name]
        make(file, name)

    return edit


def unknown_filter(file: h5py.File, name: str) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((COUNT,))
    creation.set_filter(36559, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((COUNT,))
    dataset = h5py.h5d.create(file["events"].id, name.split("/")[1].encode(), h5py.h5t.NATIVE_UINT16, space, creation)
    dataset.write_direct_chunk((0,), bytes(2 * COUNT), 0)


def several(*names: str):
    def make(file: h5py.File, _: str) -> None:
        for name in names:
            file[name] = np.zeros(3)

    return make


HUGE = {"shape": (10**12,), "chunks": (1000,)}
LAYOUTS = {
    "huge": ("events/t", lambda f, n: f.create_dataset(n, dtype="u4", **HUGE), "some of which were never written"),
    "never written": ("events/p", lambda f, n: f.create_dataset(n, (COUNT,), "u1"), "some of which were never written"),
    "half written": (
        "events/x",
        lambda f, n: f.create_dataset(n, (COUNT,), "u2", chunks=(10,)).__setitem__(slice(5), 1),
        "some of which were never written",
    ),
    "a huge chunk": (
        "events/x",
        lambda f, n: f.create_dataset(n, (MAX_CHUNK_BYTES,), "u2", chunks=(MAX_CHUNK_BYTES,)),
        "too large to unpack",
    ),
    "objects": ("events/t", lambda f, n: f.create_dataset(n, data=["a"] * COUNT), "is of type object"),
    "text": ("events/p", lambda f, n: f.create_dataset(n, data=np.array([b"a"] * COUNT)), "is of type |S1"),
    "two dimensions": ("events/y", lambda f, n: f.create_dataset(n, data=np.ones((COUNT, 1))), "2 dimensions"),
    "one number": ("events/y", lambda f, n: f.create_dataset(n, data=3), "0 dimensions"),
    "a group": ("events/t", lambda f, n: f.create_group(n), "is not an array"),
    "fewer": ("events/p", lambda f, n: f.create_dataset(n, data=[1]), "different lengths: 40 t, 40 x, 40 y, 1 p"),
    "none": ("events/p", lambda f, n: None, "has no events/p"),
    "a link": ("events/x", lambda f, n: f.__setitem__(n, h5py.SoftLink("/events/y")), "events/x is a link"),
    "elsewhere": ("events/x", lambda f, n: f.__setitem__(n, h5py.ExternalLink("b.h5", "/x")), "events/x is a link"),
    "other files": (
        "events/x",
        lambda f, n: f.create_dataset(n, (COUNT,), "u2", external=[(os.devnull, 0, 2 * COUNT)]),
        "lies in other files",
    ),
    "unknown filter": ("events/y", unknown_filter, "HDF5 filter 36559 ECF of Prophesee"),
    "Prophesee": ("events", several("CD/events"), "the layout of Prophesee's cameras"),
    "v2e": ("events", lambda f, n: f.create_dataset(n, data=np.zeros((9, 4), "u4")), "the layout of v2e"),
    "ESIM": ("events", several("events/xs", "events/ys", "events/ts", "events/ps"), "the layout of ESIM"),
    "MVSEC": ("events", several("davis/left/events"), "the layout of MVSEC"),
    "something else": ("events", several("a", "b"), "it holds 'a', 'b', 'ms_to_idx', 't_offset'"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_file_declares_is_looked_at_first(tmp_path, rectify_map, layout):
    name, make, message = LAYOUTS[layout]
    path = write_h5(tmp_path / "e.h5", events())
    with h5py.File(path, "r+") as file:
        replaced(name, make)(file)
    for read in (
        lambda: EventRecording(path, rectify_map).voxel_grid(0, COUNT - 1, 1),
        lambda: read_events(EventTask(path, 0, COUNT)),
    ):
        with pytest.raises(DataError, match=r"e\.h5") as caught:
            read()
        assert message in str(caught.value)
        assert "dsec.ifi.uzh.ch" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b""), "it is empty"),
        (lambda p: p.write_text("<!DOCTYPE html>"), "it is a web page"),
        (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        (lambda p: p.write_text("t,x,y,p\n"), "it is not an HDF5 file: it starts with b't,x,y,p"),
        (lambda p: os.truncate(p, 3000), r"it is truncated, 3,000 of [\d,]+ bytes"),
        (lambda p: p.unlink(), "it does not exist"),
        (lambda p: (p.unlink(), os.mkfifo(p)), "it is not a file"),
        (lambda p: (p.unlink(), p.mkdir()), "it is not a file"),
    ],
)
def test_what_is_the_matter_with_a_file(tmp_path, rectify_map, make, message):
    path = write_h5(tmp_path / "e.h5", events())
    make(path)
    for read in (lambda: EventRecording(path, None).duration(0, 1), lambda: image_event_index(path, [1])):
        with pytest.raises(DataError, match=message):
            read()


def test_a_locked_file_is_called_locked(tmp_path):
    path = write_h5(tmp_path / "e.h5", events())
    program = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.readline()"
    writer = subprocess.Popen([sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        writer.stdout.readline()
        with pytest.raises(DataError, match=r"it is locked\). Close the program that writes it") as caught:
            EventRecording(path, None).duration(0, 1)
        assert "ownload" not in str(caught.value)
    finally:
        writer.communicate(b"\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (30000, 30000, 2), "chunks": (100, 100, 2), "dtype": "f4"}, r"has shape \(30000, 30000, 2\), not"),
        ({"shape": (HEIGHT, WIDTH, 2), "chunks": (48, 64, 2), "dtype": "f4"}, "some of which were never written"),
        ({"shape": (HEIGHT, WIDTH, 2), "dtype": "S8"}, r"is of type \|S8"),
        ({"data": np.full((HEIGHT, WIDTH, 2), 1e300)}, "307200 of 307200 positions of rectify_map are not finite"),
        ({"data": 3}, r"has shape \(\), not"),
    ],
)
def test_a_rectify_map_is_not_read_before_its_shape(tmp_path, options, message):
    path = write_map(tmp_path / "map.h5", **options)
    with pytest.raises(DataError, match=message):
        read_rectify_map(path, (HEIGHT, WIDTH))
    np.savez(tmp_path / "e.npz", **events())
    with pytest.raises(DataError, match=message):
        open_events(tmp_path / "e.npz", path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("t_offset", np.arange(3), "t_offset is"),
        ("t_offset", np.uint64(2**64 - 1), "not a time"),
        ("t_offset", np.nan, "not a time"),
        ("t_offset", "now", "not one number"),
        ("ms_to_idx", np.zeros((2, 2), int), "not a row of integers"),
        ("ms_to_idx", np.array([np.nan]), "not a row of integers"),
    ],
)
def test_odd_clocks_are_refused(tmp_path, name, value, message):
    path = write_h5(tmp_path / "e.h5", events())
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = value
    with pytest.raises(DataError, match=message):
        image_event_index(path, [500])


@pytest.mark.parametrize("wrong_index", [np.full(9, 2**64 - 1, np.uint64), np.array([-5, 10**18, -(2**63)])])
def test_a_hostile_millisecond_index_is_not_followed(tmp_path, wrong_index):
    path = write_h5(tmp_path / "e.h5", events())
    expected = image_event_index(path, [500, 1500, 1900]).tolist()
    with h5py.File(path, "r+") as file:
        del file["ms_to_idx"]
        file["ms_to_idx"] = wrong_index
    assert image_event_index(path, [500, 1500, 1900]).tolist() == expected


@pytest.mark.parametrize("window", [(-1, 3), (5, 2), (0, COUNT), (10**17, 10**18)])
def test_event_numbers_outside_the_file_are_refused(tmp_path, window):
    recording = EventRecording(write_h5(tmp_path / "e.h5", events(), **hdf5plugin.Blosc()), None)
    for read in (recording.duration, recording.window, lambda *ends: recording.voxel_grid(*ends, 1)):
        with pytest.raises(DataError, match=r"ends before event|not in order"):
            read(*window)
    recording.close()
