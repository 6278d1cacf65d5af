"""Voxel grid and normalisation: golden case 8, edge cases, and the plain form on random events."""

import numpy as np
import pytest
import torch
from helpers import plain_forms
from helpers.golden_tools import GoldenArrays, u01

from mmseg.events.normalize import event_clip_range, rescale_array, rescale_halves, standardize_events
from mmseg.events.voxel_grid import normalized_time, voxel_grid

HEIGHT, WIDTH = 60, 80


def normalize_events(grid, clip):
    """A grid as normalized in a training without a cache."""
    return rescale_array(standardize_events(grid), clip)


def golden_events(prefix="ev", n=5000, height=HEIGHT, width=WIDTH):
    t = np.sort(u01(f"input:events:{prefix}:t", (n,))).astype(np.float32)
    x = (u01(f"input:events:{prefix}:x", (n,)) * (width + 10) - 5).astype(np.float32)
    y = (u01(f"input:events:{prefix}:y", (n,)) * (height + 10) - 5).astype(np.float32)
    p = (u01(f"input:events:{prefix}:p", (n,)) > 0.5).astype(np.float32)
    return (t - t[0]) / (t[-1] - t[0]), x, y, p


@pytest.mark.parametrize("bins", [1, 3, 5])
def test_voxel_grid(bins):
    grid = voxel_grid(*golden_events(), bins, HEIGHT, WIDTH)
    GoldenArrays("c08_voxel_grid.npz").assert_close(f"vg.b{bins}", grid)


@pytest.mark.parametrize("bins", [1, 5])
@pytest.mark.parametrize("clip", [0.003, 0.2, 1.0])
def test_normalized_grid(bins, clip):
    grid = voxel_grid(*golden_events(), bins, HEIGHT, WIDTH)
    # A clip of c stretches the grid by 1/c, and with it the float32 rounding of the grid (1e-7).
    rtol = max(1e-5, 1e-7 / clip)
    key = f"norm.b{bins}.clip{clip}.enforce1"
    GoldenArrays("c08_events_norm.npz").assert_close(key, normalize_events(grid, clip), rtol=rtol)


@pytest.mark.parametrize("bins", [1, 5])
def test_events_left_of_the_frame_give_a_negative_weight(bins):
    x = np.array([-0.25, 3, -1.5, 15.5, 5], np.float32)
    y = np.array([2, -0.75, 2, 11.25, 5], np.float32)
    t = np.array([0, 0.25, 0.5, 0.75, 1], np.float32)
    grid = voxel_grid(t, x, y, np.ones(5, np.float32), bins, 12, 16)
    GoldenArrays("c08_edge_cases.npz").assert_close(f"negative_frac.b{bins}.vg", grid)


@pytest.mark.parametrize("bins", [1, 5])
@pytest.mark.parametrize(("case", "polarity"), [("allpos", 1.0), ("allneg", 0.0)])
def test_one_polarity(bins, case, polarity):
    t, x, y, _ = golden_events("edge", 200, 12, 16)
    golden = GoldenArrays("c08_edge_cases.npz")
    grid = voxel_grid(t, x, y, np.full(200, polarity, np.float32), bins, 12, 16)
    golden.assert_close(f"{case}.b{bins}.vg", grid)
    for clip in (0.2, 1.0):
        normal = normalize_events(grid, clip)
        golden.assert_close(f"{case}.b{bins}.norm.clip{clip}", normal)


def test_an_empty_half_stays_zero():
    """Documented deviation: the reference gives -1 everywhere in these three cases."""
    golden = GoldenArrays("c08_edge_cases.npz")
    zero = np.zeros((1, 12, 16), np.float32)
    for key in ("zero_grid.b1.norm.enforce1", "const.b1.norm", "clip_zero.b1.norm.enforce1"):
        assert (golden[key] == -1).all()
    assert (normalize_events(zero, 0.2) == 0).all()
    constant = voxel_grid(
        np.linspace(0, 1, 10, dtype=np.float32),
        *[np.arange(10, dtype=np.float32)] * 2,
        np.ones(10),
        1,
        12,
        16,
    )
    golden.assert_close("const.b1.vg", constant)
    assert (normalize_events(constant, 0.2) == 0).all()
    grid = voxel_grid(*golden_events("edge", 200, 12, 16), 1, 12, 16)
    assert (normalize_events(grid, 0.0) == 0).all()


@pytest.mark.parametrize(
    ("times", "message"), [([], "no event"), ([5, 5, 5], "same timestamp"), ([7], "same timestamp")]
)
def test_windows_without_duration_are_refused(times, message):
    times = np.array(times, np.int64)
    with pytest.raises(ValueError, match=message):
        normalized_time(times)
    n = len(times)
    with pytest.raises(ValueError, match=message):
        voxel_grid(times.astype(np.float32), np.zeros(n), np.zeros(n), np.zeros(n), 1, 12, 16)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("bins", [1, 2, 5])
def test_voxel_grid_equals_the_plain_form(seed, bins):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 400))
    t = np.sort(rng.random(n, dtype=np.float32))
    t = (t - t[0]) / (t[-1] - t[0])
    x, y = (rng.uniform(-3, side + 3, n).astype(np.float32) for side in (13, 9))
    if seed % 2:
        x, y = np.floor(x), np.floor(y)
    p = rng.integers(0, 2, n).astype(np.uint8)
    grid = voxel_grid(t, x, y, p, bins, 9, 13)
    np.testing.assert_allclose(grid, plain_forms.voxel_grid(t, x, y, p.astype(float), bins, 9, 13), atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_normalisation_equals_the_plain_form(seed):
    rng = np.random.default_rng(seed)
    grid = (rng.integers(-3, 4, (1, 20, 30)) * rng.random((1, 20, 30))).astype(np.float32)
    normal = normalize_events(grid, 0.4)
    np.testing.assert_allclose(normal, plain_forms.normalize_events(grid, 0.4), atol=1e-5)
    assert normal.min() >= -1
    assert normal.max() <= 1


def test_frames_of_a_batch_are_rescaled_apart():
    signed = torch.stack([torch.linspace(-1, 1, 12).reshape(3, 4), torch.zeros(3, 4)])
    together = rescale_halves(signed, 0.5)
    assert torch.equal(together[0], rescale_halves(signed[0], 0.5))
    assert (together[1] == 0).all()


def test_clip_range_grows_with_the_number_of_events():
    assert event_clip_range(1000, 501_000) == 1.5
