"""Test-time augmentation: what it is equal to, that it commutes with a mirror, and that it can be recorded."""

import numpy as np
import pytest
import torch
from helpers.prediction_tools import StandIn, TinySegmentor
from PIL import Image
from torch import nn

from mmseg.config.augmentation import TestTimeAugmentation
from mmseg.datasets.preprocessing import ContentSettings
from mmseg.engine.augmented_prediction import mean_probabilities
from mmseg.engine.prediction import Predictor
from mmseg.errors import ConfigError, DataError
from mmseg.extractors.content import NIGHT_PARAMS

CPU = torch.device("cpu")
MIRRORED = {"rightdown": "leftdown", "leftup": "rightup", "all": "all"}


class Pointwise(TinySegmentor):
    """Looks at single pixels, so that its output moves with its input."""

    def __init__(self, **test_cfg):
        super().__init__(**test_cfg)
        self.image, self.events = (nn.Conv2d(3, 19, 1) for _ in range(2))


def streams(seed=0, height=40, width=48, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn((batch, 3, height, width), generator=generator) for name in ("image", "events")}


def mirrored(given):
    return {name: stream.flip(-1) for name, stream in given.items()}


def predict(segmentor, given, tta=None, size=None, dtype=None, **options):
    return Predictor(segmentor.eval(), CPU, dtype, augmentation=TestTimeAugmentation.parse(tta), **options)(
        given, "fusion", size, True
    )


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("test_cfg", [{}, dict(mode="slide", crop_size=(32, 32), stride=(12, 20))])
def test_one_scale_without_flip_is_no_augmentation(dtype, test_cfg):
    segmentor = TinySegmentor(**test_cfg)
    for size in (None, (50, 61)):
        plain, found = (predict(segmentor, streams(), tta, size, dtype) for tta in (None, "1.0"))
        assert torch.equal(plain["label"], found["label"])
        assert torch.equal(plain["confidence"], found["confidence"])
        # the mean itself, too: its only view is the plain prediction
        probability = segmentor.predict_logits(streams(), "fusion")
        if dtype is None and size is None:
            mean = mean_probabilities(segmentor, streams(), "fusion", None, TestTimeAugmentation())
            assert torch.equal(mean, probability.softmax(dim=1))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("size", [None, (50, 61)])
def test_mirrored_inputs_give_the_mirrored_prediction(dtype, size):
    """Bit for bit at one scale, for any network."""
    segmentor, given = TinySegmentor(), streams(batch=2)
    found = predict(segmentor, given, "flip", size, dtype)
    other = predict(segmentor, mirrored(given), "flip", size, dtype)
    assert torch.equal(found["label"].flip(-1), other["label"])
    assert torch.equal(found["confidence"].flip(-1), other["confidence"])
    plain = predict(segmentor, given, None, size, dtype)
    assert not torch.equal(plain["label"].flip(-1), predict(segmentor, mirrored(given), None, size, dtype)["label"])


def test_mirrored_inputs_give_the_mirrored_prediction_at_all_scales():
    segmentor, given = TinySegmentor(), streams()
    augmentation = TestTimeAugmentation.parse("flip,0.8,1.0,1.3")
    found, other = (mean_probabilities(segmentor, of, "fusion", None, augmentation) for of in (given, mirrored(given)))
    torch.testing.assert_close(found.flip(-1), other)


def test_network_that_moves_with_its_input_gains_nothing():
    segmentor, given = Pointwise(), streams()
    plain, found = predict(segmentor, given), predict(segmentor, given, "flip")
    assert torch.equal(plain["label"], found["label"])
    torch.testing.assert_close(plain["confidence"], found["confidence"])
    # constant inputs look the same at every scale
    constant = {name: stream[:, :, :1, :1].expand(stream.shape) for name, stream in given.items()}
    plain, found = predict(segmentor, constant), predict(segmentor, constant, "flip,0.85,1,1.5")
    assert torch.equal(plain["label"], found["label"])
    torch.testing.assert_close(plain["confidence"], found["confidence"])


def test_mean_of_softmax_by_hand():
    segmentor, given = TinySegmentor(), streams()
    views = []
    for scale in (1.0, 1.5):
        size = (round(40 * scale), round(48 * scale))
        resized = {name: nn.functional.interpolate(s, size, mode="bilinear") for name, s in given.items()}
        for view, back in ((resized, lambda x: x), (mirrored(resized), lambda x: x.flip(-1))):
            logits = nn.functional.interpolate(segmentor.predict_logits(view, "fusion"), (40, 48), mode="bilinear")
            views.append(back(logits.softmax(dim=1)))
    expected = torch.stack(views).mean(dim=0)
    found = predict(segmentor, given, "flip,1.0,1.5")
    assert torch.equal(found["label"], expected.argmax(dim=1).to(torch.uint8))
    torch.testing.assert_close(found["confidence"], expected.amax(dim=1))


def test_mirrored_content_map_has_the_mirrored_shift():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 41, 3)).astype(np.uint8))
    other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for shift, opposite in MIRRORED.items():
        first, second = (ContentSettings(NIGHT_PARAMS, each) for each in (shift, opposite))
        # all directions are added in one order, so that the last bit may differ
        atol = 1e-6 if shift == "all" else 0
        found = first.content_map(image, (30, 41)).flip(-1)
        torch.testing.assert_close(found, second.content_map(other, (30, 41)), rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_recorded_predictions_are_augmented(dtype):
    segmentor, told, recorder = TinySegmentor().eval(), [], StandIn()
    augmentation = TestTimeAugmentation.parse("flip,0.8,1")
    plain, recorded = (Predictor(segmentor, CPU, dtype, of, told.append, augmentation) for of in (None, recorder))
    for seed in range(4):
        expected, found = (of(streams(seed, batch=2), "fusion", (44, 50), True) for of in (plain, recorded))
        assert all(torch.equal(found[name], values) for name, values in expected.items())
    assert (len(recorder.records), told) == (1, [])


@pytest.mark.parametrize(
    ("text", "flip", "scales", "name"),
    [
        ("flip", True, (1.0,), "flip"),
        ("flip,0.75,1.0,1.25", True, (0.75, 1.0, 1.25), "flip,0.75,1,1.25"),
        ("1.25, 0.75", False, (0.75, 1.25), "0.75,1.25"),
        ("2", False, (2.0,), "2"),
        ("flip,1", True, (1.0,), "flip"),
    ],
)
def test_reading(text, flip, scales, name):
    found = TestTimeAugmentation.parse(text)
    assert (found.flip, found.scales, found.name) == (flip, scales, name)
    assert TestTimeAugmentation.parse(name) == found


@pytest.mark.parametrize("text", [None, "", "1", "1.0"])
def test_nothing_to_augment(text):
    assert TestTimeAugmentation.parse(text) is None


@pytest.mark.parametrize("text", ["flop", "flip,flip", "1,1.0", "0", "-1", "nan", "inf", "5", ",", "flip,", "1e999"])
def test_what_cannot_be_read(text):
    with pytest.raises(ConfigError, match="--tta"):
        TestTimeAugmentation.parse(text)


def test_cost_and_least_size():
    augmentation = TestTimeAugmentation.parse("flip,0.75,1.0,1.25")
    assert augmentation.passes == 6
    assert augmentation.describe().endswith("6 predictions per image, about 6.2 times the time")
    with pytest.raises(DataError, match=r"at the scale 0\.75 of --tta, inputs of 41x40 are 31x30"):
        predict(TinySegmentor(), streams(width=41), "flip,0.75,1.0")
