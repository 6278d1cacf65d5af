"""Films: how many frames there are and when, whatever their headers say; and films that browsers play."""

import re
from itertools import pairwise

import cv2
import numpy as np
import pytest
from helpers.picture_tools import write_uneven_video, write_video

from mmseg.errors import DataError
from mmseg.inference.pictures import open_pictures, picture_times
from mmseg.io.videos import Video
from mmseg.visualization import films
from mmseg.visualization.films import CODECS, Film, film_file, working_codec

GREY = np.full((64, 96, 3), 90, np.uint8)
NTSC = 30000 / 1001


def test_even_times(tmp_path):
    video = Video(write_video(tmp_path / "drive.avi"))
    assert picture_times(video, start_time=1000).times == (1000, 51000, 101000, 151000, 201000)
    assert (len(video), video.frame_rate) == (5, 20.0)


def test_every_frame_has_its_own_time(tmp_path):
    """By the mean rate of the header they would be at 0, 130, 260 ..."""
    video = Video(write_uneven_video(tmp_path / "phone.mp4", [50, 50, 400, 100, 50]))
    assert picture_times(video, start_time=1000).times == (1000, 51000, 101000, 501000, 601000)
    assert video.frame_rate == pytest.approx(4 / 0.6)
    assert picture_times(video, start_time=0).earlier(1) == [None, 0, 50000, 100000, 500000]


@pytest.mark.parametrize(("name", "code"), [("a.avi", "MJPG"), ("a.mkv", "VP80"), ("a.mpg", "MPG1"), ("a.mov", "MJPG")])
def test_times_of_formats(tmp_path, name, code):
    """MPEG program streams do not say when the last frame is shown; Matroska rounds to 1 ms."""
    video = Video(write_video(tmp_path / name, 5, NTSC, code))
    assert len(video) == len(list(video)) == 5
    assert np.abs(np.array(video.times) - np.arange(5) * 1e6 / NTSC).max() < 1000
    assert video.frame_rate == pytest.approx(NTSC, rel=0.02)


def test_the_number_of_frames_is_counted(tmp_path):
    """A truncated video: its header still declares all 30 frames."""
    path = write_video(tmp_path / "cut.avi", 30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 30
    capture.release()
    video = open_pictures([path])
    count = len(list(video))
    assert 0 < count < 30
    assert len(video) == len(video.times) == count
    (tmp_path / "times.txt").write_text("".join(f"{1000 * i}\n" for i in range(count)))
    assert picture_times(video, tmp_path / "times.txt").times[-1] == 1000 * (count - 1)
    (tmp_path / "times.txt").write_bytes("\ufeff".encode() + b"".join(b"%d\r\n" % i for i in range(count)))
    assert picture_times(video, tmp_path / "times.txt").times[-1] == count - 1
    (tmp_path / "times.txt").write_text("".join(f"{i}\n" for i in range(30)))
    with pytest.raises(DataError, match=f"has 30 lines for {count} images"):
        picture_times(video, tmp_path / "times.txt")


@pytest.mark.parametrize(
    ("shown", "times"),
    [
        ((0, 40, None), (0, 40, 80)),
        ((0, 40, 80, None, None), (0, 40, 80, 120, 160)),
        ((0,), (0,)),
        ((0, None), None),
        ((0, 40, 40), None),
        ((0, 80, 40), None),
        ((0, None, 80), None),
        ((0, 40, 4000, None), None),
    ],
)
def test_times_that_are_not_said(tmp_path, shown, times):
    """They are extrapolated from the rate before them, or refused; then the video has no rate."""
    video = Video(write_video(tmp_path / "a.avi"))
    vars(video)["_shown"] = tuple(None if time is None else 1000 * time for time in shown)
    if times is None:
        assert video.frame_rate is None
        with pytest.raises(DataError, match=r"a\.avi does not say when its frames were taken; give --timestamps FILE"):
            picture_times(video, start_time=0)
    else:
        assert picture_times(video, start_time=7).times == tuple(7 + 1000 * time for time in times)
        assert len(video) == len(times)


def test_a_video_without_frames(tmp_path):
    path = write_video(tmp_path / "a.avi", 1)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"00dc") + 4])
    with pytest.raises(DataError, match=r"a\.avi(: no frame can be read| is not a video)"):
        len(Video(path))


# ---------------------------------------------------------------- writing


def read_frames(path) -> list[np.ndarray]:
    return [picture.read() for picture in Video(path)]


@pytest.mark.parametrize("size", [(64, 96), (63, 97)])
def test_a_film_is_what_browsers_play_where_that_can_be_written(tmp_path, size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 5)
    with film_file(tmp_path / "film.mp4", 12.5) as film:
        for number in range(12):
            film.add(np.clip(picture.astype(int) + 5 * number, 0, 255).astype(np.uint8))
    assert film.codec == working_codec(12.5, picture)
    capture = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode()
    capture.release()
    assert code in film.codec.read_as
    # H.264 and VP9 are what this project's OpenCV is asked for first
    assert film.codec.in_browsers or working_codec(25.0, GREY).code == "mp4v"
    frames = read_frames(tmp_path / "film.mp4")
    assert len(frames) == 12
    assert all(after.mean() > before.mean() for before, after in pairwise(frames))
    assert Video(tmp_path / "film.mp4").frame_rate == pytest.approx(12.5)
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_without_such_an_encoder_the_next_one_is_taken(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(films, "CODECS", (CODECS[0].__class__("xyzw", "no codec", ("xyzw",)), CODECS[-1]))
    with film_file(tmp_path / "film.mp4", 20.0) as film:
        film.add(GREY)
    assert (film.codec.name, film.codec.in_browsers) == ("MPEG-4 part 2", False)
    assert len(read_frames(tmp_path / "film.mp4")) == 1
    assert "ERROR" not in capfd.readouterr().err
    monkeypatch.setattr(films, "CODECS", ())
    with (
        pytest.raises(DataError, match="this build of OpenCV cannot write a film"),
        film_file(tmp_path / "no.mp4", 20.0) as film,
    ):
        film.add(GREY)
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_film_that_is_not_whole_is_an_error(tmp_path):
    """OpenCV does not report a full disk."""
    film = Film(tmp_path / "film.mp4", 20.0)
    for _ in range(5):
        film.add(GREY)
    film.close()
    film.path.write_bytes(film.path.read_bytes()[: film.path.stat().st_size // 2])
    with pytest.raises(DataError, match="the film of the overlays is incomplete; free disk space"):
        film.close()


def test_a_film_of_no_frame_is_no_file(tmp_path):
    with film_file(tmp_path / "film.mp4", 20.0):
        pass
    assert not list(tmp_path.iterdir())


def test_a_film_of_a_broken_run_is_no_file(tmp_path):
    film = film_file(tmp_path / "film.mp4", 20.0)
    film.__enter__().add(GREY)
    assert not film.__exit__(KeyError, KeyError(), None)
    film = film_file(tmp_path / "film.mp4", 20.0)
    film.__enter__()
    assert not film.__exit__(FileNotFoundError, FileNotFoundError(), None)
    assert not list(tmp_path.iterdir())


def test_frames_of_another_size_and_odd_rates(tmp_path):
    assert (Film(tmp_path / "a.mp4", 1000.0).rate, Film(tmp_path / "a.mp4", 1e-6).rate) == (240.0, 1.0)
    with film_file(tmp_path / "film.mp4", 1000.0) as film:
        for shape in ((64, 96, 3), (32, 48, 3), (64, 96, 3)):
            film.add(np.full(shape, 90, np.uint8))
    assert [frame.shape for frame in read_frames(tmp_path / "film.mp4")] == [(64, 96, 3)] * 3


def test_names_of_frames(tmp_path):
    names = [picture.name for picture in Video(write_video(tmp_path / "drive.avi", 2))]
    assert all(re.fullmatch(r"drive_\d{6}", name) for name in names)
