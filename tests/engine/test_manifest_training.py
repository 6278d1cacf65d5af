"""Trainings on manifests: the same losses as on the published data sets, what a source lacks, any sensor."""

import json

import numpy as np
import pytest
from helpers.script_tools import ROOT
from helpers.small_encoder import TEST_CHANNELS, TEST_ENCODER
from PIL import Image

from mmseg.apis import train
from mmseg.config.data_root import set_root
from mmseg.config.load import load_config
from mmseg.errors import ConfigError, DataError
from mmseg.toy.dataset import make_toy_city
from mmseg.toy.settings import ToySettings

SMALL = {
    "load_from": None,
    "model.pretrained": None,
    "model.backbone_image.type": TEST_ENCODER,
    "model.backbone_events.type": TEST_ENCODER,
    "model.fusion_module.in_channels": TEST_CHANNELS,
    "model.decode_head.in_channels": TEST_CHANNELS,
    "model.decode_head.channels": 16,
    "model.decode_head.decoder_params.embed_dims": 16,
    "data.train.source.image_resize_size": (128, 64),
    "data.train.source.image_crop_size": (64, 64),
    "data.train.rare_class_sampling.min_pixels": 10,
    "data.workers_per_gpu": 0,
    "data.samples_per_gpu": 1,
    "lr_config.warmup_iters": 1,
    "log_config.interval": 1,
    "evaluation.interval": 0,
    "checkpoint_config.interval": 0,
    "uda.debug_img_interval": 0,
    "uda.imnet_feature_dist_lambda": 0,
}
FRAMES = {
    "data.train.target.image_resize_size": (640, 480),
    "data.train.target.image_crop_size": (400, 400),
    "data.train.target.crop_resize_size": (64, 64),
}


def losses(work_dir, name):
    records = map(json.loads, (work_dir / f"{name}.log.json").read_text().splitlines())
    kept = [{key: value for key, value in record.items() if "loss" in key or "acc" in key} for record in records]
    return [record for record in kept if record]


def run(root, config, work_dir, iterations=1, **changes):
    loaded = load_config(ROOT / "configs" / "demo" / f"{config}.py", SMALL | {"runner.max_iters": iterations} | changes)
    set_root(loaded, root)
    return losses(train(loaded, work_dir), work_dir.name)


def test_a_manifest_trains_to_the_same_losses(toy_city, tmp_path):
    sizes = {"data.train.target.crop_size": (400, 400), "data.train.target.after_crop_resize_size": (64, 64)}
    published = run(toy_city, "cmda_toy_city", tmp_path / "published", 2, **sizes)
    own = run(toy_city, "cmda_toy_manifests", tmp_path / "own", 2, **FRAMES)
    assert own == published
    assert len(own) == 2
    assert own[0]["decode.loss_seg"] > 0


def day_manifest(toy_city, folder, **changes):
    """The labelled day images of the toy city; the image before is another one, of the same size."""
    root = toy_city / "data" / "cityscapes"
    images = sorted((root / "leftImg8bit" / "train").glob("*/*.png"))
    lines = [{"format": 1, "class_set": "cityscapes19"}]
    for image, before in zip(images, [*images[1:], images[0]], strict=True):
        name = image.name.replace("leftImg8bit", "gtFine_labelTrainIds")
        label = root / "gtFine" / "train" / image.parent.name / name
        line = {"image": str(image), "label": str(label), "previous_image": str(before)} | changes
        lines.append({key: value for key, value in line.items() if value})
    path = folder / "day.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def source(path, **changes):
    section = {
        "_delete_": True,
        "type": "FramesDataset",
        "manifest": str(path),
        "image_resize_size": (128, 64),
        "image_crop_size": (64, 64),
        "outputs": ["image", "label", "img_time_res", "img_self_res"],
        "shift_type": "random",
    }
    others = {key: value for key, value in SMALL.items() if not key.startswith("data.train.source.")}
    config = load_config(
        ROOT / "configs/demo/cmda_toy_manifests.py", others | FRAMES | {"data.train.source": section | changes}
    )
    config.data.train.source_json_root = str(path.parent)
    config.runner.max_iters = 1
    return config


@pytest.mark.parametrize(
    ("line", "section", "error", "message"),
    [
        (
            {"previous_image": None},
            {},
            DataError,
            r"the output 'img_time_res' \(image change, from .*Motion-Extractor.*needs prev",
        ),
        (
            {"label": None},
            {},
            DataError,
            r"the output 'label' \(label\) needs label, which it lacks",
        ),
        ({"label": "none.png"}, {}, DataError, r"label .*none\.png does not exist"),
        ({}, {"outputs": ["image", "label", "img_self_res"]}, ConfigError, "source.outputs lacks img_time_res, which"),
        ({}, {"image_crop_size": (200, 64)}, ConfigError, "a crop of 200x64 does not fit into 128x64"),
    ],
)
def test_what_a_source_lacks_is_named(toy_city, tmp_path, line, section, error, message):
    path = day_manifest(toy_city, tmp_path, **line)
    config = source(path, **section)
    config.data.train.rare_class_sampling = None
    set_root(config, toy_city)
    with pytest.raises(error, match=(r"day\.jsonl, line 2: " if error is DataError else "") + message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_labels_are_read_before_training(toy_city, tmp_path):
    """Of the source, and of the validation set, which is read after thousands of iterations."""
    Image.fromarray(np.full((128, 256), 19, np.uint8)).save(tmp_path / "bad.png")
    good, bad = day_manifest(toy_city, tmp_path), tmp_path / "bad.jsonl"
    lines = [json.loads(line) for line in good.read_text().splitlines()]
    lines[2]["label"] = str(tmp_path / "bad.png")
    bad.write_text("".join(json.dumps(line) + "\n" for line in lines))
    val = {"type": "FramesDataset", "manifest": str(bad), "image_resize_size": (128, 64), "outputs": ["image", "label"]}
    for config, changes in ((source(bad), {}), (source(good), {"data.val": val})):
        config.merge_from_dict({"data.train.rare_class_sampling": None, **changes})
        set_root(config, toy_city)
        with pytest.raises(DataError, match=r"bad\.jsonl, line 3: .*bad\.png holds the value 19"):
            train(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_toy_city_with_another_sensor(tmp_path):
    """No frame list names its nights; the manifests do."""
    numbers = dict(day=1, day_val=0, day_width=128, day_height=64, night_streets=1, test_streets=1, frames=1)
    settings = ToySettings(**numbers, substeps=4, sensor_width=128, sensor_height=72)
    city = tmp_path / "city"
    report = make_toy_city(city, settings, seed=0)
    assert report["complete"]
    assert not (city / "night_dataset_warp.txt").exists()
    assert sorted(path.name for path in (city / "data").iterdir()) == ["cityscapes", "night"]
    sizes = {"data.train.target.image_resize_size": (128, 72), "data.train.target.image_crop_size": (64, 64)}
    changes = {
        "data.train.rare_class_sampling": None,
        "evaluation.interval": 1,
        "data.val.image_resize_size": (128, 72),
    }
    assert run(city, "cmda_toy_manifests", tmp_path / "run", **sizes, **changes)
    scores = (tmp_path / "run" / "run.log.json").read_text()
    assert '"mIoU"' in scores
