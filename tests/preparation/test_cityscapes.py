"""The Cityscapes converter against the golden tree (256x128, made with the public tables and Pillow)."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mmseg.errors import DataError
from mmseg.preparation.cityscapes import convert_cityscapes, print_report
from mmseg.preparation.cityscapes_labels import draw_polygons, map_label_ids
from mmseg.preparation.cityscapes_samples import LABEL_IDS_SUFFIX, POLYGONS_SUFFIX, TRAIN_IDS_SUFFIX, find_samples

REPOSITORY = Path(__file__).resolve().parents[2]
TOOL = REPOSITORY / "tools" / "convert_datasets" / "cityscapes.py"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
GOLDEN_GT = GOLDEN / "mini" / "cityscapes" / "gtFine"
GOLDEN_OUTPUT = GOLDEN / "c12_cityscapes"
JSON_FILES = ("sample_class_stats.json", "sample_class_stats_dict.json", "samples_with_class.json")
AACHEN = Path("gtFine/train/aachen/aachen_000000_000019")


def copy_tree(root: Path, with_train_ids: bool = False) -> Path:
    """Copy the golden annotations to ``root``/gtFine, by default without the expected label maps."""
    ignore = None if with_train_ids else shutil.ignore_patterns("*" + TRAIN_IDS_SUFFIX)
    shutil.copytree(GOLDEN_GT, root / "gtFine", ignore=ignore)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_tree(tmp_path / "cityscapes")


def file_of(tree: Path, suffix: str, stem: Path = AACHEN) -> Path:
    return tree / (str(stem) + suffix)


def pixels(path: Path) -> tuple[str, tuple[int, int], bytes]:
    with Image.open(path) as image:
        return image.mode, image.size, image.tobytes()


def read_json(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def normalised_statistics(folder: Path) -> tuple[set, set, dict[str, set]]:
    """Return the three JSON files without their order and with base names instead of paths."""
    stats, by_path, by_class = (read_json(folder, name) for name in JSON_FILES)

    def base(path: str) -> str:
        return path.rpartition("/")[2]

    return (
        {(base(entry.pop("file")), *sorted(entry.items())) for entry in stats},
        {(base(path), *sorted(counts.items())) for path, counts in by_path.items()},
        {c: {(base(path), n) for path, n in files} for c, files in by_class.items()},
    )


def mtimes(tree: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in tree.rglob("*" + TRAIN_IDS_SUFFIX)}


def run_tool(*args: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOL), *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_label_maps_equal_the_golden_ones(tree: Path):
    assert convert_cityscapes(tree).written == 8
    for path in mtimes(tree):
        assert pixels(path) == pixels(GOLDEN_GT / path.relative_to(tree / "gtFine"))


def test_label_ids_alone_give_the_same_maps_and_statistics(tree: Path):
    for path in tree.rglob("*" + POLYGONS_SUFFIX):
        path.unlink()
    # The test image has polygons only.
    assert convert_cityscapes(tree).written == 7
    for path in mtimes(tree):
        assert pixels(path) == pixels(GOLDEN_GT / path.relative_to(tree / "gtFine"))
    assert normalised_statistics(tree) == normalised_statistics(GOLDEN_OUTPUT)


def test_polygons_and_label_ids_give_the_same_map():
    samples = [s for found in find_samples(GOLDEN_GT).values() for s in found]
    both = [s for s in samples if {POLYGONS_SUFFIX, LABEL_IDS_SUFFIX} <= s.sources]
    assert len(both) == 7
    for sample in both:
        drawn = draw_polygons(sample.path(POLYGONS_SUFFIX))
        assert drawn.tobytes() == map_label_ids(sample.path(LABEL_IDS_SUFFIX)).tobytes()


def test_statistics_and_lists_equal_the_golden_ones(tree: Path):
    convert_cityscapes(tree)
    assert normalised_statistics(tree) == normalised_statistics(GOLDEN_OUTPUT)
    for name in ("train.txt", "val.txt", "test.txt"):
        lines = (tree / name).read_text().splitlines()
        assert lines == sorted((GOLDEN_OUTPUT / name).read_text().split())


def test_statistics_name_files_relative_to_the_root(tree: Path):
    convert_cityscapes(tree)
    paths = [entry["file"] for entry in read_json(tree, "sample_class_stats.json")]
    assert paths[0] == AACHEN.as_posix() + TRAIN_IDS_SUFFIX
    assert paths == sorted(paths)
    assert all((tree / path).is_file() for path in paths)


def test_working_directory_does_not_matter(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    convert_cityscapes(tree)
    absolute = [(tree / name).read_bytes() for name in JSON_FILES]
    for folder, spelling in ((tmp_path, "cityscapes"), (tree, "."), (tree / "gtFine", "..")):
        monkeypatch.chdir(folder)
        convert_cityscapes(spelling, force=True)
        assert [(tree / name).read_bytes() for name in JSON_FILES] == absolute


def test_root_whose_name_contains_train(tmp_path: Path):
    tree = copy_tree(tmp_path / "train" / "my_train_data")
    convert_cityscapes(tree)
    assert normalised_statistics(tree) == normalised_statistics(GOLDEN_OUTPUT)


def test_linked_annotation_folder(tree: Path, tmp_path: Path):
    link_root = tmp_path / "links"
    link_root.mkdir()
    (link_root / "gtFine").symlink_to(tree / "gtFine")
    convert_cityscapes(link_root)
    assert read_json(link_root, JSON_FILES[0])[0]["file"].startswith("gtFine/train/")


@pytest.mark.parametrize("nproc", [1, 2])
def test_second_run_writes_no_label_map(tree: Path, nproc: int):
    assert convert_cityscapes(tree, nproc=nproc).written == 8
    before = mtimes(tree), [(tree / name).read_bytes() for name in JSON_FILES]
    report = convert_cityscapes(tree, nproc=nproc)
    assert (report.written, report.unchanged) == (0, 8)
    assert (mtimes(tree), [(tree / name).read_bytes() for name in JSON_FILES]) == before


def test_outdated_map_and_force(tree: Path):
    convert_cityscapes(tree)
    target = file_of(tree, TRAIN_IDS_SUFFIX)
    older = file_of(tree, POLYGONS_SUFFIX).stat().st_mtime_ns - 10**9
    os.utime(target, ns=(older, older))
    assert convert_cityscapes(tree).written == 1
    assert convert_cityscapes(tree, force=True).written == 8


def test_maps_without_any_source_are_used_as_they_are(tmp_path: Path):
    tree = copy_tree(tmp_path / "cityscapes", with_train_ids=True)
    for suffix in (POLYGONS_SUFFIX, LABEL_IDS_SUFFIX):
        for path in tree.rglob("*" + suffix):
            path.unlink()
    before = mtimes(tree)
    assert convert_cityscapes(tree, force=True).written == 0
    assert mtimes(tree) == before
    assert normalised_statistics(tree) == normalised_statistics(GOLDEN_OUTPUT)


def test_out_dir(tree: Path, tmp_path: Path):
    convert_cityscapes(tree, out_dir=tmp_path / "new" / "stats")
    assert normalised_statistics(tmp_path / "new" / "stats") == normalised_statistics(GOLDEN_OUTPUT)
    assert not list(tree.glob("*.json"))


def test_report_counts(tree: Path, capsys: pytest.CaptureFixture):
    report = convert_cityscapes(tree)
    entries = read_json(tree, "sample_class_stats.json")
    assert report.files_per_split == {"train": 6, "val": 1, "test": 1}
    for class_id, total in enumerate(report.class_pixels):
        counts = [entry.get(str(class_id), 0) for entry in entries]
        assert (total, report.class_images[class_id]) == (sum(counts), sum(n > 3000 for n in counts))
    print_report(report)
    assert "Files per split: train 6, val 1, test 1" in capsys.readouterr().out


def test_missing_split_is_mentioned_and_no_list_written(tree: Path):
    shutil.rmtree(tree / "gtFine" / "test")
    report = convert_cityscapes(tree)
    assert any("test" in note for note in report.notes)
    assert (tree / "val.txt").exists()
    assert not (tree / "test.txt").exists()


def test_without_train_split_no_statistics(tree: Path):
    shutil.rmtree(tree / "gtFine" / "train")
    report = convert_cityscapes(tree)
    assert len(report.notes) == 2
    assert not list(tree.glob("*.json"))


def test_leftovers_and_hidden_files_are_no_samples(tree: Path):
    city = tree / "gtFine" / "train" / "aachen"
    (city / f"._aachen_000000_000019{LABEL_IDS_SUFFIX}").write_bytes(b"macOS")
    (tree / "gtFine" / "train" / ".DS_Store").write_bytes(b"macOS")
    assert convert_cityscapes(tree).files_per_split["train"] == 6
    assert not list(tree.rglob("*.tmp*"))


def test_missing_folders_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere is not a folder"):
        convert_cityscapes(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"gtFine is not a folder: extract gtFine_trainvaltest\.zip"):
        convert_cityscapes(tmp_path)
    (tmp_path / "gtFine").mkdir()
    with pytest.raises(DataError, match=r"gtFine holds none of the folders train, val, test: extract"):
        convert_cityscapes(tmp_path)
    (tmp_path / "gtFine" / "val").mkdir()
    with pytest.raises(DataError, match=r"no annotation in .*gtFine"):
        convert_cityscapes(tmp_path)
    with pytest.raises(DataError, match=r"--gt-dir \.\. lies outside"):
        convert_cityscapes(tmp_path, gt_dir="..")


@pytest.mark.parametrize("nproc", [1, 2])
@pytest.mark.parametrize(
    ("suffix", "content", "source"),
    [
        (LABEL_IDS_SUFFIX, "not a picture", "label_ids"),
        (LABEL_IDS_SUFFIX, None, "label_ids"),
        (POLYGONS_SUFFIX, '{"imgWidth": 256,', "auto"),
        (POLYGONS_SUFFIX, '{"imgWidth": 256, "imgHeight": 128}', "polygons"),
        (POLYGONS_SUFFIX, "[]", "polygons"),
    ],
)
def test_corrupt_file_is_named(tree: Path, suffix: str, content: str | None, source: str, nproc: int):
    path = file_of(tree, suffix)
    path.write_bytes(path.read_bytes()[:300] if content is None else content.encode())
    faults = "cannot be read|is not a readable image|is not valid JSON|does not hold"
    with pytest.raises(DataError, match=rf"aachen_000000_000019{suffix} ({faults})"):
        convert_cityscapes(tree, source=source, nproc=nproc)
    assert not (tree / JSON_FILES[0]).exists()
    assert not list(tree.rglob("*.tmp*"))


def test_corrupt_label_map_is_named_with_the_remedy(tree: Path):
    convert_cityscapes(tree)
    file_of(tree, TRAIN_IDS_SUFFIX).write_bytes(b"")
    with pytest.raises(DataError, match=r"labelTrainIds\.png is not a readable image .*--force"):
        convert_cityscapes(tree)
    convert_cityscapes(tree, force=True)
    assert normalised_statistics(tree) == normalised_statistics(GOLDEN_OUTPUT)


@pytest.mark.parametrize(
    ("suffix", "mode", "colour", "message"),
    [
        (LABEL_IDS_SUFFIX, "L", 77, "holds the value 77, which is not a Cityscapes label id"),
        (LABEL_IDS_SUFFIX, "RGB", 7, "mode 'RGB', expected 8-bit grey"),
        (TRAIN_IDS_SUFFIX, "L", 33, "holds the value 33, which is not a Cityscapes train id"),
    ],
)
def test_image_that_holds_no_ids(tree: Path, suffix: str, mode: str, colour: int, message: str):
    file_of(tree, POLYGONS_SUFFIX).unlink()
    Image.new(mode, (8, 4), colour if mode == "L" else (colour,) * 3).save(file_of(tree, suffix))
    with pytest.raises(DataError, match=message):
        convert_cityscapes(tree)


def test_palette_image_keeps_its_indices(tmp_path: Path):
    image = Image.new("P", (2, 1))
    image.putpalette([9, 9, 9] * 256)
    image.putdata([7, 33])
    image.save(tmp_path / "labels.png")
    assert list(map_label_ids(tmp_path / "labels.png").tobytes()) == [0, 18]


def test_asked_source_must_exist(tree: Path):
    with pytest.raises(DataError, match=r"berlin_000000_000019_gtFine_labelIds\.png does not exist"):
        convert_cityscapes(tree, source="label_ids")


def test_drawing_rules(tmp_path: Path):
    def square(x: int) -> list[list[int]]:
        return [[x, 0], [x + 3, 0], [x + 3, 3], [x, 3]]

    objects = [
        {"label": "sky", "polygon": square(0)},
        {"label": "ridergroup", "polygon": square(4)},
        {"label": "polegroup", "polygon": square(8)},
        {"label": "car", "polygon": square(12)},
        {"label": "license plate", "polygon": square(12)},
        {"label": "bus", "polygon": square(0), "deleted": 1},
    ]
    path = tmp_path / "x_gtFine_polygons.json"
    path.write_text(json.dumps({"imgWidth": 20, "imgHeight": 4, "objects": objects}))
    row = draw_polygons(path).tobytes()[:20]
    assert [row[x] for x in (1, 5, 9, 13, 17)] == [10, 12, 255, 13, 255]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"label": "raod", "polygon": [[0, 0], [1, 1], [2, 0]]}, r"'raod' is not a .* did you mean 'road'"),
        ({"label": "cargroups", "polygon": [[0, 0], [1, 1], [2, 0]]}, r"'cargroups' is not a"),
        ({"label": "road", "polygon": []}, r"polygon of a 'road' cannot be drawn"),
        ({"label": "road", "polygon": [["a", 0], [1, 1], [2, 0]]}, r"polygon of a 'road' cannot be drawn"),
        ({"label": "road", "polygon": [[0], [1]]}, r"cannot be read"),
    ],
)
def test_bad_object_is_named_with_its_file(tmp_path: Path, entry: dict, message: str):
    path = tmp_path / "x_gtFine_polygons.json"
    path.write_text(json.dumps({"imgWidth": 20, "imgHeight": 4, "objects": [entry]}))
    with pytest.raises(DataError, match=r"x_gtFine_polygons\.json.*" + message) as raised:
        draw_polygons(path)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_command_line(tree: Path, tmp_path: Path):
    result = run_tool("cityscapes", "--nproc", 2, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Label maps: 8 written, 0 up to date" in result.stdout
    assert normalised_statistics(tree) == normalised_statistics(GOLDEN_OUTPUT)


def test_command_line_reports_a_workers_error_in_one_line(tree: Path, tmp_path: Path):
    file_of(tree, POLYGONS_SUFFIX).write_bytes(b"")
    result = run_tool("cityscapes", "--nproc", 2, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: cityscapes/{AACHEN}{POLYGONS_SUFFIX} is not valid JSON")
    assert result.stderr.count("\n") == 1
