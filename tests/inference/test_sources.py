"""What inference reads: patterns, what it skips in folders, cameras and streams."""

import io
import shutil
import signal
import sys

import cv2
import numpy as np
import pytest
from helpers.network_tools import make_network
from PIL import Image
from rich.console import Console

from mmseg.apis import infer, init_model
from mmseg.commands.infer import parse_args
from mmseg.errors import CMDAError, DataError
from mmseg.inference import progress
from mmseg.inference.pictures import live_source, open_pictures
from mmseg.io import streams
from mmseg.io.streams import Stream, is_stream, shown_address
from mmseg.io.videos import Video

FRAMES = 12


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images among other files."""
    monkeypatch.chdir(tmp_path)
    for name in ("night/a.png", "night/b.jpg", "night/deep/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 64)).save(tmp_path / name)
    for name in ("loop.gif", "phone.HEIC", "drive.mp4", "notes.txt", "camera.cr2", ".hidden.gif"):
        (tmp_path / "night" / name).touch()
    return tmp_path / "night"


@pytest.fixture
def film(tmp_path):
    """A short video, which stands for a camera."""
    writer = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 64))
    for value in range(FRAMES):
        writer.write(np.full((64, 96, 3), 20 * value, np.uint8))
    writer.release()
    return tmp_path / "film.avi"


def names(pictures) -> list[str]:
    return [str(path) for path in pictures.paths]


SKIPPED = [
    "night/camera.cr2 (raw of a camera, convert it to .png)",
    "night/drive.mp4 (a video, give it by itself)",
    "night/loop.gif (convert it to .png, or to a video)",
    "night/phone.HEIC (convert it to .jpg or .png)",
]


def test_a_folder_names_what_is_not_read(folder):
    pictures = open_pictures(["night"])
    assert names(pictures) == ["night/a.png", "night/b.jpg"]
    assert pictures.skipped == SKIPPED
    for path in folder.glob("*.*g"):
        path.unlink()
    with pytest.raises(DataError, match=r"night holds no image \(.*\); not read: night/camera.cr2 \(raw of a camera"):
        open_pictures(["night"])


def test_patterns(folder):
    assert names(open_pictures(["night/*.png"])) == ["night/a.png"]
    assert names(open_pictures(["night/[ab].*"])) == ["night/a.png", "night/b.jpg"]
    assert names(open_pictures(["night/**/*.png"])) == ["night/a.png", "night/deep/c.png"]
    (folder / "empty").mkdir()
    assert names(open_pictures(["night/**"])) == ["night/a.png", "night/b.jpg", "night/deep/c.png"]
    mixed = open_pictures(["night/*"])
    assert names(mixed) == ["night/a.png", "night/b.jpg", "night/deep/c.png"]
    assert sorted(mixed.skipped) == SKIPPED
    with pytest.raises(DataError, match=r"no file or folder matches night/\*.bmp"):
        open_pictures(["night/*.bmp"])
    with pytest.raises(DataError, match=r"night/\*.txt holds no image"):
        open_pictures(["night/*.txt"])
    # a name is taken before a pattern
    shutil.copy("night/a.png", "night/[x].png")
    assert names(open_pictures(["night/[x].png"])) == ["night/[x].png"]


def test_order(tmp_path, monkeypatch):
    """Numbers count in folders and patterns, zeros before them change nothing, and named files stay in their order."""
    monkeypatch.chdir(tmp_path)
    for stems in (["1", "2", "10"], ["f_0009", "f_0010", "f_0100"]):
        wanted = [f"{stems[0]}_night/{stem}.png" for stem in stems]
        (tmp_path / wanted[0]).parent.mkdir()
        for name in wanted:
            (tmp_path / name).touch()
        for inputs in ([f"{stems[0]}_night"], [f"{stems[0]}_night/*.png"]):
            assert names(open_pictures(inputs)) == wanted
        assert names(open_pictures(wanted[::-1])) == wanted[::-1]


def test_one_video_by_a_pattern(film, monkeypatch):
    monkeypatch.chdir(film.parent)
    assert isinstance(open_pictures(["*.avi"]), Video)


def test_a_file_that_is_named_is_refused(folder):
    with pytest.raises(DataError, match=r"loop.gif has the suffix of neither .*; convert it to .png, or to a video"):
        open_pictures(["night/a.png", "night/loop.gif"])
    with pytest.raises(DataError, match=r"drive\.mp4 is a video; give either one video, or images and folders"):
        open_pictures(["night/a.png", "night/drive.mp4"])


def test_cameras_and_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [is_stream(given) for given in ("0", "12", "rtsp://x/y", "HTTP://x", "123", "x", "-1", "c:/x")] == (
        [True] * 4 + [False] * 4
    )
    (tmp_path / "0").mkdir()
    assert not is_stream("0")
    assert shown_address("rtsp://user:secret@host:554/a?key=1") == "rtsp://host:554/a"
    assert shown_address("3") == "camera 3"
    assert live_source(["rtsp://x"]) == "rtsp://x"
    assert live_source(["a", "b"]) is None
    with pytest.raises(DataError, match="camera 1 is a camera or a stream; give either one of these, or files"):
        live_source(["1", "a.png"])
    monkeypatch.setattr(sys, "argv", ["infer.py", "rtsp://x/y", "--out", "o", "--work-dir", "w", "--frames", "3"])
    assert parse_args().inputs == ["rtsp://x/y"]


class Closed:
    """A camera that is not there."""

    def __init__(self, *_):
        pass

    def isOpened(self):
        return False


def test_what_cannot_be_opened(monkeypatch):
    monkeypatch.setattr(streams.cv2, "VideoCapture", Closed)
    with pytest.raises(DataError, match=r"camera 7 cannot be opened by OpenCV; is it connected, and free\?"):
        Stream("7")
    with pytest.raises(DataError, match="rtsp://host/a cannot be opened by OpenCV; check the address") as caught:
        Stream("rtsp://user:secret@host/a")
    assert "secret" not in str(caught.value)


def test_the_newest_frame_is_given(film):
    stream = Stream(str(film))
    pictures = iter(stream)
    taken = [next(pictures)]
    # the reader goes on to the end
    while not stream.ended:
        pass
    taken += pictures
    assert stream.came == FRAMES
    assert len(taken) in (1, 2)
    number = int(taken[-1].name.rpartition("_")[2])
    assert number == FRAMES - 1
    assert abs(int(taken[-1].read().mean()) - 20 * number) < 5


def test_a_stream_through_the_network(film, tmp_path, monkeypatch):
    """With its real reader; only what names the source is replaced, as there is no camera."""
    model = init_model(**make_network(tmp_path / "dsec", "cmda_toy_city"), device="cpu")
    opened = cv2.VideoCapture
    monkeypatch.setattr(streams.cv2, "VideoCapture", lambda given: opened(str(film)))
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    shown = io.StringIO()
    report = infer(model, ["0"], tmp_path / "out", size="image", frames=2, console=Console(file=shown, width=200))
    assert 1 <= report.written <= 2
    made = sorted((tmp_path / "out").glob("camera0_*.png"))
    assert len(made) == len(list((tmp_path / "out" / "overlay").glob("*.png"))) == report.written
    assert not (tmp_path / "out" / "overlay.mp4").exists()
    assert "camera 0: 1 frames, " in shown.getvalue()
    assert " frames/s, " in shown.getvalue()
    assert f"{report.passed_over:,} frames came while the network was busy" in "\n".join(report.lines())
    for arguments, message in (
        (dict(inputs=["0"], events="x.h5"), "frames of a camera or stream have no times"),
        (dict(inputs=[film], frames=2), "a number of frames is for a camera or stream"),
    ):
        with pytest.raises(CMDAError, match=message):
            infer(model, out_dir=tmp_path / "out", **arguments)


def test_a_signal_ends_a_stream_in_order(film, tmp_path, monkeypatch):
    from mmseg.inference.files import _stages

    stream = Stream(str(film))
    with _stages(stream):
        signal.raise_signal(signal.SIGINT)
        assert stream.ended
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
