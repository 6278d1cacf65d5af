"""Image Content-Extractor and Image Motion-Extractor: golden case 9 and the plain form."""

import numpy as np
import pytest
import torch
from helpers import plain_forms
from helpers.golden_tools import GOLDEN, GoldenArrays
from PIL import Image

from mmseg.errors import ConfigError
from mmseg.extractors.content import (
    CITYSCAPES_PARAMS,
    NIGHT_PARAMS,
    SHIFTS,
    ContentParams,
    _log_table,
    _tensor_map,
    content_map,
    grey_level,
    random_direction,
)
from mmseg.extractors.motion import image_change

PARAMS = {
    "cs2dsec": ContentParams((0.01, 1.01), 0.005, 0.1, 1),
    "cs2dz": ContentParams((1, 100), 0.01, 0.1, 3),
    "cs_day": CITYSCAPES_PARAMS,
    "cs_new_day": ContentParams((1e-5, 255 + 1e-5), 0, 0.04, 3),
    "dsec_default": NIGHT_PARAMS,
    "dz_new_night": ContentParams((500, 1000), 0.02, 0.12, 3),
}


def grey_image(name: str) -> np.ndarray:
    return np.array(Image.open(GOLDEN / "c09_images" / f"{name}.png").convert("L"))


def plain(grey: np.ndarray, params: ContentParams, direction: str, mended: bool) -> np.ndarray:
    return plain_forms.content_map(
        grey,
        params.val_range,
        params.threshold,
        params.clip_range,
        params.shift_pixel,
        SHIFTS[direction],
        mended,
    )


@pytest.mark.parametrize("name", ["small0", "small1", "small2", "big0", "big1", "big2"])
def test_grey_level_equals_pil(name):
    image = Image.open(GOLDEN / "c09_images" / f"{name}.png").convert("RGB")
    rgb = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert (grey_level(rgb).numpy() == np.array(image.convert("L"))).all()


@pytest.mark.parametrize("size", ["small", "big"])
@pytest.mark.parametrize("index", range(3))
def test_content_map(size, index):
    """Ours equals the plain form; the plain form without the named deviation equals the golden numbers."""
    golden = GoldenArrays(f"c09_isr_{size}.npz")
    grey = grey_image(f"{size}{index}")
    keys = [k for k in golden.data if k.startswith(f"im{index}.") and k.count(".") == 2]
    assert keys
    for key in keys:
        _, params_name, direction = key.split(".")
        params = PARAMS[params_name]
        golden.assert_close(key, plain(grey, params, direction, mended=False)[None], rtol=1e-6)
        ours = content_map(torch.from_numpy(grey), params, direction).numpy()
        np.testing.assert_allclose(ours, plain(grey, params, direction, mended=True), atol=2e-7)


def test_most_golden_maps_hold_without_the_deviation():
    golden = GoldenArrays("c09_isr_small.npz")
    grey = torch.from_numpy(grey_image("small2"))
    for direction in SHIFTS:
        ours = content_map(grey, PARAMS["cs2dsec"], direction)[None]
        golden.assert_close(f"im2.cs2dsec.{direction}", ours, rtol=1e-6)


@pytest.mark.parametrize("name", PARAMS)
def test_flat_image_has_no_content(name):
    """Named deviation: the reference gives -1 everywhere."""
    golden = GoldenArrays("c09_isr_edge.npz")
    assert (golden[f"flat.{name}"] == -1).all()
    flat = torch.full((2, 20, 24), 77, dtype=torch.uint8)
    assert (content_map(flat, PARAMS[name], "all") == 0).all()


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("direction", ["rightdown", "leftup"])
def test_ramp(name, direction):
    """A ramp of grey along x: each shift changes one sign only."""
    ramp = np.tile(np.arange(16, dtype=np.uint8) * 10, (12, 1))
    reference = plain(ramp, PARAMS[name], direction, mended=False)
    GoldenArrays("c09_isr_edge.npz").assert_close(f"ramp.{name}.{direction}", reference[None], rtol=1e-6)
    ours = content_map(torch.from_numpy(ramp), PARAMS[name], direction).numpy()
    np.testing.assert_allclose(ours, plain(ramp, PARAMS[name], direction, mended=True), atol=2e-7)


def test_batch_equals_single_images():
    batch = torch.from_numpy(np.stack([grey_image("small1"), grey_image("small2")]))
    together = content_map(batch, NIGHT_PARAMS, "leftup")
    for image, expected in zip(batch, together, strict=True):
        assert torch.equal(content_map(image, NIGHT_PARAMS, "leftup"), expected)


@pytest.mark.parametrize("direction", SHIFTS)
@pytest.mark.parametrize("name", PARAMS)
def test_the_form_of_other_devices_is_the_same(name, direction):
    grey, params = torch.from_numpy(np.stack([grey_image("small1"), grey_image("small2")])), PARAMS[name]
    span = float(np.log(params.val_range[1]) - np.log(params.val_range[0]))
    table = _log_table(params.val_range, grey.device)
    expected = _tensor_map(
        grey, table, params.threshold * span, params.clip_range * span, params.shift_pixel, direction
    )
    assert torch.equal(content_map(grey, params, direction), expected)


def test_random_direction_table():
    table = [[random_direction(x, y) for y in (10, 11)] for x in (4, 5)]
    assert table == [["leftdown", "leftup"], ["rightdown", "rightup"]]


def test_params_from_config():
    cfg = dict(val_range=[0.01, 1.01], _threshold=0.005, _clip_range=0.1, shift_pixel=1)
    assert ContentParams.from_config(cfg, NIGHT_PARAMS, "isr_parms") == PARAMS["cs2dsec"]
    assert ContentParams.from_config("", NIGHT_PARAMS, "isr_parms") is NIGHT_PARAMS
    with pytest.raises(ConfigError, match=r"uda\.isr_parms: unknown key 'threshold', did you mean '_threshold'"):
        ContentParams.from_config(dict(cfg, threshold=1), NIGHT_PARAMS, "uda.isr_parms")
    with pytest.raises(ConfigError, match="missing shift_pixel"):
        ContentParams.from_config({k: cfg[k] for k in list(cfg)[:3]}, NIGHT_PARAMS, "uda.isr_parms")
    with pytest.raises(ConfigError, match="val_range"):
        ContentParams.from_config(dict(cfg, val_range=[0, 1]), NIGHT_PARAMS, "uda.isr_parms")


def test_image_change():
    golden = GoldenArrays("c09_time_residual.npz")
    checked = 0
    for key in golden.data:
        if key.count("_") < 4 or key.endswith((".shape", ".step", ".stats")):
            continue
        now, front, offset, threshold, clip = key.split("_")[:5]
        ours = image_change(
            grey_image(f"small{now[3:]}"),
            grey_image(f"small{front[5:]}"),
            float(offset),
            float(threshold),
            float(clip),
        )
        if now[3:] == front[5:]:
            # Named deviation: no change is 128 (0), where the reference stores 0 (-1).
            assert (ours == 128).all()
            assert (golden[key] == 0).all()
        else:
            assert (ours.reshape(golden[key].shape) == golden[key]).all(), key
        checked += 1
    assert checked
