"""The one reader of images and the one of label maps, with files of every kind, and who reads through them."""

import ast
import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.golden_tools import GOLDEN
from helpers.picture_tools import (
    EPS,
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    bomb,
    chunk,
    on_its_side,
    palette_chunk,
    png_bytes,
)
from PIL import Image

from mmseg.checks.images import ImageFiles, ImageKind, ImageTask, check_headers, read_image
from mmseg.datasets import cityscapes, dark_zurich, dsec_night
from mmseg.datasets.dsec_frames import read_event_index, read_frame_list, read_timestamps
from mmseg.datasets.layouts import DARK_ZURICH
from mmseg.datasets.uda import UDADataset
from mmseg.errors import DataError
from mmseg.evaluation.submission import FOLDERS, check_submission, write_submission
from mmseg.inference.pictures import open_pictures
from mmseg.inference.pictures import read_image as read_for_inference
from mmseg.io.image_files import MAX_PIXELS, open_image, open_label, read_header
from mmseg.preparation.cityscapes_labels import LABEL_ID_TABLE, map_label_ids
from mmseg.preparation.dsec_warp import read_disparity
from mmseg.report.pictures import open_pixels

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(5)
COLORS = RNG.integers(0, 256, (256, 3))
LEVELS = RNG.integers(0, 256, (6, 9))
PIXELS = RNG.integers(0, 256, (6, 9, 3))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


# ---------------------------------------------------------------- images


def grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels[..., None], 3, axis=-1)


def of_few_bits(bits: int) -> tuple[bytes, np.ndarray]:
    samples = LEVELS % (1 << bits)
    return png_bytes(samples, bits), grey(samples * 255 // ((1 << bits) - 1))


UPRIGHT = Image.fromarray(PIXELS.astype(np.uint8))
ALPHA = RNG.integers(0, 256, (6, 9, 1))
# file -> what is read of it
KINDS = {
    **{f"{bits}-bit grey": of_few_bits(bits) for bits in (1, 2, 4, 8)},
    "RGB": (png_bytes(PIXELS, 8, RGB), PIXELS),
    "alpha": (png_bytes(np.concatenate([PIXELS, ALPHA], -1), 8, RGBA), PIXELS),
    "grey and alpha": (png_bytes(np.concatenate([LEVELS[..., None], ALPHA], -1), 8, GREY_ALPHA), grey(LEVELS)),
    "palette": (png_bytes(LEVELS, 8, PALETTE, palette_chunk(COLORS)), COLORS[LEVELS]),
    "palette of 4 bits": (png_bytes(LEVELS % 16, 4, PALETTE, palette_chunk(COLORS[:16])), COLORS[LEVELS % 16]),
    "transparent palette": (
        png_bytes(LEVELS % 4, 2, PALETTE, palette_chunk(COLORS[:4]) + chunk(b"tRNS", bytes([0, 9]))),
        COLORS[LEVELS % 4],
    ),
    "transparent grey": (png_bytes(LEVELS, 8, GREY, chunk(b"tRNS", b"\0\7")), grey(LEVELS)),
    "bytes behind the end": (png_bytes(PIXELS, 8, RGB) + b"\0" * 500, PIXELS),
    "BMP": (saved(UPRIGHT, "BMP"), PIXELS),
    "TIFF": (saved(UPRIGHT, "TIFF", compression="tiff_lzw"), PIXELS),
    "WebP": (saved(UPRIGHT, "WEBP", lossless=True), PIXELS),
    "CMYK": (saved(Image.fromarray((255 - PIXELS).astype(np.uint8)).convert("CMYK"), "TIFF"), 255 - PIXELS),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
def test_images_of_every_kind(tmp_path, kind):
    """Data sets, tools, checks and inference see the same pixels, whatever the suffix."""
    content, expected = KINDS[kind]
    path = write(tmp_path / "x.png", content)
    pixels = np.array(open_image(path, "RGB"))
    assert (pixels == expected).all()
    assert (read_for_inference(path) == expected).all()
    # Pillow's weights
    levels = np.array(Image.fromarray(expected.astype(np.uint8)).convert("L"))
    assert (np.array(open_image(path, "L")) == levels).all()
    assert read_header(path).size == (9, 6)
    assert not read_image(ImageTask(path, ImageKind.IMAGE)).uniform
    findings, _ = check_headers(ImageFiles("files", ImageKind.IMAGE, (path,), "none"))
    assert {finding.state for finding in findings} == {"ok"}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_images_stand_upright(tmp_path, orientation, suffix):
    lying = Image.fromarray(np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, 8, 0), 8, 1))
    on_its_side(lying, tmp_path / f"x.{suffix}", orientation)
    turned = {1: lying, 6: lying.rotate(-90, expand=True), 8: lying.rotate(90, expand=True), 3: lying.rotate(180)}
    read = open_image(tmp_path / f"x.{suffix}", "L")
    assert read.size == (lying.size if orientation < 5 else lying.size[::-1])
    assert read_header(tmp_path / f"x.{suffix}").size == read.size
    if orientation in turned:
        assert np.abs(np.array(read).astype(int) - np.array(turned[orientation])).max() < 20


def test_damaged_exif_leaves_the_pixels(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(saved(UPRIGHT, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"))
    assert open_image(path, "RGB").size == (9, 6)


def test_a_photo_of_two_pictures_is_its_first(tmp_path):
    second = Image.new("RGB", (9, 6))
    path = write(tmp_path / "x.jpg", saved(UPRIGHT, "MPO", save_all=True, append_images=[second]))
    assert np.array(open_image(path, "RGB")).std() > 10


DEEP = {
    "grey PNG": png_bytes(LEVELS * 256, 16),
    "RGB PNG": png_bytes(PIXELS * 256, 16, RGB),
    "RGBA PNG": png_bytes(np.concatenate([PIXELS, ALPHA], -1) * 256, 16, RGBA),
    "grey TIFF": saved(Image.fromarray((LEVELS * 256).astype(np.uint16)), "TIFF"),
    "float TIFF": saved(Image.fromarray(LEVELS.astype(np.float32)), "TIFF"),
    "32-bit TIFF": saved(Image.fromarray(LEVELS.astype(np.int32)), "TIFF"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_8_bits_are_refused(tmp_path, kind):
    path = write(tmp_path / "deep.png", DEEP[kind])
    for read in (lambda: open_image(path, "RGB"), lambda: open_image(path, "L"), lambda: read_for_inference(path)):
        with pytest.raises(DataError, match=r"deep\.png has more than 8 bits per value \((16|32)\); convert it"):
            read()
    findings, _ = check_headers(ImageFiles("files", ImageKind.IMAGE, (path,), "none"))
    assert {finding.state for finding in findings} == {"ok", "wrong"}


CUT = png_bytes(PIXELS, 8, RGB)
REFUSED = {
    "EPS": (EPS, r"not a readable image \(a file of PNG, .* does not start with b'%!PS-Ado'\)"),
    "PCX": (saved(UPRIGHT, "PCX"), "not a readable image"),
    "GIF": (saved(UPRIGHT, "GIF"), "not a readable image"),
    "nothing": (b"", "not a readable image"),
    "text": (b"<!DOCTYPE html>", "not a readable image"),
    "cut PNG": (CUT[:-20], "not a readable image .*truncated"),
    "cut end": (CUT[:-1], "not a readable image .*truncated"),
    "only a signature": (CUT[:8], "not a readable image .*truncated"),
    "cut JPEG": (saved(UPRIGHT.resize((90, 60)), "JPEG")[:-300], "not a readable image"),
    "cut TIFF": (saved(UPRIGHT, "TIFF")[:60], "not a readable image"),
    "cut WebP": (saved(UPRIGHT, "WEBP", lossless=True)[:-30], "not a readable image"),
    "cut BMP": (saved(UPRIGHT, "BMP")[:-30], "not a readable image"),
    "no pixels": (b"\x89PNG\r\n\x1a\n" + CUT[8:33] + chunk(b"IEND", b""), "not a readable image"),
    "broken checksum": (CUT[:30] + b"abc" + CUT[33:], "not a readable image"),
    "animated PNG": (
        saved(UPRIGHT, "PNG", save_all=True, append_images=[Image.new("RGB", (9, 6))]),
        "several images",
    ),
    "animated WebP": (saved(UPRIGHT, "WEBP", save_all=True, append_images=[Image.new("RGB", (9, 6))]), "several"),
    "TIFF of two pages": (saved(UPRIGHT, "TIFF", save_all=True, append_images=[UPRIGHT]), "several images"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(tmp_path, kind):
    content, message = REFUSED[kind]
    path = write(tmp_path / "x.png", content)
    for read in (lambda: open_image(path, "RGB"), lambda: read_for_inference(path)):
        with pytest.raises(DataError, match=rf"x\.png .*{message}"):
            read()
    with pytest.raises(DataError):
        open_label(path)


@pytest.mark.parametrize("side", [9000, 20_000])
def test_a_bomb_is_refused_by_its_header(tmp_path, side):
    path = bomb(tmp_path / "bomb.png", side)
    assert path.stat().st_size < 100_000
    for read in (open_label, read_header, lambda p: open_image(p, "RGB"), lambda p: open_image(p, "L")):
        with pytest.raises(DataError, match=rf"bomb\.png is too large: {side}x{side}, more than {MAX_PIXELS:,} pixels"):
            read(path)


def test_bombs_of_other_formats(tmp_path):
    """Their headers are patched: such a file cannot be made quickly."""
    webp = bytearray(saved(UPRIGHT, "WEBP"))
    assert webp[12:16] == b"VP8 "
    webp[26:30] = b"\xff\x3f\xff\x3f"  # 16383x16383
    bmp = bytearray(saved(UPRIGHT, "BMP"))
    bmp[18:26] = (50_000).to_bytes(4, "little") * 2
    for name, content in (("x.webp", webp), ("x.bmp", bmp)):
        with pytest.raises(DataError, match=r"too large|not a readable image"):
            open_image(write(tmp_path / name, content), "RGB")


def test_a_folder_and_nothing(tmp_path):
    with pytest.raises(DataError, match=r"is not a readable image \(Is a directory\)"):
        open_image(tmp_path, "RGB")
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        open_image(tmp_path / "none.png", "RGB")


# ---------------------------------------------------------------- label maps

IDS = np.arange(54).reshape(6, 9) % 19
LABELS = {
    "1-bit grey": (png_bytes(IDS % 2, 1), IDS % 2),
    "2-bit grey": (png_bytes(IDS % 4, 2), IDS % 4),
    "4-bit grey": (png_bytes(IDS % 16, 4), IDS % 16),
    "8-bit grey": (png_bytes(IDS, 8), IDS),
    "16-bit grey": (png_bytes(IDS, 16), IDS),
    "ignored pixels in 16 bits": (png_bytes(np.where(IDS == 3, 255, IDS), 16), np.where(IDS == 3, 255, IDS)),
    "1-bit palette": (png_bytes(IDS % 2, 1, PALETTE, palette_chunk(COLORS[:2])), IDS % 2),
    "2-bit palette": (png_bytes(IDS % 4, 2, PALETTE, palette_chunk(COLORS[:4])), IDS % 4),
    "4-bit palette": (png_bytes(IDS % 16, 4, PALETTE, palette_chunk(COLORS[:16])), IDS % 16),
    "8-bit palette": (png_bytes(IDS, 8, PALETTE, palette_chunk(COLORS)), IDS),
    "palette of one colour": (png_bytes(IDS, 8, PALETTE, palette_chunk(COLORS * 0)), IDS),
    "transparent palette": (png_bytes(IDS, 8, PALETTE, palette_chunk(COLORS) + chunk(b"tRNS", b"\0")), IDS),
    "transparent grey": (png_bytes(IDS, 8, GREY, chunk(b"tRNS", b"\0\7")), IDS),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_the_stored_samples(tmp_path, kind):
    """In data sets, converter, checks, submissions and reports alike."""
    content, expected = LABELS[kind]
    path = write(tmp_path / "x.png", content)
    label = open_label(path)
    assert label.mode == "L"
    assert (np.array(label) == expected).all()
    values, counts = np.unique(expected, return_counts=True)
    assert read_image(ImageTask(path, ImageKind.LABEL)).values == dict(
        zip(values.tolist(), counts.tolist(), strict=True)
    )
    findings, _ = check_headers(ImageFiles("labels", ImageKind.LABEL, (path,), "none"))
    assert {finding.state for finding in findings} == {"ok"}
    assert (open_pixels(path) == expected).all()
    assert (np.array(map_label_ids(path)) == np.array(LABEL_ID_TABLE)[expected]).all()


STRANGE = {
    "one other value": (
        png_bytes(np.where(IDS == 4, 19, IDS), 8),
        r"holds the value 19, which is not a Cityscapes train id",
    ),
    "label ids": (png_bytes(IDS + 15, 8), r"holds the values \[19, 20, 21, 22, 23\], which are not train ids"),
    "in 16 bits": (png_bytes(np.where(IDS == 4, 300, IDS), 16), r"holds the value 300"),
    "white in 16 bits": (png_bytes(np.where(IDS == 4, 65535, IDS), 16), r"holds the value 65535"),
    "RGB": (png_bytes(PIXELS, 8, RGB), r"pixels of mode 'RGB', expected 8-bit grey or palette indices"),
    "RGB that is grey": (png_bytes(grey(IDS), 8, RGB), r"pixels of mode 'RGB'"),
    "RGBA": (png_bytes(np.concatenate([PIXELS, ALPHA], -1), 8, RGBA), r"pixels of mode 'RGBA'"),
    "grey and alpha": (png_bytes(np.stack([IDS, IDS], -1), 8, GREY_ALPHA), r"pixels of mode 'grey\+alpha'"),
    "JPEG": (saved(Image.fromarray(IDS.astype(np.uint8)), "JPEG"), r"a file of PNG does not start with"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_labels_that_are_none(tmp_path, kind):
    content, message = STRANGE[kind]
    path = write(tmp_path / "x.png", content)
    with pytest.raises(DataError, match=rf"x\.png .*{message}.*; put another there"):
        open_label(path, "put another there")
    with pytest.raises(DataError, match=message):
        read_image(ImageTask(path, ImageKind.LABEL))


def test_a_changed_byte_in_a_label_is_found(tmp_path):
    """Decoders do not verify all checksums."""
    content = png_bytes(np.kron(IDS, np.ones((20, 20), int)), 8)
    for place in range(8, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 16
        with pytest.raises(DataError, match=r"x\.png is (not a readable image|too large)"):
            open_label(write(tmp_path / "x.png", bytes(changed)))


def test_a_label_on_its_side_is_turned_as_its_image(tmp_path):
    ids = Image.fromarray(IDS.astype(np.uint8))
    on_its_side(ids, tmp_path / "x.png")
    assert (np.array(open_label(tmp_path / "x.png")) == np.array(ids.rotate(-90, expand=True))).all()


def test_remedies_fit_the_data_set():
    assert "tools/convert_datasets/cityscapes.py data/cs --force" in cityscapes.CityscapesICDataset.LABEL_REMEDY.format(
        "data/cs"
    )
    dark_zurich_remedy = dark_zurich.DarkZurichICDataset.LABEL_REMEDY
    assert "DSEC Night-Semantic" in dsec_night.LABEL_REMEDY
    assert "Dark Zurich" in dark_zurich_remedy
    for remedy in (dsec_night.LABEL_REMEDY, dark_zurich_remedy):
        assert "convert" not in remedy


def test_disparity_maps_are_stored_samples(tmp_path):
    values = np.full((6, 9), 256 * 30) + LEVELS
    assert np.allclose(read_disparity(write(tmp_path / "d.png", png_bytes(values, 16))), values / 256)
    with pytest.raises(DataError, match=r"d\.png is not a 16-bit grey PNG \(8-bit grey\)"):
        read_disparity(write(tmp_path / "d.png", png_bytes(LEVELS, 8)))
    with pytest.raises(DataError, match="is too large"):
        read_disparity(bomb(tmp_path / "d.png", 20_000))


# ---------------------------------------------------------------- who reads through them


def test_nothing_else_decodes_images():
    """Another reader might see other pixels, or run another decoder on a file."""
    allowed = {"mmseg/io/image_files.py", "mmseg/io/png_files.py"}
    found = set()
    for path in (p for folder in ("mmseg", "tools") for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in ("Image.open", "cv2.imread", "cv2.imdecode", "cv2.imreadmulti", "plt.imread"):
                    found.add(path.relative_to(ROOT).as_posix())
    assert found <= allowed


def test_tools_read_images_without_torch():
    """Importing it would cost each of their processes seconds."""
    modules = ("checks.images", "preparation.cityscapes", "preparation.dsec_warp_files", "inference.pictures")
    imports = "; ".join(f"import mmseg.{module}" for module in modules)
    command = [sys.executable, "-c", f"{imports}; import sys; sys.exit('torch' in sys.modules)"]
    assert subprocess.run(command, cwd=ROOT, timeout=120).returncode == 0


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """Mini data sets that a test may damage; their lists are relative to the working directory."""
    for name in ("cityscapes", "DSEC_Night"):
        shutil.copytree(GOLDEN / "mini" / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / "DSEC_Night")
    return tmp_path


def day(tree: Path, *outputs: str) -> cityscapes.CityscapesICDataset:
    return cityscapes.CityscapesICDataset(str(tree / "cityscapes"), (256, 128), (64, 64), outputs)


def night(*outputs: str) -> dsec_night.DSECDataset:
    return dsec_night.DSECDataset(GOLDEN / "c10_dsec_txt" / "night_test_dataset_warp.txt", outputs)


def test_data_sets_refuse_what_they_would_misread(tree):
    dataset, frames = day(tree, "image", "label"), night("warp_image", "label")
    name, frame = dataset.names[0], frames.frames[0]
    draw = dataset.draw(np.random.default_rng(0))
    dataset.image_path(name).write_bytes(png_bytes(LEVELS * 256, 16))
    with pytest.raises(DataError, match=r"leftImg8bit\.png has more than 8 bits per value"):
        dataset.sample(0, draw)
    frame.warp_image.write_bytes(png_bytes(np.zeros((480, 640, 3), int), 16, RGB))
    with pytest.raises(DataError, match=r"\.png has more than 8 bits per value"):
        frames[0]
    dataset.label_path(name).write_bytes(png_bytes(PIXELS, 8, RGB))
    with pytest.raises(DataError, match=r"labelTrainIds\.png has .*cityscapes\.py .*cityscapes --force"):
        dataset.load_label(0)
    frame.label.write_bytes(png_bytes(np.zeros((480, 640, 3), int), 8, RGB))
    with pytest.raises(DataError, match=r"labelTrainIds\.png has .*; take .* of the DSEC Night-Semantic labels"):
        night("label")[0]


def test_a_bomb_is_skipped_as_any_bad_file(tree):
    dataset = day(tree, "image", "label", "img_time_res")
    for path in map(dataset.image_path, dataset.names[::2]):
        bomb(path, 20_000)
    pairs = UDADataset(dataset, night("warp_image"), on_bad_sample="skip")
    pairs.target.draw = lambda rng: None
    samples = [pairs[number] for number in range(6)]
    assert all(sample["source"]["image"].shape == (3, 64, 64) for sample in samples)
    assert any("is too large: 20000x20000" in sample["skipped"] for sample in samples)


def test_submissions_and_reports(tmp_path):
    """A prediction may have 4 bits per value; a file in a submission must have 8."""
    source = write(tmp_path / "p.png", png_bytes(IDS % 16, 4))
    write_submission({"a.png": source}, tmp_path / "s")
    packed = np.array(Image.open(tmp_path / "s" / FOLDERS[0] / "a.png"))
    assert set(np.unique(packed)) == set(range(16))
    (tmp_path / "s" / FOLDERS[0] / "._a.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "s" / ".DS_Store").touch()
    assert check_submission(tmp_path / "s") == 1
    bomb(tmp_path / "s" / FOLDERS[0] / "a.png", 20_000)
    with pytest.raises(DataError, match=r"not a readable PNG: labelTrainIds/a\.png"):
        check_submission(tmp_path / "s")


# ---------------------------------------------------------------- names and lists


def litter(folder: Path) -> None:
    """Files that macOS and file managers leave next to every file and folder."""
    for path in [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
        path.with_name(".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / ".Trash").mkdir(exist_ok=True)


def test_hidden_twins_are_no_files(tree):
    before = day(tree, "image", "label", "img_time_res").names
    litter(tree)
    hidden = tree / "cityscapes/leftImg8bit/train/.Trashes"
    shutil.copytree(tree / "cityscapes/leftImg8bit/train/aachen", hidden)
    assert day(tree, "image", "label", "img_time_res").names == before
    photos = tree / "photos"
    shutil.copytree(tree / "DSEC_Night/zurich_city_09_b/warp_images", photos)
    assert not any(path.name.startswith(".") for path in open_pictures([photos]).paths)
    zurich = tree / "zurich/rgb_anon/val/night/GOPR0001"
    zurich.mkdir(parents=True)
    Image.new("RGB", (96, 54)).save(zurich / "GOPR0001_frame_000001_rgb_anon.png")
    litter(tree / "zurich")
    dataset = dark_zurich.DarkZurichICDataset(str(tree / "zurich"), True, ("image",))
    assert dataset.names == ["GOPR0001/GOPR0001_frame_000001"]
    assert len(DARK_ZURICH.names(tree / "zurich", "val")) == 1


MARK = "\ufeff".encode()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_with_a_byte_order_mark(tree, end):
    """Windows editors write one, and other line ends."""
    source = GOLDEN / "c10_dsec_txt" / "night_dataset_warp.txt"
    text = source.read_text(encoding="utf-8").replace("\n", end)
    assert read_frame_list(write(tree / "list.txt", MARK + text.encode())) == read_frame_list(source)
    times = write(tree / "times.txt", MARK + end.join(["100", "200", ""]).encode())
    assert read_timestamps(times).tolist() == [100, 200]
    assert read_event_index(times).tolist() == [100, 200]


def test_statistics_with_a_byte_order_mark(tree):
    root = tree / "cityscapes"
    for name in ("sample_class_stats.json", "samples_with_class.json"):
        shutil.copy(GOLDEN / "c12_cityscapes" / name, root / name)

    def classes() -> list[int]:
        sampling = {"min_pixels": 10}
        return UDADataset(day(tree, "image", "label"), night("warp_image"), str(root), sampling).rare_classes.classes

    before = classes()
    for name in ("sample_class_stats.json", "samples_with_class.json"):
        text = (root / name).read_text(encoding="utf-8").replace("\n", "\r\n")
        (root / name).write_bytes(MARK + text.encode())
    assert classes() == before
    (root / "sample_class_stats.json").write_bytes("[]".encode("utf-16"))
    with pytest.raises(DataError, match=r"stats\.json is not JSON in UTF-8 .*convert_datasets/cityscapes"):
        classes()
