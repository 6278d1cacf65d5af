"""Event index and frame lists of DSEC_Night: golden files, edges of a recording, bad input, the script."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from rich.console import Console

from mmseg.datasets.dsec_frames import (
    DSECFrame,
    describe_folders,
    read_event_index,
    read_frame_list,
    read_timestamps,
)
from mmseg.errors import DataError
from mmseg.events import event_index
from mmseg.events.event_index import image_event_index
from mmseg.preparation import dsec_lists
from mmseg.preparation.dsec_lists import create_dsec_lists

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "tests" / "golden"
SCRIPT = REPOSITORY / "create_dsec_dataset_txt.py"
OFFSET = 59_000_000_000
SEQUENCE = "zurich_city_09_a"


def write_recording(path: Path, times, ms_to_idx="exact", offset: int = OFFSET) -> Path:
    """Write a small events.h5; ``ms_to_idx`` is 'exact' (as in DSEC), None (omitted) or the values."""
    times = np.asarray(times, dtype=np.uint32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("events/t", data=times, chunks=(min(64, len(times)),), **hdf5plugin.Blosc(cname="zstd"))
        file["t_offset"] = np.int64(offset)
        if isinstance(ms_to_idx, str):
            milliseconds = np.arange(int(times[-1]) // 1000 + 1 if len(times) else 0)
            ms_to_idx = np.searchsorted(times, milliseconds * 1000)
        if ms_to_idx is not None:
            file["ms_to_idx"] = np.asarray(ms_to_idx, dtype=np.uint64)
    return path


def write_sequence(root: Path, name: str = SEQUENCE, frames: int = 12, warp=range(12), labels=()) -> Path:
    """Write a sequence with an image every 5 ms from 5 ms, and an event every 100 µs up to 60 ms."""
    sequence = root / name
    write_recording(sequence / "events" / "left" / "events.h5", np.arange(0, 60_001, 100))
    for folder in ("images", "warp_images", "labels"):
        (sequence / folder).mkdir()
    timestamps = [str(OFFSET + 5000 * (frame + 1)) for frame in range(frames)]
    (sequence / "images" / "timestamps.txt").write_text("\n".join(timestamps) + "\n")
    for frame in warp:
        (sequence / "warp_images" / f"{frame:06d}.png").touch()
    for frame in labels:
        (sequence / "labels" / f"{name}_{frame:06d}_grey_gtFine_labelTrainIds.png").touch()
    return sequence


def create(root, out_dir) -> tuple[list, str]:
    """Run the tool in this process; return its result and output."""
    output = io.StringIO()
    return create_dsec_lists(root, out_dir, Console(file=output, width=120)), output.getvalue()


def run_script(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def numbers(frames) -> list[int]:
    return [frame.frame for frame in frames]


@pytest.fixture
def golden_root(tmp_path: Path) -> Path:
    root = tmp_path / "DSEC_Night"
    shutil.copytree(GOLDEN / "mini" / "DSEC_Night", root)
    for index_file in root.glob("*/images/images_to_events_index.txt"):
        index_file.unlink()
    return root


# ---------------------------------------------------------------------------------------------- golden


@pytest.mark.parametrize("ms_to_idx", [True, False], ids=["ms_to_idx", "bisection"])
def test_golden_files_are_reproduced_byte_for_byte(golden_root, tmp_path, monkeypatch, ms_to_idx):
    if not ms_to_idx:
        for recording in golden_root.glob("*/events/left/events.h5"):
            with h5py.File(recording, "r+") as file:
                del file["ms_to_idx"]
    # Inside the root, lists hold the paths of the golden ones.
    monkeypatch.chdir(golden_root)
    create(".", ".")
    golden = GOLDEN / "c10_dsec_txt"
    for name in ("night_dataset_warp.txt", "night_test_dataset_warp.txt"):
        assert (golden_root / name).read_bytes() == (golden / name).read_bytes()
    for letter in "ab":
        written = golden_root / f"zurich_city_09_{letter}" / "images" / "images_to_events_index.txt"
        assert written.read_bytes() == (golden / f"images_to_events_index_09_{letter}.txt").read_bytes()


def test_golden_lists_read_back_as_frames_whose_files_exist(golden_root, tmp_path):
    create(golden_root, tmp_path)
    train = read_frame_list(tmp_path / "night_dataset_warp.txt")
    test = read_frame_list(tmp_path / "night_test_dataset_warp.txt")
    assert [(f.sequence[-1], f.frame) for f in test] == [
        *(("a", n) for n in (797, 799, 801)),
        *(("b", n) for n in (149, 152)),
    ]
    for frame in train + test:
        for file in (frame.warp_image, frame.events_file, frame.rectify_map_file, frame.index_file):
            assert file.is_file()
        assert read_event_index(frame.index_file)[frame.frame] == frame.event_index
    assert all(frame.label.is_file() for frame in test)


# ----------------------------------------------------------------------------------- event index edges

TIMES = [1, 1, 2, 1500, 9000, 9400, 9400, 9999]


@pytest.mark.parametrize("ms_to_idx", ["exact", None], ids=["ms_to_idx", "bisection"])
@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (-5, -1),
        (0, -1),
        (1, 1),
        (2, 2),
        (999, 2),
        (5000, 3),
        (8999, 3),
        (9000, 4),
        (9400, 6),
        (9998, 6),
        (9999, 7),
        (10_000, -1),
        (5_000_000, -1),
    ],
)
def test_last_event_at_or_before_the_image(tmp_path, time, expected, ms_to_idx):
    recording = write_recording(tmp_path / "events.h5", TIMES, ms_to_idx)
    assert image_event_index(recording, [OFFSET + time]).tolist() == [expected]


def test_image_at_t_offset_is_outside_even_with_an_event_there(tmp_path):
    recording = write_recording(tmp_path / "events.h5", [0, 0, 700])
    assert image_event_index(recording, [OFFSET, OFFSET + 1]).tolist() == [-1, 1]


def test_image_between_t_offset_and_first_event_has_no_event(tmp_path):
    recording = write_recording(tmp_path / "events.h5", [5300, 5300, 7000])
    images = [OFFSET + time for time in (1, 5000, 5299, 5300)]
    assert image_event_index(recording, images).tolist() == [-1, -1, -1, 1]


def test_recording_of_one_event(tmp_path):
    recording = write_recording(tmp_path / "events.h5", [40])
    assert image_event_index(recording, [OFFSET + time for time in (39, 40, 41)]).tolist() == [-1, 0, -1]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("max_events_read", [1 << 16, 4], ids=["one_read", "bisected"])
def test_equals_searchsorted_on_random_recordings(tmp_path, monkeypatch, seed, max_events_read):
    monkeypatch.setattr(event_index, "MAX_EVENTS_READ", max_events_read)
    rng = np.random.default_rng(seed)
    # Few distinct times and wide ones: runs of equal times in some recordings, empty milliseconds in others.
    span = int(rng.choice([30, 3000, 60_000]))
    times = np.sort(rng.integers(0, span, size=rng.integers(1, 400)))
    images = np.sort(rng.integers(-span // 4, span + span // 4, size=60))
    exact = np.searchsorted(times, np.arange(times[-1] // 1000 + 1) * 1000)
    expected = np.searchsorted(times, images, side="right") - 1
    expected[(images <= 0) | (images > times[-1])] = -1
    for case, ms_to_idx in enumerate((exact, [*exact, len(times)], exact[:-1], None)):
        recording = write_recording(tmp_path / f"{case}.h5", times, ms_to_idx)
        np.testing.assert_array_equal(image_event_index(recording, OFFSET + images), expected)


def test_wrong_ms_to_idx_is_noticed_and_not_followed(tmp_path, caplog):
    times = np.arange(0, 20_000, 10)
    wrong = np.full(20, 10**9)
    images = OFFSET + np.arange(500, 20_000, 900)
    expected = image_event_index(write_recording(tmp_path / "right.h5", times), images)
    assert not caplog.records
    recording = write_recording(tmp_path / "wrong.h5", times, wrong)
    np.testing.assert_array_equal(image_event_index(recording, images), expected)
    assert "ms_to_idx disagrees" in caplog.text


def test_only_small_slices_are_read(tmp_path, monkeypatch):
    times = np.arange(200_000)
    recording = write_recording(tmp_path / "events.h5", times)
    read = []
    original = h5py.Dataset.__getitem__

    def count(dataset, key):
        values = original(dataset, key)
        if dataset.name == "/events/t":
            read.append(np.size(values))
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", count)
    image_event_index(recording, [OFFSET + 100_000, OFFSET + 150_000])
    assert max(read) <= 1000
    assert sum(read) <= 2100


# ------------------------------------------------------------------------------------ choice of frames


def test_frames_need_warp_image_event_index_and_number_of_two(tmp_path):
    # 12 images, of which the last lies at the recording's end (60 ms); the 13th has no events.
    sequence = write_sequence(tmp_path / "root", "zurich_city_09_b", 13, warp=[0, 1, 2, 3, 11, 12, 50])
    (result,), _ = create(tmp_path / "root", tmp_path)
    assert (result.train, result.test) == ((), ())
    for frame in (0, 1, 2, 5, 12):
        (sequence / "labels" / f"zurich_city_09_b_{frame:06d}_grey_gtFine_labelTrainIds.png").touch()
    (result,), _ = create(tmp_path / "root", tmp_path)
    assert numbers(result.test) == [2]
    assert result.unlisted_labels == {
        "no warp image": (5,),
        "event index not above 0": (12,),
        "frame number below 2": (0, 1),
    }


@pytest.mark.parametrize(("letter", "last"), [("a", 797), ("b", 149), ("c", 581), ("d", 743), ("e", 365)])
def test_held_out_ranges_are_inclusive_and_only_for_training(tmp_path, letter, last):
    name = f"zurich_city_09_{letter}"
    sequence = tmp_path / name
    frames = (last - 1, last, last + 1)
    for folder in ("warp_images", "labels"):
        (sequence / folder).mkdir(parents=True)
    for frame in frames:
        (sequence / "warp_images" / f"{frame:06d}.png").touch()
        (sequence / "labels" / f"{name}_{frame:06d}_grey_gtFine_labelTrainIds.png").touch()
    result = dsec_lists.select_frames(sequence, np.arange(1000))
    assert numbers(result.train) == [last + 1]
    assert numbers(result.test) == list(frames)


def test_sequences_are_listed_in_order_of_name(tmp_path):
    for letter in "cab":
        write_sequence(tmp_path / "root", f"zurich_city_09_{letter}", labels=[3, 2])
    (tmp_path / "root" / "zurich_city_09_f").mkdir()
    create(tmp_path / "root", tmp_path)
    frames = read_frame_list(tmp_path / "night_test_dataset_warp.txt")
    assert [(frame.sequence[-1], frame.frame) for frame in frames] == [(s, n) for s in "abc" for n in (2, 3)]


@pytest.mark.parametrize("given", ["root", "root/", "./root//", "{absolute}", "{absolute}/"])
@pytest.mark.parametrize(
    ("out", "prefix"), [(".", "root"), ("lists", "../root"), ("a/b", "../../root"), ("root", ""), ("link", None)]
)
def test_lists_hold_paths_relative_to_themselves(tmp_path, monkeypatch, given, out, prefix):
    write_sequence(tmp_path / "root", labels=[4])
    (tmp_path / "far" / "away").mkdir(parents=True)
    # From behind a link, ".." leads elsewhere.
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    create(given.format(absolute=tmp_path / "root"), out)
    path = tmp_path / "root" / SEQUENCE if prefix is None else Path(prefix) / SEQUENCE
    line = f"{path.as_posix()}/images/left/rectified/000004.png 250\n"
    assert (tmp_path / out / "night_test_dataset_warp.txt").read_text() == line


def frames_of(folder: Path, name: str = "night_test_dataset_warp.txt", root: Path | None = None) -> set[Path]:
    return {frame.sequence_dir.resolve() for frame in read_frame_list(folder / name, root)}


def test_lists_and_data_move_together(tmp_path, monkeypatch):
    write_sequence(tmp_path / "old" / "data" / "DSEC_Night", labels=[4])
    create(tmp_path / "old" / "data" / "DSEC_Night", tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "old")
    assert frames_of(tmp_path / "copy") == {tmp_path / "copy/data/DSEC_Night" / SEQUENCE}


@pytest.mark.parametrize("named", ["{old}/data/DSEC_Night", "data/DSEC_Night", "./data//DSEC_Night", "{old}/there"])
@pytest.mark.parametrize("beside", [True, False], ids=["list_in_root", "list_elsewhere"])
def test_lists_of_another_place_are_read_below_the_root_first(tmp_path, monkeypatch, named, beside):
    """Paths of another machine, or relative to a working directory, even if the old place still exists."""
    old, new = tmp_path / "old", tmp_path / "new"
    for root in (old / "data" / "DSEC_Night", old / "there"):
        (root / SEQUENCE).mkdir(parents=True)
    inside = "data/DSEC_Night" if "data" in named else ""
    (new / inside / SEQUENCE).mkdir(parents=True)
    folder = new if beside else tmp_path
    image = f"{named.format(old=old)}/{SEQUENCE}/images/left/rectified/000004.png"
    (folder / "list.txt").write_text(f"{image} 250\n{image.replace('04.png', '05.png')} 300\n")
    monkeypatch.chdir(old)
    frames = read_frame_list(folder / "list.txt", None if beside else new)
    assert {frame.sequence_dir for frame in frames} == {new / inside / SEQUENCE}
    text = describe_folders(folder / "list.txt", frames)
    assert f"frames are read from {frames[0].sequence_dir.parent}" in text
    assert ("; the list names" in text) is (named.startswith("{old}") or not beside)
    # Where nothing lies there, it is what the list says.
    shutil.rmtree(new / inside / SEQUENCE)
    assert frames_of(folder, "list.txt", new) == {old / (inside or "there") / SEQUENCE}


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_folder_whose_name_is_no_utf8(tmp_path):
    """It is named on a terminal that cannot show it, written into the lists and read back."""
    root = tmp_path / os.fsdecode(b"Stra\xdfe \xc2\xb5")
    write_sequence(root, labels=[4])
    (root / SEQUENCE / "labels" / f"{SEQUENCE}_000050_grey_gtFine_labelTrainIds.png").touch()
    result = run_script("--root_dir", root, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert frames_of(tmp_path) == {root / SEQUENCE}
    result = run_script("--root_dir", f"{root}x", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


def test_missing_labels_folder_leaves_an_empty_test_list_and_a_warning(tmp_path, caplog):
    sequence = write_sequence(tmp_path / "root")
    (sequence / "labels").rmdir()
    create(tmp_path / "root", tmp_path)
    assert "night_test_dataset_warp.txt is empty" in caplog.text


def test_summary_counts_and_warns_about_labels_left_out(tmp_path, caplog):
    write_sequence(tmp_path / "root", warp=range(6), labels=[1, 3, 7, 8])
    _, output = create(tmp_path / "root", tmp_path)
    row = next(line for line in output.splitlines() if SEQUENCE in line)
    assert [int(word) for word in row.split() if word.isdigit()] == [12, 12, 0, 1]
    assert "0 train and 1 test frames (the full data has 1,692 and 150)" in output
    assert "2 labelled frames are not listed (no warp image): 000007, 000008" in caplog.text


def test_second_run_leaves_right_files_alone(tmp_path):
    sequence = write_sequence(tmp_path / "root", labels=[4])
    files = [
        sequence / "images" / "images_to_events_index.txt",
        *(tmp_path / name for name in (dsec_lists.TRAIN_LIST, dsec_lists.TEST_LIST)),
    ]
    create(tmp_path / "root", tmp_path)
    before = [(file.stat().st_ino, file.read_bytes()) for file in files]
    create(tmp_path / "root", tmp_path)
    assert [(file.stat().st_ino, file.read_bytes()) for file in files] == before


# --------------------------------------------------------------------------------------- reading lists


def test_frame_knows_its_files():
    frame = DSECFrame(Path("data") / SEQUENCE, SEQUENCE, 42, 7)
    assert frame.warp_image == Path("data/zurich_city_09_a/warp_images/000042.png")
    assert frame.rectified_image == Path("data/zurich_city_09_a/images/left/rectified/000042.png")
    assert frame.label == Path("data/zurich_city_09_a/labels/zurich_city_09_a_000042_grey_gtFine_labelTrainIds.png")
    assert frame.events_file == Path("data/zurich_city_09_a/events/left/events.h5")
    assert frame.rectify_map_file == Path("data/zurich_city_09_a/events/left/rectify_map.h5")
    assert frame.index_file == Path("data/zurich_city_09_a/images/images_to_events_index.txt")
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.frame = 1


@pytest.mark.parametrize(
    "text",
    [
        "my data/zurich_city_09_a/images/left/rectified/000798.png 5",
        "my data/zurich_city_09_a/images/left/rectified/000798.png 5\n",
        "\n\nmy data/zurich_city_09_a//images/left/rectified/000798.png   5 \r\n\n",
    ],
    ids=["no_newline", "one_line", "blank_lines"],
)
def test_list_of_one_line(tmp_path, text):
    (tmp_path / "list.txt").write_bytes(text.encode())
    frame = DSECFrame(Path("my data") / SEQUENCE, SEQUENCE, 798, 5)
    assert read_frame_list(tmp_path / "list.txt") == [frame]


GOOD_LINE = "zurich_city_09_a/images/left/rectified/000798.png 5"


@pytest.mark.parametrize(
    "line",
    [
        "zurich_city_09_a/images/left/rectified/000798.png",
        "5",
        "zurich_city_09_a/images/left/rectified/000798.png five",
        "zurich_city_09_a/images/left/rectified/000798.png -1",
        "zurich_city_09_a/images/left/rectified/000798.png 0",
        "zurich_city_09_a/images/left/rectified/000798.png 1.5",
        "zurich_city_09_a/images/left/rectified/000798.jpg 5",
        "zurich_city_09_a/images/left/rectified/798.png 5",
        "zurich_city_09_a/warp_images/000798.png 5",
        "images/left/rectified/000798.png 5",
    ],
)
def test_malformed_line_is_named(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"{GOOD_LINE}\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_frame_list(path)
    assert f"{path}, line 3: {line!r}" in str(caught.value)
    assert "<event index above 0>" in str(caught.value)


@pytest.mark.parametrize("read", [read_frame_list, read_event_index])
@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe1\n"])
def test_missing_empty_or_binary_list_names_the_command(tmp_path, read, content):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"python create_dsec_dataset_txt\.py --root-dir") as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_event_index_is_one_int64_a_line(tmp_path):
    (tmp_path / "index.txt").write_text("-1\n0\n4294967296\n")
    index = read_event_index(tmp_path / "index.txt")
    assert index.dtype == np.int64
    assert index.tolist() == [-1, 0, 4294967296]
    for line in ("", "-2", "3.0", "x", "9" * 30):
        (tmp_path / "index.txt").write_text(f"-1\n{line}\n7\n")
        with pytest.raises(DataError, match="line 2"):
            read_event_index(tmp_path / "index.txt")


def test_timestamps_out_of_order_or_unreadable(tmp_path):
    path = tmp_path / "timestamps.txt"
    path.write_text("10\n20\n20\n19\n")
    with pytest.raises(DataError, match="line 4: this timestamp is earlier"):
        read_timestamps(path)
    path.write_text("10\n# 20\n")
    with pytest.raises(DataError, match="line 2: '# 20' is not an image timestamp"):
        read_timestamps(path)
    path.write_text("10\n20")
    assert read_timestamps(path).tolist() == [10, 20]


# -------------------------------------------------------------------------------------------- bad data


@pytest.mark.parametrize("part", ["images/timestamps.txt", "events/left/events.h5", "warp_images"])
def test_missing_part_is_named_and_nothing_is_written(tmp_path, part):
    write_sequence(tmp_path / "root", "zurich_city_09_a")
    sequence = write_sequence(tmp_path / "root", "zurich_city_09_b")
    if part == "warp_images":
        shutil.rmtree(sequence / part)
    else:
        (sequence / part).unlink()
    with pytest.raises(DataError) as caught:
        create(tmp_path / "root", tmp_path)
    assert str(sequence / part) in str(caught.value)
    assert not list(tmp_path.rglob("*_index.txt")) + list(tmp_path.glob("*.txt"))


def test_missing_root_or_sequences(tmp_path):
    with pytest.raises(DataError, match="nowhere is not a folder"):
        create(tmp_path / "nowhere", tmp_path)
    with pytest.raises(DataError, match="contains no zurich_city_09_a"):
        create(tmp_path, tmp_path)


def damage_truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def damage_text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1")


def damage_delete(*keys: str):
    def delete(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            for key in keys:
                del file[key]

    return delete


def damage_replace(key: str, value):
    def replace(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file[key]
            if value is None:
                file.create_group(key)
            else:
                file[key] = value

    return replace


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncate,
        damage_text,
        damage_delete("events/t"),
        damage_delete("t_offset"),
        damage_replace("events/t", np.zeros(0, np.uint32)),
        damage_replace("events/t", np.arange(60_000, -1, -100)),
        damage_replace("events/t", np.append(np.arange(60_000, -1, -100), 70_000)),
        damage_replace("events/t", None),
        damage_replace("t_offset", None),
        damage_replace("ms_to_idx", np.zeros((2, 2))),
    ],
    ids=[
        "cut",
        "not_h5",
        "no_t",
        "no_offset",
        "no_event",
        "falling",
        "disorder",
        "t_group",
        "offset_group",
        "ms_2d",
    ],
)
def test_damaged_recording_is_one_data_error(tmp_path, damage):
    recording = write_sequence(tmp_path / "root") / "events" / "left" / "events.h5"
    damage(recording)
    with pytest.raises(DataError) as caught:
        create(tmp_path / "root", tmp_path)
    assert str(recording) in str(caught.value)
    assert "Download it again" in str(caught.value)
    assert not (tmp_path / dsec_lists.TRAIN_LIST).exists()


def test_out_dir_is_created_and_must_be_a_folder(tmp_path):
    write_sequence(tmp_path / "root")
    create(tmp_path / "root", tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder" / dsec_lists.TRAIN_LIST).is_file()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="--out"):
        create(tmp_path / "root", tmp_path / "file")


def test_failed_write_keeps_the_old_file_and_leaves_no_temporary_one(tmp_path, monkeypatch):
    sequence = write_sequence(tmp_path / "root")
    index_file = sequence / "images" / "images_to_events_index.txt"
    index_file.write_text("old\n")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(dsec_lists.os, "replace", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        create(tmp_path / "root", tmp_path)
    assert index_file.read_text() == "old\n"
    assert sorted(file.name for file in index_file.parent.iterdir()) == [index_file.name, "timestamps.txt"]
    assert not list(tmp_path.glob("*.txt"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_data(tmp_path):
    images = write_sequence(tmp_path / "root") / "images"
    images.chmod(0o555)
    with pytest.raises(DataError, match="make that folder writable"):
        create(tmp_path / "root", tmp_path)
    images.chmod(0o755)
    create(tmp_path / "root", tmp_path)
    images.chmod(0o555)
    # The right index is there already: nothing needs writing.
    create(tmp_path / "root", tmp_path)
    images.chmod(0o755)


# ------------------------------------------------------------------------------------------ the script


def test_script_writes_into_its_working_directory(golden_root):
    work = golden_root.parent
    result = run_script("--root_dir", "DSEC_Night/", cwd=work)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "8 train and 5 test frames" in result.stdout
    for name in (dsec_lists.TRAIN_LIST, dsec_lists.TEST_LIST):
        expected = (GOLDEN / "c10_dsec_txt" / name).read_text().splitlines()
        assert (work / name).read_text().splitlines() == [f"DSEC_Night/{line}" for line in expected]


def test_script_prints_one_line_for_bad_input(tmp_path):
    result = run_script("--root_dir", "nowhere", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: nowhere is not a folder")
    assert result.stderr.count("\n") == 1


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(SCRIPT)!r}, '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'numpy', 'h5py', 'rich', 'torch'} & set(sys.modules)\n"
        "import mmseg.preparation.dsec_lists\n"
        "assert 'torch' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "--root-dir" in result.stdout
