"""Testing on a manifest in place of the config's test set."""

import json

import pytest
import torch
from helpers.golden_tools import GOLDEN
from helpers.layout_trees import make_acdc, make_dsec_sequence
from helpers.script_tools import PUBLISHED, ROOT

from mmseg.classes import CITYSCAPES_19
from mmseg.config.load import load_config
from mmseg.datasets.labels import build_dataset
from mmseg.errors import ConfigError, DataError
from mmseg.evaluation.test_set import choose_test_set
from mmseg.preparation.layouts import Selection
from mmseg.preparation.layouts.find import find
from mmseg.preparation.manifests import ManifestContent, write_manifest
from mmseg.work_dir.results import TestChoices, results_folder

DARK_ZURICH = "configs/fusion/cs2dz_image+raw-isr_b5.py"


def chosen(config_path, manifest, changes=None, **choices):
    """Section of the test, and what is tested."""
    config = load_config(ROOT / config_path, changes or {})
    output = choose_test_set(config, TestChoices(manifest=str(manifest), **choices))
    return config.data.test.to_dict(), output


@pytest.fixture
def dark_zurich(tmp_path):
    """A manifest of the validation images of the mini Dark Zurich."""
    root = GOLDEN / "mini" / "dark_zurich"
    images = sorted((root / "rgb_anon/val/night").glob("*/*.png"))
    labels = [
        root / "gt/val/night" / path.parent.name / path.name.replace("rgb_anon", "gt_labelTrainIds") for path in images
    ]
    lines = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
    write_manifest(tmp_path / "night.jsonl", ManifestContent(lines=lines))
    return tmp_path / "night.jsonl"


@pytest.mark.parametrize(
    ("changes", "choices"),
    [
        ({}, {}),
        ({}, {"image_isr": True}),
        ({}, {"output": "fusion", "train_isr_parms": True}),
        ({"data.test.dz_isr_data_type": "new_night"}, {"image_isr": True}),
    ],
)
def test_samples_are_those_of_the_configs_test(dark_zurich, changes, choices):
    """The mini Dark Zurich through a manifest and through its data set."""
    changes = {**changes, "data.test.dataset_path": str(GOLDEN / "mini" / "dark_zurich")}
    usual = load_config(ROOT / DARK_ZURICH, changes)
    choose_test_set(usual, TestChoices(**choices))
    wanted = build_dataset(usual.data.test.to_dict(), CITYSCAPES_19)
    section, _ = chosen(DARK_ZURICH, dark_zurich, changes, **choices)
    found = build_dataset(section, CITYSCAPES_19)
    assert (found.outputs, found.TEST_STREAMS, len(found)) == (wanted.outputs, wanted.TEST_STREAMS, len(wanted))
    for index in range(len(wanted)):
        for key, value in wanted[index].items():
            same = found[index][key]
            assert torch.equal(same, value) if isinstance(value, torch.Tensor) else same["name"] == value["name"]


def test_images_keep_their_shape(tmp_path):
    """A test with events on images of another shape and without events."""
    root = make_acdc(tmp_path / "acdc")
    write_manifest(tmp_path / "fog.jsonl", find("acdc", root, Selection(split="val", condition=("fog",))))
    section, _ = chosen(PUBLISHED, tmp_path / "fog.jsonl")
    assert section["image_resize_size"] == (853, 480)
    assert section["outputs"] == ["img_metas", "label", "warp_image"]
    section, _ = chosen(DARK_ZURICH, tmp_path / "fog.jsonl")
    assert section["image_resize_size"] == (960, 540)
    assert results_folder("run", TestChoices(manifest="lists/fog.jsonl")).name == "preds_fog"


def test_rows_without_labels_are_not_tested(tmp_path):
    make_dsec_sequence(tmp_path / "zurich_city_13_a", 4)
    content = find("dsec-semantic", tmp_path, Selection(split="test", classes="19"))
    write_manifest(tmp_path / "day.jsonl", content)
    section, _ = chosen(PUBLISHED, tmp_path / "day.jsonl")
    dataset = build_dataset(section, CITYSCAPES_19)
    assert (section["image_resize_size"], dataset.prediction_size) == ((640, 480), (440, 640))
    assert dataset[0]["events_vg"].shape == (3, 440, 640)
    # 282 rows of the upper 440
    section, _ = chosen("configs/demo/cmda_toy_city.py", tmp_path / "day.jsonl")
    assert section["image_resize_size"] == (410, 308)
    section, output = chosen("configs/own/cs2own_images.py", tmp_path / "day.jsonl", output="fusion")
    assert (section["outputs"], output) == (["image", "label", "night_isr"], "fusion")


def test_what_cannot_be_tested(tmp_path, dark_zurich):
    with pytest.raises(DataError, match=r"none.jsonl does not exist; make it with tools/make_manifest.py"):
        chosen(DARK_ZURICH, tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match=r"--manifest does not go with data.test.high_resolution_isr"):
        chosen(DARK_ZURICH, dark_zurich, {"data.test.high_resolution_isr": True})
    with pytest.raises(ConfigError, match=r"--manifest: data.test.type is 'CityscapesICDataset'; it can replace"):
        chosen(DARK_ZURICH, dark_zurich, {"data.test.type": "CityscapesICDataset"})
    lines = dark_zurich.read_text().splitlines()
    dark_zurich.write_text("\n".join([lines[0], json.dumps({"image": "none.png"})]))
    with pytest.raises(DataError, match=r"night\.jsonl, line 2: image .*none\.png does not exist"):
        chosen(DARK_ZURICH, dark_zurich)
