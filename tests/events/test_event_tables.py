"""Event files that are read whole, as people and programs write them: read right, or refused by name."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.event_tools import COUNT, events, write_map

from mmseg.errors import DataError
from mmseg.events.files import FrameEvents, find_windows, open_events, usable_events

# ---------------------------------------------------------------- .npz


def archive(path: Path, method: int = zipfile.ZIP_DEFLATED, prefix: str = "", shape: tuple | None = None) -> Path:
    """An archive of arrays, in which t may declare a wrong shape."""
    with zipfile.ZipFile(path, "w", method) as file:
        for key, values in events().items():
            buffer = io.BytesIO()
            np.save(buffer, values)
            if shape is not None and key == "t":
                buffer = io.BytesIO()
                header = {"descr": "<u4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(buffer, header)
                buffer.write(bytes(COUNT))
            file.writestr(f"{prefix}{key}.npy", buffer.getvalue())
    return path


def spoilt(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"NUMPY", b"NuMPY"))


def patched(path: Path, local: int, central: int, value: int) -> Path:
    """Change a field of all entries of an archive."""
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        start = content.find(mark)
        while start >= 0:
            struct.pack_into("<H", content, start + place, value)
            start = content.find(mark, start + 4)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("prefix", ["", "./", ".//"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_archives_of_other_programs(tmp_path, prefix, method):
    found = open_events(archive(tmp_path / "e.npz", method, prefix)).events(0, COUNT - 1)
    np.testing.assert_array_equal(found.t, events()["t"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b""), "is not a readable .npz"),
        (lambda p: p.write_bytes(b"PK\x03\x04 and no more"), "is not a readable .npz"),
        (lambda p: np.savez(p, t=[1]), "holds no x, y, p, but t"),
        (lambda p: np.savez(p), "is not a readable .npz|holds no t, x, y, p, but nothing"),
        (lambda p: patched(archive(p), 6, 8, 1), "it is protected by a password"),
        (lambda p: patched(archive(p), 8, 10, 9), "compression method is not supported"),
        (
            lambda p: p.write_bytes(archive(p, zipfile.ZIP_STORED).read_bytes().replace(b"NUMPY", b"NuMPY")),
            "is not a readable .npz",
        ),
        (lambda p: p.write_bytes(archive(p).read_bytes()[:-30]), "is not a readable .npz"),
        (lambda p: archive(p, shape=(10**12,)), r"1,000,000,000,000 events to hold in memory at once"),
        (lambda p: archive(p, shape=(10**8,)), "less data in t.npy than the 400,000,000 bytes"),
        (lambda p: archive(p, shape=(-5,)), "less data in t.npy"),
        (lambda p: archive(p, shape=(10**6, 10**6)), "t has 2 dimensions"),
        (lambda p: np.savez(p, **events(p=np.array([{}] * COUNT))), "p is of type object"),
        (lambda p: np.savez(p, **events(x=np.ones(COUNT, complex))), "x is of type complex128"),
        (lambda p: np.savez(p, **{key: values[:0] for key, values in events().items()}), "holds no events"),
        (lambda p: np.savez(p, **events(), height=10**9, width=9), "a frame of 9x1000000000 pixels"),
        (lambda p: np.savez(p, **events(), height=np.nan, width=9), "a height of nan"),
        (lambda p: np.savez(p, **events(), height=[1, 2], width=9), "height is .2,. of int64, not one number"),
        (lambda p: np.savez(p, **events(x=np.full(COUNT, np.inf))), "positions that are not numbers"),
        (lambda p: np.savez(p, **events(y=np.full(COUNT, -1))), "pixels outside"),
    ],
)
def test_hostile_archives_are_refused_in_one_line(tmp_path, make, message):
    make(tmp_path / "e.npz")
    with pytest.raises(DataError, match=message) as caught:
        open_events(tmp_path / "e.npz")
    assert "e.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_stream_in_an_archive(tmp_path):
    content = bytearray(archive(tmp_path / "e.npz").read_bytes())
    content[45:70] = b"\xff" * 25
    (tmp_path / "e.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"e\.npz is not a readable \.npz"):
        open_events(tmp_path / "e.npz")


def test_a_frame_of_another_size_than_the_map(tmp_path):
    rectify_map = write_map(tmp_path / "rectify_map.h5")
    np.savez(tmp_path / "e.npz", **events(), height=720, width=1280)
    with pytest.raises(DataError, match="events of 1280x720 pixels, the map 640x480"):
        open_events(tmp_path / "e.npz", rectify_map)


# ---------------------------------------------------------------- .csv, .txt


def table(order: str, separator: str = ",") -> str:
    columns = events()
    lines = zip(*(columns[key].tolist() for key in order), strict=True)
    return "".join(separator.join(map(str, line)) + "\n" for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        table("txyp"),
        "# x,y,p,t\n" + table("xypt"),
        "#x y p t\n" + table("xypt", " "),
        "x,y,p,t\n" + table("xypt"),
        "\ufeffx,y,p,t\n" + table("xypt"),
        "# recorded at night\n#\n\n# y, x, t, p\n" + table("yxtp"),
        "# recorded at night\n" + table("txyp", " "),
        '"Timestamp","X","Y","Polarity"\n' + table("txyp"),
        "x;y;pol;time\n" + table("xypt", ";"),
        "x\ty\tp\tt\n" + table("xypt", "\t"),
        ("x,y,p,t\n" + table("xypt")).replace("\n", "\r\n"),
    ],
)
def test_names_say_which_column_is_which(tmp_path, text):
    (tmp_path / "e.csv").write_text(text, encoding="utf-8", newline="")
    found, expected = open_events(tmp_path / "e.csv").events(0, COUNT - 1), events()
    for key in "txyp":
        np.testing.assert_array_equal(getattr(found, key), expected[key])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no line of events"),
        ("t,x,y,p\n", "it has no line of events"),
        (table("xypt"), "if they are x,y,p,t, as Metavision writes them, add a line of names above"),
        ("5,6,1,70\n5,6,0,90\n7,7,1,99\n", "if they are x,y,p,t, as Metavision writes them"),
        ("# x,p,t\n" + table("xypt"), "its names do not say which of 4 columns are t, x, y and p: '# x,p,t'"),
        ("# columns: x y p t\n" + table("xypt", " "), "its names do not say which of 4 columns"),
        ("t,x,x,y,p\n1,2,3,4,1\n", "its names do not say which of 5 columns"),
        ("t,x,y,p\n1,2,3,4,1\n", "its names do not say which of 5 columns"),
        ("1,2,3,1,9\n", "it has 5 columns without names"),
        ("1,2,3,1\n1,2,3\n", "is not a readable table"),
        ("1,2,3,1\n1,2,three,1\n", "is not a readable table"),
        ("t,x,y,p\n1,2,3,1\nnan,2,3,1\n", "times that are not whole microseconds (event 1: t=nan)"),
        ("0.001,2,3,1\n0.002,2,3,1\n", "times that are not whole microseconds (event 0"),
        ("5,2,3,1\n4,2,3,1\n", "times that are not in order (event 1 at 4 µs follows one at 5 µs)"),
        ("1,-2,3,1\n", "pixels outside"),
        ("\0" * 50, "is not a readable table"),
        ("1" * 100_000, "a line of 65,536 or more characters"),
        ("\udcff\udcfe", "is not a readable table"),
    ],
)
def test_odd_tables_are_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "e.csv").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError) as caught:
        open_events(tmp_path / "e.csv")
    assert message in str(caught.value)
    assert "e.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- events from Python


def test_times_beyond_64_bits_are_outside_the_recording(tmp_path):
    np.savez(tmp_path / "e.npz", **events())
    source = open_events(tmp_path / "e.npz")
    assert find_windows(source, [1500], [None], window=10**30) == [None]
    assert source.index([10**30, -(10**30)]).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t": np.array([1, 0])}, "not in order"),
        ({"t": np.array([1, 2, 3])}, "different lengths"),
        ({"x": np.array([np.nan, 1])}, "not numbers"),
        ({"p": np.array([np.nan, 1])}, "not numbers"),
        ({"y": np.array(["a", "b"])}, "of type <U1"),
        ({"size": (10**9, 10**9)}, "a frame of"),
    ],
)
def test_events_made_by_hand_are_checked(changes, message):
    columns = dict(t=np.arange(2), x=np.ones(2), y=np.ones(2), p=np.array([-1, 1]), size=(9, 9))
    np.testing.assert_array_equal(usable_events(FrameEvents(**columns)).p, [0, 1])
    with pytest.raises(DataError, match=message):
        usable_events(FrameEvents(**columns | changes))
