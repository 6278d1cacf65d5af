"""Scores by brightness and near class boundaries: against a plain form, and in the files of a test."""

import json

import numpy as np
import pytest
import torch
from helpers.report_tools import HEIGHT, WIDTH, make_run, make_test
from helpers.run_tools import make_run as make_scored_run
from helpers.run_tools import metrics, write

from mmseg.classes import DSEC_ABSENT_CLASSES
from mmseg.datasets.normalization import normalize_image
from mmseg.errors import ConfigError
from mmseg.evaluation.metrics import ConfusionMatrix, scores
from mmseg.evaluation.regions import (
    BOUNDARY_PIXELS,
    BRIGHTNESS,
    DARK_BELOW,
    DISTANCE,
    GLARE_FROM,
    REGIONS,
    count_pixels,
    input_grey,
    near_boundary,
    region_scores,
    whole,
)
from mmseg.report.comparison import comma_separated, compare, markdown, read_run
from mmseg.report.data import collect
from mmseg.report.page import render
from mmseg.work_dir.metrics_file import read_metrics


def blobs(rng, size, values):
    """Label map of patches of 4 pixels, with ignored ones."""
    small = rng.choice(values, (-(-size[0] // 4), -(-size[1] // 4)))
    return small.repeat(4, 0).repeat(4, 1)[: size[0], : size[1]].astype(np.uint8)


def plain_near(label):
    """The definition, pixel by pixel."""
    near = np.zeros(label.shape, bool)
    for y, x in np.argwhere(label != 255):
        part = label[max(0, y - BOUNDARY_PIXELS) : y + BOUNDARY_PIXELS + 1]
        part = part[:, max(0, x - BOUNDARY_PIXELS) : x + BOUNDARY_PIXELS + 1]
        near[y, x] = ((part != 255) & (part != label[y, x])).any()
    return near


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (30, 3), (37, 41)])
@pytest.mark.parametrize("values", [(0,), (255,), (0, 255), (0, 18, 255), (3, 4, 5)])
def test_band_along_boundaries(size, values):
    label = blobs(np.random.default_rng(0), size, values)
    np.testing.assert_array_equal(near_boundary(label), plain_near(label))


def test_band_has_its_width_on_both_sides():
    label = np.zeros((3, 40), np.uint8)
    label[:, 20:] = 7
    assert np.flatnonzero(near_boundary(label)[1]).tolist() == [*range(20 - BOUNDARY_PIXELS, 20 + BOUNDARY_PIXELS)]
    # unlabelled pixels are no boundary: only the classes beyond them count
    label[:, 18:22] = 255
    assert np.flatnonzero(near_boundary(label)[1]).tolist() == [17, 22]


def test_counts_by_region():
    rng = np.random.default_rng(1)
    size, classes = (50, 61), 5
    label, predicted = blobs(rng, size, (0, 1, 3, 4, 255)), blobs(rng, size, (0, 1, 2, 3))
    grey = rng.integers(0, 256, size).astype(np.uint8)
    grey[0, :4] = DARK_BELOW - 1, DARK_BELOW, GLARE_FROM - 1, GLARE_FROM
    label[0, :4] = 0
    counts = count_pixels(predicted, label, grey, classes)
    expected = np.zeros((3, 2, classes, classes), np.int64)
    near = plain_near(label)
    for y, x in np.argwhere(label != 255):
        brightness = "dark" if grey[y, x] < DARK_BELOW else "glare" if grey[y, x] >= GLARE_FROM else "middle"
        distance = "boundary" if near[y, x] else "interior"
        place = BRIGHTNESS.index(brightness), DISTANCE.index(distance)
        expected[(*place, label[y, x], predicted[y, x])] += 1
    np.testing.assert_array_equal(counts, expected)
    # the main scores are those of all pixels, exactly
    main = ConfusionMatrix(classes).update(torch.from_numpy(predicted), torch.from_numpy(label)).numpy()
    np.testing.assert_array_equal(whole(counts), main)
    without = count_pixels(predicted, label, None, classes)
    np.testing.assert_array_equal(without[0], counts.sum(axis=0))
    found = {region.name: region for region in region_scores(counts, (2,), tuple("abcde"))}
    assert tuple(found) == tuple(REGIONS)
    of = scores(counts[2].sum(axis=0), (2,), tuple("abcde"))
    assert found["glare"].as_dict()["mIoU_4"] == of.mean_iou_valid
    assert found["dark"].share + found["middle"].share + found["glare"].share == pytest.approx(1)
    assert found["boundary"].pixels + found["interior"].pixels == main.sum()
    assert [r.name for r in region_scores(without, (), tuple("abcde"))] == list(DISTANCE)


@pytest.mark.parametrize(
    ("predicted", "label"),
    [((5, 0), (0, 0)), ((0, 0), (5, 0)), ((0, 0), (254, 0)), ((0, -1), (0, 0)), ((0, 0, 0), (0, 0))],
)
def test_values_that_are_no_class_are_refused(predicted, label):
    with pytest.raises(ValueError, match=r"are not all one of 5 classes|differ in shape"):
        count_pixels(np.array([predicted]), np.array([label]), None, 5)


def test_nothing_labelled():
    counts = count_pixels(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8), None, 3)
    (boundary, interior) = region_scores(counts, (), tuple("abc"))
    assert boundary.pixels == interior.pixels == 0
    assert json.loads(json.dumps(boundary.as_dict()))["mIoU"] is None


def test_grey_levels_are_those_of_the_image():
    from PIL import Image

    rgb = np.random.default_rng(2).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    grey = np.asarray(Image.fromarray(rgb).convert("L"))
    np.testing.assert_array_equal(input_grey(normalize_image(rgb), (20, 30)), grey)
    assert input_grey(normalize_image(rgb), (40, 60)).shape == (40, 60)


# In the files of tests


def test_metrics_of_a_test(tmp_path):
    found = read_metrics(make_test(tmp_path / "a") / "metrics.json")
    regions = found["regions"]
    assert list(regions) == list(REGIONS)
    assert sum(regions[name]["pixels"] for name in BRIGHTNESS) == 5 * (HEIGHT - 2) * WIDTH
    assert found["regions"]["glare"]["definition"] == f"grey level from {GLARE_FROM}"
    assert 0 < regions["boundary"]["mIoU_18"] < 1
    assert set(DSEC_ABSENT_CLASSES) == {14}
    assert regions["interior"]["IoU"]["truck"] is None
    assert "regions" not in json.loads((make_test(tmp_path / "b", labelled=False) / "metrics.json").read_text())


def test_report_shows_regions(tmp_path):
    work_dir = make_run(tmp_path / "261122_1200_night_0a1b2", points=2)
    text = render(collect([work_dir]))
    assert 'aria-label="Mean IoU by region"' in text
    assert f"grey level below {DARK_BELOW}" in text
    # files of earlier versions have none
    for path in work_dir.glob("preds*/metrics.json"):
        old = json.loads(path.read_text())
        del old["regions"]
        write(path, old)
    assert "Mean IoU by region" not in render(collect([work_dir]))


def test_hostile_regions(tmp_path):
    path = tmp_path / "metrics.json"
    for regions in ([1], {"dark": 3}, {"dark": {"mIoU": 7}}, {"dark": {"IoU": {"road": "x"}}}, {"a": {"pixels": -1}}):
        write(path, {**metrics(0.5, 0.5), "regions": regions})
        with pytest.raises(ConfigError, match="regions"):
            read_metrics(path)


def test_comparison_shows_regions(tmp_path):
    runs = [make_scored_run(tmp_path, "cmda", seed) for seed in (0, 1)]
    of = {"dark": {"mIoU": 0.1, "mIoU_18": 0.2}, "glare": {"mIoU": 0.3}, "boundary": {"mIoU": None}}
    write(runs[0] / "preds" / "metrics.json", {**metrics(0.5, 0.6, iteration=4), "regions": of})
    (row,) = compare([read_run(path) for path in runs])
    assert row.regions == {"dark": [20.0], "glare": [30.0]}
    assert "| mIoU where | 1 |\n| --: | --: |\n| dark | 20.00 |\n| glare | 30.00 |" in markdown([row])
    assert "mIoU dark,mIoU dark sd,mIoU glare" in comma_separated([row])
