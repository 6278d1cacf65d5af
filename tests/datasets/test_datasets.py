"""Samples of the data sets against golden cases 11, 12 and 14, and errors for bad input."""

import json
import random
import shutil

import h5py
import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN, GoldenArrays, assert_sample, load_json
from PIL import Image

from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.crops import CropDraw
from mmseg.datasets.dsec_night import DSECDataset, DSECDraw
from mmseg.datasets.rare_classes import class_probabilities
from mmseg.datasets.uda import UDADataset
from mmseg.errors import ConfigError, DataError
from mmseg.extractors.content import content_map

ISR = dict(val_range=[0.01, 1.01], _threshold=0.005, _clip_range=0.1, shift_pixel=1)
MINI = GOLDEN / "mini"


@pytest.fixture
def in_mini(monkeypatch):
    """The golden lists hold paths relative to the DSEC_Night folder."""
    monkeypatch.chdir(MINI / "DSEC_Night")


def dsec(split="train", **changes):
    lists = {"train": "night_dataset_warp.txt", "test": "night_test_dataset_warp.txt"}
    cfg = dict(dataset_txt_path=GOLDEN / "c10_dsec_txt" / lists[split])
    if split == "train":
        cfg |= dict(crop_size=(400, 400), after_crop_resize_size=(512, 512))
        cfg |= dict(outputs={"warp_image", "events_vg", "warp_img_self_res"}, shift_type="random", isr_parms=ISR)
    else:
        cfg |= dict(outputs={"warp_image", "events_vg", "label", "img_metas"})
    return DSECDataset(**cfg | changes)


def golden_draw(flip_x_y, clip_range=None) -> DSECDraw:
    flip, x, y = (int(v) for v in flip_x_y)
    return DSECDraw(CropDraw(x, y, bool(flip)), clip_range)


@pytest.mark.parametrize("seed", range(4))
def test_dsec_training_samples(in_mini, seed):
    golden = GoldenArrays("c11_dsec_train.npz")
    dataset = dsec()
    assert len(dataset) == int(golden["len"])
    draw = golden_draw(golden[f"s{seed}.flip_x_y"])
    assert_sample(golden, f"s{seed}", dataset.sample(int(golden[f"s{seed}.idx"]), draw))


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("bins5avg1", dict(events_bins_5_avg_1=True)),
        ("range2", dict(image_change_range=2)),
        ("clip0.1", dict(events_clip_range=(0.1, 0.1))),
        ("clip_rand", dict(events_clip_range=(0.05, 0.5))),
        ("rightdown_default_parms", dict(shift_type="rightdown", isr_parms=None)),
        ("crop_440_to_512", dict(crop_size=(440, 440))),
        ("events_num_5000", dict(events_num=5000)),
    ],
)
def test_dsec_variants(in_mini, variant, changes):
    golden = GoldenArrays("c11_dsec_train_variants.npz")
    seed, index = (int(v) for v in golden["seed_idx"])
    generator = random.Random(seed)
    side = changes.get("crop_size", (400, 400))[0]
    flip, x, y = generator.random() < 0.5, generator.randint(0, 640 - side), generator.randint(0, 480 - side)
    assert [flip, x, y] == [int(v) for v in golden[f"{variant}.flip_x_y"]]
    clip = generator.uniform(*changes["events_clip_range"]) if "events_clip_range" in changes else None
    dataset = dsec(**changes)
    assert_sample(golden, variant, dataset.sample(index, golden_draw(golden[f"{variant}.flip_x_y"], clip)))


@pytest.mark.parametrize(
    ("variant", "index", "changes"),
    [
        ("cfg", 1, {}),
        ("cfg", 4, {}),
        ("bins5avg1", 2, dict(events_bins_5_avg_1=True)),
        ("clip0.1", 2, dict(events_clip_range=(0.1, 0.1))),
        ("range2", 2, dict(image_change_range=2)),
    ],
)
def test_dsec_test_samples(in_mini, tmp_path, variant, index, changes):
    lines = (GOLDEN / "c10_dsec_txt" / "night_test_dataset_warp.txt").read_text().splitlines()
    one_line = tmp_path / "one_line.txt"
    one_line.write_text(lines[index] + "\n")
    dataset = dsec("test", dataset_txt_path=one_line, **changes)
    assert len(dataset) == 1
    sample = dataset[0]
    assert sample["warp_image"].shape == (3, 440, 640)
    assert sample["label"].shape == (440, 640)
    assert_sample(GoldenArrays("c11_dsec_test.npz"), f"{variant}.{index}", sample)
    assert sample["img_metas"]["name"].startswith("zurich_city_09_")


def test_frames_without_a_window(in_mini):
    """The frame two before 797 has event index -1, on which the reference crashes."""
    with pytest.raises(DataError, match=r"1 of 5 frames have no events to look back on .*797"):
        dsec("test", image_change_range=2)
    dataset = dsec("train", dataset_txt_path=GOLDEN / "c10_dsec_txt/night_test_dataset_warp.txt", image_change_range=2)
    assert len(dataset) == 4
    assert "1 of 5 frames have no events to look back on" in dataset.left_out


def test_bad_dsec_values(in_mini, tmp_path):
    with pytest.raises(ConfigError, match="events_bins is 5"):
        dsec(events_bins=5)
    with pytest.raises(ConfigError, match="unknown output event_vg"):
        dsec(outputs={"event_vg"})
    with pytest.raises(ConfigError, match="500x700 does not fit into 640x480"):
        dsec(crop_size=(700, 500))
    with pytest.raises(ConfigError, match="shift_type is 'diagonal'"):
        dsec(shift_type="diagonal")
    with pytest.raises(DataError, match=r"does not exist|is missing"):
        dsec(dataset_txt_path=tmp_path / "none.txt")


def test_missing_and_damaged_dsec_files(tmp_path, monkeypatch):
    shutil.copytree(MINI / "DSEC_Night", tmp_path / "DSEC_Night")
    monkeypatch.chdir(tmp_path / "DSEC_Night")
    sequence = tmp_path / "DSEC_Night" / "zurich_city_09_a"
    image = sequence / "warp_images" / "000798.png"
    content = image.read_bytes()
    image.unlink()
    with pytest.raises(DataError, match=r"1 files .* are missing, the first is .*000798\.png"):
        dsec()
    image.write_bytes(content[: len(content) // 2])
    draw = DSECDraw(CropDraw(0, 0, False), None)
    with pytest.raises(DataError, match=r"000798\.png is not a readable image"):
        dsec().sample(0, draw)
    image.write_bytes(content)
    events = sequence / "events" / "left" / "events.h5"
    events.write_bytes(events.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"events\.h5 is not a readable DSEC event file"):
        dsec()


def test_windows_that_cannot_be_used_are_found_at_construction(tmp_path, monkeypatch):
    shutil.copytree(MINI / "DSEC_Night", tmp_path / "DSEC_Night")
    monkeypatch.chdir(tmp_path / "DSEC_Night")
    path = tmp_path / "DSEC_Night" / "zurich_city_09_a" / "events" / "left" / "events.h5"
    whole = dsec()
    start, finish = whole.windows[0]
    with h5py.File(path, "r+") as file:
        file["events/t"][start : finish + 1] = file["events/t"][start]
    dataset = dsec()
    assert len(dataset) == len(whole) - 1
    assert "1 of 8 frames have no events" in dataset.left_out
    with h5py.File(path, "r+") as file:
        events = {key: file[f"events/{key}"][:1000] for key in "txyp"}
        for key, values in events.items():
            del file[f"events/{key}"]
            file[f"events/{key}"] = values
    with pytest.raises(DataError, match=r"events\.h5 ends before event"):
        dsec()


def test_images_of_another_size_are_refused(tmp_path, monkeypatch):
    shutil.copytree(MINI / "DSEC_Night", tmp_path / "DSEC_Night")
    monkeypatch.chdir(tmp_path / "DSEC_Night")
    dataset = dsec()
    Image.new("RGB", (1440, 1080)).save(dataset.frames[0].warp_image)
    with pytest.raises(DataError, match=r"is 1440x1080; warp images and labels .* 640x480"):
        dataset.sample(0, DSECDraw(CropDraw(0, 0, False), None))


# ---------------------------------------------------------------- Cityscapes


def cityscapes(**changes) -> CityscapesICDataset:
    outputs = {"image", "label", "img_time_res", "img_self_res"}
    cfg = dict(dataset_path=str(MINI / "cityscapes"), outputs=outputs, shift_type="random")
    return CityscapesICDataset(**cfg | changes)


def index_of(dataset: CityscapesICDataset, name: str) -> int:
    return next(i for i, n in enumerate(dataset.names) if name in n)


@pytest.mark.parametrize("seed", range(4))
def test_cityscapes_samples(seed):
    golden = GoldenArrays("c12_cityscapes_cs2dsec.npz")
    dataset = cityscapes()
    index = index_of(dataset, str(golden[f"s{seed}.image_name_contains"]))
    sample = dataset.sample(index, golden_draw(golden[f"s{seed}.flip_x_y"]).crop)
    assert sample["label"].dtype == torch.int64
    assert_sample(golden, f"s{seed}", sample)


def test_grey_image_in_place_of_image_change():
    golden = GoldenArrays("c12_cityscapes_gray.npz")
    dataset = cityscapes(return_GI_or_IC="gray_image")
    index = index_of(dataset, str(golden["s0.image_name_contains"]))
    assert_sample(golden, "s0", dataset.sample(index, golden_draw(golden["s0.flip_x_y"]).crop))


@pytest.mark.parametrize(
    ("case", "changes"),
    [("cs2dz", dict(shift_type="rightdown")), ("new_day", dict(shift_type="all", cs_isr_data_type="new_day"))],
)
def test_content_maps_of_the_variants(case, changes):
    golden = GoldenArrays(f"c12_cityscapes_{case}.npz")
    dataset = cityscapes(outputs={"img_self_res"}, **changes)
    seeds = sorted({key.split(".")[0] for key in golden.data if key.startswith("s")})
    for seed in seeds:
        index = index_of(dataset, str(golden[f"{seed}.image_name_contains"]))
        assert_sample(golden, seed, dataset.sample(index, golden_draw(golden[f"{seed}.flip_x_y"]).crop))


def test_high_resolution_content_maps():
    """A crop of the map of the whole flipped image, if that needs no resizing."""
    shape = dict(image_resize_size=(256, 128), image_crop_size=(64, 48), outputs={"img_self_res"})
    dataset = cityscapes(high_resolution_isr=True, shift_type="all", **shape)
    image = Image.open(dataset.image_path(dataset.names[0])).convert("L")
    for flip, left in ((False, 30), (True, 256 - 30 - 64)):
        seen = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image
        whole = content_map(torch.from_numpy(np.array(seen)), dataset.content.params, "all")
        content = dataset.sample(0, CropDraw(30, 20, flip))["img_self_res"]
        torch.testing.assert_close(content[0], whole[20:68, left : left + 64])
    assert cityscapes(high_resolution_isr=True).sample(0, CropDraw(5, 0, True))["img_self_res"].shape == (3, 512, 512)


def test_bad_cityscapes(tmp_path):
    with pytest.raises(DataError, match=r"leftImg8bit.* does not exist; put Cityscapes there"):
        cityscapes(dataset_path=str(tmp_path))
    with pytest.raises(ConfigError, match="600x512 does not fit into 512x512"):
        cityscapes(image_resize_size=(512, 512), image_crop_size=(600, 512))
    shutil.copytree(MINI / "cityscapes", tmp_path / "cs")
    shutil.rmtree(tmp_path / "cs" / "leftImg8bit_IC1")
    with pytest.raises(DataError, match="6 of 6 files are missing for the output 'img_time_res'"):
        cityscapes(dataset_path=str(tmp_path / "cs"))


def test_labels_that_are_no_train_ids(tmp_path):
    shutil.copytree(MINI / "cityscapes", tmp_path / "cs")
    dataset = cityscapes(dataset_path=str(tmp_path / "cs"))
    path = dataset.label_path(dataset.names[0])
    shutil.copy(str(path).replace("labelTrainIds", "labelIds"), path)
    with pytest.raises(DataError, match=r"labelTrainIds\.png holds the values .* not train ids"):
        dataset.sample(0, CropDraw(0, 0, False))


# ---------------------------------------------------------------- rare class sampling


@pytest.mark.parametrize("temperature", ["0.01", "0.1", "1.0"])
@pytest.mark.parametrize(
    ("name", "stats"),
    [("mini", "c12_cityscapes/sample_class_stats.json"), ("syn", "c14_rcs/sample_class_stats.json")],
)
def test_class_probabilities(name, stats, temperature):
    golden = GoldenArrays("c14_rcs.npz")
    classes, probabilities = class_probabilities(load_json(stats), float(temperature))
    assert classes == golden[f"{name}.T{temperature}.classes"].tolist()
    np.testing.assert_allclose(probabilities, golden[f"{name}.T{temperature}.probs"], rtol=2e-5)


def uda_dataset(root=MINI / "cityscapes", seed=0, **rcs) -> UDADataset:
    rcs = dict(min_pixels=300, class_temp=0.01, min_crop_ratio=0.5) | rcs
    return UDADataset(cityscapes(), dsec(), str(root), rcs, seed)


@pytest.mark.parametrize("seed", range(6))
def test_rare_class_samples(in_mini, seed):
    """The reference's draws from its global generators lead to the same file and crop."""
    golden = GoldenArrays("c14_rcs.npz")
    sampler = uda_dataset().rare_classes
    numpy_rng, python_rng = np.random.RandomState(seed), random.Random(seed)
    class_id = int(numpy_rng.choice(sampler.classes, p=sampler.probabilities))
    index = int(numpy_rng.choice(sampler.samples_with_class[class_id]))
    expected_class, expected_file = golden.json(f"uda.seed{seed}.class_file")
    assert class_id == expected_class
    assert sampler.source.names[index] in expected_file

    def reference_draws():
        for _ in range(11):
            flip = python_rng.random() < 0.5
            yield CropDraw(python_rng.randint(0, 1024 - 512), python_rng.randint(0, 0), flip)

    sample = sampler.sample(index, class_id, reference_draws())
    assert int((sample["label"] == class_id).sum()) == int(golden[f"uda.seed{seed}.n_class_pixels_in_crop"])


def test_samples_are_keyed_by_seed_and_number(in_mini):
    first, again, other = uda_dataset(seed=1)[5], uda_dataset(seed=1)[5], uda_dataset(seed=2)[5]
    for domain in ("source", "target"):
        for key, value in first[domain].items():
            assert torch.equal(value, again[domain][key])
    assert not torch.equal(first["target"]["warp_image"], other["target"]["warp_image"])


def test_workers_see_the_same_samples(in_mini):
    dataset = uda_dataset()
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, sampler=range(4), num_workers=2)
    for batch_number, batch in enumerate(loader):
        for position in range(2):
            expected = dataset[2 * batch_number + position]["target"]["events_vg"]
            assert torch.equal(batch["target"]["events_vg"][position], expected)


def test_uniform_sources_without_rare_class_sampling(in_mini):
    sample = UDADataset(cityscapes(), dsec(), seed=3)[0]
    assert set(sample["source"]) == {"image", "label", "img_time_res", "img_self_res"}


def test_bad_rare_class_sampling(in_mini, tmp_path):
    with pytest.raises(ConfigError, match=r"more than 3000 pixels of class .*rare_class_sampling\.min_pixels"):
        uda_dataset(min_pixels=3000)
    with pytest.raises(ConfigError, match=r"unknown config key 'data\.train\.rare_class_sampling\.min_pixel', did you"):
        uda_dataset(min_pixel=3)
    with pytest.raises(DataError, match=r"sample_class_stats\.json does not exist"):
        uda_dataset(root=tmp_path)
    for name in ("sample_class_stats.json", "samples_with_class.json"):
        text = (MINI / "cityscapes" / name).read_text().replace("aachen", "ulm")
        (tmp_path / name).write_text(json.dumps(json.loads(text)))
    with pytest.raises(DataError, match=r"names .*ulm.*, which is not among the 6 images"):
        uda_dataset(root=tmp_path)
