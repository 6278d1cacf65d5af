"""Warping DSEC's images into the event view: directions proved with two simulated cameras, sampling, files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from helpers.golden_tools import GOLDEN
from PIL import Image

from mmseg.errors import DataError
from mmseg.preparation.dsec_warp import (
    Calibration,
    frame_positions,
    read_calibration,
    read_disparity,
    samples_of,
    seen_share,
    warp_image,
)
from mmseg.preparation.dsec_warp_check import agreement
from mmseg.preparation.dsec_warp_files import make_warp_images, warp_tasks

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "warp_images.py"
MINI = GOLDEN / "mini" / "DSEC_Night" / "zurich_city_09_b"

# Invented cameras, turned against each other by more than real ones, so that a wrong direction shows.
LENSES = {"cam0": [-0.09, 0.15, -0.0004, 0.0003], "cam1": [-0.3, 0.12, 0.001, -0.001]}
RAW_MATRICES = {"cam0": [550.0, 552.0, 331.0, 228.0], "cam1": [1180.0, 1176.0, 715.0, 551.0]}
RECTIFIED_MATRICES = {"camRect0": [570.0, 570.0, 322.0, 236.0], "camRect1": [1120.0, 1120.0, 724.0, 545.0]}
SIZES = {0: [640, 480], 1: [1440, 1080]}
BETWEEN = (0.02, -0.035, 0.011)
RECTIFYING = {0: (-0.012, 0.02, 0.008), 1: (0.015, 0.004, -0.02)}
SHIFT = (-0.044, 0.001, -0.012)
BASELINE = 0.6


def rotation(vector) -> np.ndarray:
    return cv2.Rodrigues(np.array(vector, np.float64))[0]


def camera_matrix(values) -> np.ndarray:
    fx, fy, cx, cy = values
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def calibration_content() -> dict:
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = rotation(BETWEEN), SHIFT
    focal, _, center_x, center_y = RECTIFIED_MATRICES["camRect0"]
    cameras = {f"cam{n}": {"camera_matrix": RAW_MATRICES[f"cam{n}"], "resolution": SIZES[n]} for n in SIZES}
    cameras |= {
        f"camRect{n}": {"camera_matrix": RECTIFIED_MATRICES[f"camRect{n}"], "resolution": SIZES[n]} for n in SIZES
    }
    return {
        "intrinsics": cameras,
        "extrinsics": {
            "T_10": transform.tolist(),
            **{f"R_rect{n}": rotation(vector).tolist() for n, vector in RECTIFYING.items()},
        },
        "disparity_to_depth": {
            "cams_03": [[1, 0, 0, -center_x], [0, 1, 0, -center_y], [0, 0, 0, focal], [0, 0, 1 / BASELINE, 0]]
        },
    }


def write_calibration(path: Path, **changes) -> Path:
    content = calibration_content()
    for key, value in changes.items():
        node = content
        *parents, last = key.split("__")
        for part in parents:
            node = node[part]
        if value is None:
            del node[last]
        else:
            node[last] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def calibration(tmp_path) -> Calibration:
    return read_calibration(write_calibration(tmp_path / "cam_to_cam.yaml"))


def seen_by(camera: int, points: np.ndarray) -> np.ndarray:
    """Project (N, 3) points of camera 0 through a camera's lens onto its sensor, and rectify the pixels; (N, 2)."""
    turn, shift = (rotation(BETWEEN), np.array(SHIFT)) if camera else (np.eye(3), np.zeros(3))
    matrix, lens = camera_matrix(RAW_MATRICES[f"cam{camera}"]), np.array(LENSES[f"cam{camera}"])
    pixels, _ = cv2.projectPoints(points, cv2.Rodrigues(turn)[0], shift, matrix, lens)
    rays = straight_rays((pixels[:, 0] - matrix[:2, 2]) / matrix[[0, 1], [0, 1]], lens)
    rectified = rays @ rotation(RECTIFYING[camera]).T @ camera_matrix(RECTIFIED_MATRICES[f"camRect{camera}"]).T
    return rectified[:, :2] / rectified[:, 2:]


def straight_rays(bent: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """Undo a lens (k1, k2, p1, p2) by fixed-point iteration: (N, 2) on its image plane -> (N, 3) with z = 1."""
    (k1, k2, p1, p2), straight = lens, bent
    for _ in range(200):
        x, y = straight.T
        r2 = x * x + y * y
        sideways = np.stack((2 * p1 * x * y + p2 * (r2 + 2 * x * x), p1 * (r2 + 2 * y * y) + 2 * p2 * x * y), axis=-1)
        straight = (bent - sideways) / (1 + k1 * r2 + k2 * r2 * r2)[:, None]
    return np.column_stack((straight, np.ones(len(straight))))


def looked_up(positions: tuple[np.ndarray, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """Positions at fractional pixels, by bilinear interpolation; (N, 2)."""
    corner = np.floor(pixels).astype(int)
    dx, dy = (pixels - corner).T
    x, y = corner.T
    weights = ((0, 0, (1 - dx) * (1 - dy)), (1, 0, dx * (1 - dy)), (0, 1, (1 - dx) * dy), (1, 1, dx * dy))
    return np.stack([sum(w * p[y + j, x + i] for i, j, w in weights) for p in positions], axis=-1)


def points_at(depth: float, number: int = 300) -> np.ndarray:
    """Random points of camera 0 at a depth along the axis of its rectified frame, well inside its view."""
    rng = np.random.default_rng(3)
    spread = np.column_stack([rng.uniform(-0.45, 0.45, number), rng.uniform(-0.33, 0.33, number), np.ones(number)])
    return spread * depth @ rotation(RECTIFYING[0])


def test_far_points_through_both_cameras(calibration):
    """Far points seen by both unrectified cameras, and rectified there, lie where the map says."""
    points = points_at(1e6)
    events, frame = seen_by(0, points), seen_by(1, points)
    np.testing.assert_allclose(looked_up(frame_positions(calibration), events), frame, atol=0.01)


@pytest.mark.parametrize("depth", [4.0, 15.0, 60.0])
def test_near_points_need_the_disparity(calibration, depth):
    points = points_at(depth)
    events, frame = seen_by(0, points), seen_by(1, points)
    disparity = np.full((480, 640), RECTIFIED_MATRICES["camRect0"][0] * BASELINE / depth)
    found = looked_up(frame_positions(calibration, disparity), events)
    np.testing.assert_allclose(found, frame, atol=0.01)
    parallax = np.abs(looked_up(frame_positions(calibration), events) - frame).max()
    assert 30 < parallax * depth < 80


def test_disparity_of_zero_is_infinity(calibration):
    far, still_far = frame_positions(calibration), frame_positions(calibration, np.zeros((480, 640)))
    for a, b in zip(far, still_far, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("wrong", ["extrinsics__T_10", "extrinsics__R_rect0", "extrinsics__R_rect1"])
def test_a_rotation_the_wrong_way_round_would_show(tmp_path, wrong):
    """The test above is sensitive: transposing any rotation moves the points by many pixels."""
    matrix = np.array(calibration_content()["extrinsics"][wrong.split("__")[1]])
    matrix[:3, :3] = matrix[:3, :3].T.copy()
    turned = read_calibration(write_calibration(tmp_path / "turned.yaml", **{wrong: matrix.tolist()}))
    points = points_at(1e6)
    difference = looked_up(frame_positions(turned), seen_by(0, points)) - seen_by(1, points)
    assert np.abs(difference).max() > 20


def test_finer_positions_average_to_the_pixel(calibration):
    for coarse, fine in zip(frame_positions(calibration), frame_positions(calibration, samples=4), strict=True):
        assert fine.shape == (1920, 2560)
        np.testing.assert_allclose(fine.reshape(480, 4, 640, 4).mean(axis=(1, 3)), coarse, atol=0.01)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "area"])
def test_a_picture_of_coordinates(calibration, interpolation):
    """An image whose colours encode positions shows where every warped pixel comes from."""
    y, x = np.mgrid[:1080, :1440]
    image = np.stack((x * (255 / 1440), y * (255 / 1080), np.full_like(x, 200)), axis=-1).round().astype(np.uint8)
    warped = warp_image(image, frame_positions(calibration, samples=samples_of(interpolation)), interpolation)
    assert warped.shape == (480, 640, 3)
    at_x, at_y = frame_positions(calibration)
    inside = (at_x > 2) & (at_x < 1437) & (at_y > 2) & (at_y < 1077)
    assert 0.8 < inside.mean() < 1
    expected = np.stack((at_x * (255 / 1440), at_y * (255 / 1080)), axis=-1)
    assert np.abs(warped[..., :2].astype(float) - expected)[inside].max() < 1.1
    outside = (at_x < -2) | (at_x > 1442) | (at_y < -2) | (at_y > 1082)
    assert outside.any()
    assert (warped[outside] == 0).all()


def test_area_averages_what_nearest_picks(calibration):
    y, x = np.mgrid[:1080, :1440]
    board = ((x + y) % 2 * 255).astype(np.uint8)
    middle = (slice(100, 300), slice(200, 400))
    nearest, area = (
        warp_image(board, frame_positions(calibration, samples=samples_of(name)), name)[middle]
        for name in ("nearest", "area")
    )
    assert set(np.unique(nearest)) == {0, 255}
    assert np.abs(area.astype(float) - 127.5).max() < 40


def test_seen_share(calibration):
    x, y = frame_positions(calibration)
    inside = (x >= 0) & (x <= 1439) & (y >= 0) & (y <= 1079)
    assert seen_share(calibration) == pytest.approx(inside.mean())


def test_disparity_holes_take_the_nearest_measurement(tmp_path):
    raw = np.zeros((480, 640), np.uint16)
    raw[100:110, 100:110], raw[300, 500] = 512, 2560
    cv2.imwrite(str(tmp_path / "d.png"), raw)
    disparity = read_disparity(tmp_path / "d.png")
    assert disparity.dtype == np.float32
    assert disparity[105, 105] == disparity[90, 90] == 2
    assert disparity[300, 500] == disparity[310, 510] == 10
    assert set(np.unique(disparity)) == {2, 10}


def test_disparity_that_is_none(tmp_path):
    Image.new("L", (640, 480)).save(tmp_path / "eight.png")
    with pytest.raises(DataError, match=r"eight\.png is not a 16-bit grey PNG"):
        read_disparity(tmp_path / "eight.png")
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        read_disparity(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extrinsics__R_rect1": None}, r"has no extrinsics\.R_rect1"),
        ({"extrinsics__T_10": [[1, 2], [3, 4]]}, r"extrinsics\.T_10 is not an array of 4x4 numbers"),
        ({"extrinsics__R_rect0": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}, r"extrinsics\.R_rect0 is not a rotation"),
        ({"intrinsics__camRect0__camera_matrix": [0, 1, 2, 3]}, "focal lengths"),
        ({"intrinsics__camRect1__resolution": [1440, "high"]}, r"camRect1\.resolution is not an array of 2 numbers"),
        ({"intrinsics": "lost"}, r"has no intrinsics\.camRect0\.camera_matrix"),
    ],
)
def test_bad_calibrations_are_named(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read_calibration(write_calibration(tmp_path / "cam_to_cam.yaml", **changes))


def test_calibration_that_cannot_be_read(tmp_path):
    (tmp_path / "broken.yaml").write_text("a: [1, 2\nb: }")
    with pytest.raises(DataError, match=r"broken\.yaml is not readable YAML"):
        read_calibration(tmp_path / "broken.yaml")
    with pytest.raises(DataError, match="does not exist"):
        read_calibration(tmp_path / "absent.yaml")


# ------------------------------------------------------------------------------------------------- files


@pytest.fixture
def data(tmp_path) -> Path:
    """A DSEC_Night of one sequence with a calibration, events of the golden tree and three raw images."""
    sequence = tmp_path / "DSEC Night" / "zurich_city_09_b"
    shutil.copytree(MINI, sequence, ignore=shutil.ignore_patterns("warp_images", "labels"))
    write_calibration(sequence / "calibration" / "cam_to_cam.yaml")
    raw = sequence / "images" / "left" / "rectified"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (54, 72, 3), dtype=np.uint8)
    for frame in (150, 151, 152):
        image = Image.fromarray(np.roll(coarse, frame, axis=1)).resize((1440, 1080), Image.Resampling.BILINEAR)
        image.save(raw / f"{frame:06d}.png", compress_level=1)
    return sequence.parent


def run(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == expect, result.stdout + result.stderr
    return result


def warped_files(data: Path, folder: str = "warp_images") -> list[Path]:
    return sorted((data / "zurich_city_09_b" / folder).iterdir())


def test_script_warps_and_goes_on(data):
    picture = data / "pictures" / "check.png"
    result = run(data, "--check_picture", picture)
    assert "3 files: 3 written, 0 up to date, 0 failed" in result.stdout
    assert "events fit the edges best when shifted by" in result.stdout
    with Image.open(picture) as image:
        assert image.width > 2 * 640
    files = warped_files(data)
    assert [path.name for path in files] == ["000150.png", "000151.png", "000152.png"]
    assert {Image.open(path).size for path in files} == {(640, 480)}
    files[1].write_bytes(files[1].read_bytes()[:1000])
    assert "1 written, 2 up to date" in run(data, "--nproc", 2).stdout


def test_other_settings_make_files_again(data):
    sequence = data / "zurich_city_09_b"
    for interpolation, written in (("bilinear", 3), ("nearest", 3), ("nearest", 0)):
        assert make_warp_images(warp_tasks(sequence, None, interpolation), interpolation).written == written
    content = calibration_content()
    content["extrinsics"]["R_rect0"] = np.eye(3).tolist()
    (sequence / "calibration" / "cam_to_cam.yaml").write_text(yaml.safe_dump(content))
    before = warped_files(data)[0].read_bytes()
    assert make_warp_images(warp_tasks(sequence, None, "nearest"), "nearest").written == 3
    assert warped_files(data)[0].read_bytes() != before


def test_one_sequence_is_a_root_too(data):
    assert "3 written" in run(data / "zurich_city_09_b", "--out_dir", "other").stdout
    assert len(warped_files(data, "other")) == 3


def test_pixels_are_those_of_the_library(data):
    sequence = data / "zurich_city_09_b"
    tasks = warp_tasks(sequence, interpolation="bilinear")
    assert make_warp_images(tasks, "bilinear").written == 3
    positions = frame_positions(read_calibration(sequence / "calibration" / "cam_to_cam.yaml"))
    expected = warp_image(np.array(Image.open(tasks[0].image)), positions, "bilinear")
    assert (np.array(Image.open(tasks[0].target)) == expected).all()


def test_disparity_is_used_where_there_is_one(data):
    sequence = data / "zurich_city_09_b"
    folder = sequence / "disparity" / "event"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "000150.png"), np.full((480, 640), 40 * 256, np.uint16))
    run(data, "--out_dir", "far")
    assert "1 of 3 images have a disparity map" in run(data, "--disparity", "--out_dir", "near").stdout
    same = [
        far.read_bytes() == near.read_bytes()
        for far, near in zip(warped_files(data, "far"), warped_files(data, "near"), strict=True)
    ]
    assert same == [False, True, True]


def test_failures_are_named_and_the_rest_is_made(data):
    raw = data / "zurich_city_09_b" / "images" / "left" / "rectified"
    Image.new("RGB", (144, 108)).save(raw / "000150.png")
    (raw / "000152.png").write_bytes((raw / "000152.png").read_bytes()[:5000])
    result = run(data, expect=1)
    assert "1 written, 0 up to date, 2 failed" in result.stdout
    small, cut_off = result.stderr.splitlines()
    assert "000150.png is 144x108, the frame camera of the calibration 1440x1080" in small
    assert "000152.png is not a readable image (it is truncated" in cut_off


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: shutil.rmtree(s / "calibration"), "give one for all with --calibration"),
        (lambda s: shutil.rmtree(s / "images" / "left"), "extract the rectified images"),
        (lambda s: s.rename(s.with_name("zurich_city_10_a")), "holds no zurich_city_09_a"),
    ],
)
def test_missing_parts_are_named(data, spoil, message):
    spoil(data / "zurich_city_09_b")
    error = run(data, expect=2).stderr
    assert message in error
    assert len(error.splitlines()) == 1


def test_disparity_folder_must_exist(data):
    assert "extract the disparity there" in run(data, "--disparity", expect=2).stderr


def test_agreement_finds_a_shift():
    """Events on the edges of a shifted picture: the shift comes back."""
    rng = np.random.default_rng(5)
    grey = cv2.resize(rng.integers(0, 255, (24, 32), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_NEAREST)
    image = np.repeat(grey[..., None], 3, axis=-1)
    across, down = (np.abs(np.diff(grey.astype(float), axis=axis, append=0)) > 20 for axis in (1, 0))
    edges = (across | down).astype(np.float32)
    counts = np.stack((np.zeros_like(edges), np.roll(edges, (-3, 5), axis=(0, 1))))
    fit = agreement(image, counts)
    assert np.abs(np.array(fit.shift) - (-5, 3)).max() <= 1
    assert fit.best > fit.unshifted
