"""Class sets: built-in ones and files, and whole trainings and tests with them."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.training_tools import config_of
from PIL import Image

from mmseg.classes import CITYSCAPES_19, CLASSES, DSEC_11, DSEC_ABSENT_CLASSES, PALETTE
from mmseg.config.class_sets import class_set, distance_classes
from mmseg.config.load import effective, load_config
from mmseg.datasets.class_statistics import read_class_pixels, read_files_by_class
from mmseg.datasets.labels import build_dataset, to_classes
from mmseg.engine.checkpoint import check_class_set
from mmseg.errors import CheckpointError, ConfigError, DataError
from mmseg.evaluation.logged import logged_classes
from mmseg.evaluation.submission import check_classes

NOTHING_ELSE = [name for name in CLASSES if name not in ("road", "sidewalk", "car", "bus", "truck", "train")]
# The last class is in no label map.
STREET = {
    "name": "street3",
    "classes": [
        {"name": "drivable <1>", "color": [128, 64, 128], "from": ["road", 1]},
        {"name": "vehicle", "color": [0, 0, 142], "from": ["car", "bus", "train"]},
        {"name": "truck", "color": [1, 2, 3], "from": ["truck"]},
    ],
    "ignore": NOTHING_ELSE,
}


def changed(**changes: object) -> dict:
    return json.loads(json.dumps({**STREET, **changes}))


def with_class(number: int, **changes: object) -> dict:
    content = changed()
    content["classes"][number] |= changes
    return content


def test_dsec_semantic_classes():
    assert len(DSEC_11) == len(DSEC_11.names) == len(DSEC_11.palette) == 11
    # the table of DSEC-Semantic, by Cityscapes train id
    table = [5, 6, 1, 9, 2, 4, 10, 10, 7, 7, 0, 3, 3, 8, 8, 8, 8, 8, 8]
    assert DSEC_11.label_map == {**dict(enumerate(table)), 255: 255}
    assert DSEC_11.absent(DSEC_ABSENT_CLASSES) == ()


def test_the_default_is_cityscapes():
    assert class_set(None) is class_set("cityscapes19") is CITYSCAPES_19
    assert CITYSCAPES_19.names == CLASSES
    assert CITYSCAPES_19.palette == PALETTE
    assert CITYSCAPES_19.label_map == {**{i: i for i in range(19)}, 255: 255}
    assert CITYSCAPES_19.absent(DSEC_ABSENT_CLASSES) == DSEC_ABSENT_CLASSES


def test_a_file(tmp_path):
    path = tmp_path / "street.json"
    path.write_text(json.dumps(STREET))
    found = class_set(str(path))
    assert found.names == ("drivable <1>", "vehicle", "truck")
    assert found.sources == ((0, 1), (13, 15, 16), (14,))
    assert found == class_set(STREET)
    assert found.absent(DSEC_ABSENT_CLASSES) == (2,)
    own = class_set(
        {**STREET, "labels": "own", "ignore": [7], "classes": STREET["classes"][:2]}
        | {
            "classes": [
                {"name": "a", "color": [1, 0, 0], "from": [5, 200]},
                {"name": "b", "color": [2, 0, 0], "from": [0]},
            ]
        }
    )
    assert own.label_map == {5: 0, 200: 0, 0: 1, 7: 255, 255: 255}
    bare = [{"name": name, "color": [n, 0, 1]} for n, name in enumerate("abc")]
    assert class_set({"name": "n", "labels": "own", "classes": bare}).sources == ((0,), (1,), (2,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(name="dsec11"), "name is 'dsec11', a built-in class set; give another name"),
        (changed(classes=[]), "'classes' must be a list of 2 to 254 objects"),
        (changed(labels="voc"), "labels is 'voc'; give 'cityscapes' or 'own'"),
        (changed(colours=[]), "has the unknown key 'colours'"),
        (changed(classes=["road", "car"]), "class 0 is 'road'; give an object with name, color and from"),
        (changed(ignore=NOTHING_ELSE[1:]), "does not say what becomes of building; add each to"),
        (changed(ignore=[*NOTHING_ELSE, "car"]), "names the label 13 (car) twice, in class 'vehicle' and 'ignore'"),
        (changed(ignore=[*NOTHING_ELSE, "trian"]), "ignore lists 'trian', which is not a Cityscapes class"),
        (changed(ignore=[*NOTHING_ELSE, True]), "ignore lists True, which is not a Cityscapes class"),
        (changed(ignore="car"), "ignore is 'car'; give a list"),
        (with_class(1, name="drivable <1>"), "class 1 has the name 'drivable <1>', as class 0; rename one"),
        (with_class(1, name=" "), "class 1: name is ' '; give a text of 1 to 60"),
        (with_class(2, color=[0, 0, 256]), "class 2 (truck): color is [0, 0, 256]; give a list (red, green, blue)"),
        (with_class(2, color=[0, 0, 142]), "class 2 (truck) has the colour of vehicle"),
        (with_class(2, color=[0, 0, 0]), "class 2 (truck) is black, the colour of ignored pixels"),
        (with_class(2, **{"from": [19]}), "from of class 2 (truck) lists 19, which is not a Cityscapes class"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=re.escape(f"{path}")) as error:
        class_set(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_keys_of_a_file():
    nameless = changed()
    del nameless["classes"][1]["name"]
    with pytest.raises(ConfigError, match="classes: class 1 has no 'name'; add it"):
        class_set(nameless)
    with pytest.raises(ConfigError, match="has no 'name' of the class set"):
        class_set({"classes": STREET["classes"]})
    with pytest.raises(ConfigError, match=r"classes='dsec12' is not a class set.*did you mean 'dsec11'"):
        class_set("dsec12")
    with pytest.raises(ConfigError, match=r"none\.json does not exist"):
        class_set("none.json")


def test_configs_hold_the_file_and_know_the_number(root, tmp_path):
    path = tmp_path / "street.json"
    path.write_text(json.dumps(STREET))
    published = root / "configs/fusion/cs2dsec_image+events_together_b5.py"
    config = load_config(published, {"classes": str(path), "model.decode_head.num_classes": None})
    path.unlink()
    assert config.classes.to_dict() == STREET
    assert effective(config)["model"]["decode_head"]["num_classes"] == 3
    assert effective(config, for_training=False)["model"]["decode_head"]["num_classes"] == 3
    assert effective(load_config(published))["model"]["decode_head"]["num_classes"] == 19
    for for_training in (True, False):
        with pytest.raises(
            ConfigError, match="num_classes is 19, but the class set 'dsec11' has 11 classes; set it to"
        ):
            effective(load_config(published, {"classes": "dsec11"}), for_training)
    with pytest.raises(ConfigError, match="classes is 5; give 'cityscapes19', 'dsec11', or the path"):
        effective(load_config(published, {"classes": 5}))


def test_classes_of_the_feature_distance():
    assert distance_classes([6, 7, 11, 12, 13, 18], DSEC_11) == [10, 3, 8]
    assert distance_classes(["car", "sky"], DSEC_11) == [8, 0]
    assert distance_classes([6, 18], CITYSCAPES_19) == [6, 18]
    with pytest.raises(ConfigError, match=r"lists 'trian', which is not a class of 'cityscapes19'.*'train'"):
        distance_classes(["trian"], CITYSCAPES_19)
    with pytest.raises(ConfigError, match="'street3' ignores all of these classes"):
        distance_classes([18], class_set(STREET))
    own = class_set(changed(labels="own", ignore=[], classes=[{"name": n, "color": [ord(n), 0, 0]} for n in "ab"]))
    with pytest.raises(ConfigError, match="lists Cityscapes train ids, from which the class set 'street3' has no map"):
        distance_classes([1], own)


def test_labels_are_mapped_on_reading(mini_project):
    settings = dict(type="CityscapesICDataset", dataset_path=str(mini_project / "data/cityscapes"))
    plain, mapped = build_dataset(settings, CITYSCAPES_19), build_dataset(settings, DSEC_11)
    draw = plain.draw(np.random.default_rng(0))
    stored, found = (data.sample(0, draw)["label"] for data in (plain, mapped))
    table = torch.tensor(DSEC_11.label_table())
    assert torch.equal(found, table[stored])
    assert torch.equal(plain.sample(0, draw)["image"], mapped.sample(0, draw)["image"])
    assert len(found.unique()) > 3


def test_a_label_outside_of_the_class_set(tmp_path):
    own = class_set(changed(labels="own", ignore=[9], classes=[{"name": n, "color": [ord(n), 0, 0]} for n in "ab"]))
    label = Image.fromarray(np.array([[0, 1, 9, 255, 42]], np.uint8))
    with pytest.raises(
        DataError, match=r"x\.png holds the value 42, which is not a label id of the class set 'street3'"
    ):
        to_classes(label, own, tmp_path / "x.png")
    inside = to_classes(label.crop((0, 0, 4, 1)), own, tmp_path / "x.png")
    assert np.asarray(inside).tolist() == [[0, 1, 255, 255]]


def test_class_statistics_are_mapped(tmp_path):
    entries = [{"file": "a.png", "0": 5, "1": 7, "2": 1, "13": 2}, {"file": "b.png", "1": 3, "14": 4}]
    (tmp_path / "sample_class_stats.json").write_text(json.dumps(entries))
    files = {"0": [["a.png", 5]], "1": [["a.png", 7], ["b.png", 3]], "2": [["a.png", 1]], "14": [["b.png", 4]]}
    (tmp_path / "samples_with_class.json").write_text(json.dumps(files))
    street = class_set(STREET)
    assert read_class_pixels(tmp_path, street) == [
        {"0": 12, "1": 2, "file": "a.png"},
        {"0": 3, "2": 4, "file": "b.png"},
    ]
    assert read_files_by_class(tmp_path, street) == {0: [("a.png", 12), ("b.png", 3)], 2: [("b.png", 4)]}
    assert read_class_pixels(tmp_path) == entries


OWN = {
    "name": "own2",
    "labels": "own",
    "classes": [
        {"name": "free", "color": [9, 0, 0], "from": [3], "cityscapes": ["road", "sidewalk"]},
        {"name": "car", "color": [0, 9, 0], "from": [7], "cityscapes": [13]},
    ],
    "ignore_cityscapes": [name for name in CLASSES if name not in ("road", "sidewalk", "car")],
}


def test_own_label_ids_with_a_cityscapes_source(mini_project):
    """A data set with its own label ids and Cityscapes are mapped into the same classes."""
    own = class_set(OWN)
    assert own.label_map == {3: 0, 7: 1, 255: 255}
    mapped = own.of_cityscapes()
    assert mapped.label_map == {0: 0, 1: 0, 13: 1, 255: 255} | {i: 255 for i in range(2, 19) if i != 13}
    assert (mapped.names, mapped.palette) == (own.names, own.palette)
    assert mapped.absent([13]) == (1,)
    assert DSEC_11.of_cityscapes() is DSEC_11
    settings = dict(type="CityscapesICDataset", dataset_path=str(mini_project / "data/cityscapes"))
    source = build_dataset(settings, own)
    draw = source.draw(np.random.default_rng(0))
    stored = build_dataset(settings, CITYSCAPES_19).sample(0, draw)["label"]
    assert torch.equal(source.sample(0, draw)["label"], torch.tensor(mapped.label_table())[stored])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (OWN | {"ignore_cityscapes": []}, "what becomes of building, wall.*add each to 'cityscapes' of a class or to"),
        (
            OWN | {"ignore_cityscapes": [*OWN["ignore_cityscapes"], "car"]},
            r"names the label 13 \(car\) twice",
        ),
        (changed(ignore_cityscapes=["car"]), "in both 'from' and 'cityscapes'; use 'from', or set labels to 'own'"),
        (OWN | {"ignore_cityscapes": 3}, "ignore_cityscapes is 3; give a list"),
    ],
)
def test_bad_maps_from_cityscapes(content, message):
    with pytest.raises(ConfigError, match=message):
        class_set(content)


def test_a_head_that_knows_its_number(root):
    """A head from outside without an argument num_classes gets none; its number must be that of the class set."""
    from mmseg.models.decode_heads.daformer_head import DAFormerHead
    from mmseg.registry import HEADS
    from mmseg.uda.segmentors import check_number_of_classes

    class TwoClasses(DAFormerHead):
        def __init__(self, in_channels, channels, decoder_params):
            super().__init__(in_channels=in_channels, channels=channels, decoder_params=decoder_params, num_classes=2)

    HEADS.register_module(name="TwoClasses", module=TwoClasses)
    try:
        published = root / "configs/baselines/cs2dsec_image_source_only_b5.py"
        options = {"model.decode_head.type": "TwoClasses", "model.decode_head.num_classes": None}
        config = load_config(published, options)
        del config.model.decode_head["num_classes"]
        assert "num_classes" not in effective(config)["model"]["decode_head"]
        head = TwoClasses(
            [4, 4, 4, 4], 8, dict(effective(config)["model"]["decode_head"]["decoder_params"], embed_dims=8)
        )
        check_number_of_classes(SimpleNamespace(decode_head=head), class_set(OWN))
        with pytest.raises(ConfigError, match="TwoClasses has num_classes 2, but the class set 'cityscapes19' has 19"):
            check_number_of_classes(SimpleNamespace(decode_head=head), CITYSCAPES_19)
    finally:
        HEADS.module_dict.pop("TwoClasses")


def test_a_number_of_classes_without_a_class_set(root):
    published = root / "configs/fusion/cs2dsec_image+events_together_b5.py"
    with pytest.raises(ConfigError, match=r"num_classes is 8, but the class set 'cityscapes19' has 19.*key 'classes'"):
        effective(load_config(published, {"model.decode_head.num_classes": 8}))


def test_checkpoints_are_compared_before_anything_runs(mini_project, tmp_path):
    from mmseg.apis import train

    path = tmp_path / "other.pth"
    torch.save({"meta": {"CLASSES": list(DSEC_11.names)}, "state_dict": {}}, path)
    with pytest.raises(CheckpointError, match=r"other\.pth was trained on the 11 classes of 'dsec11'"):
        train(config_of(mini_project, load_from=path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_checkpoints_of_other_classes_are_refused():
    of = lambda classes: {"meta": {"CLASSES": list(classes.names)}}  # noqa: E731
    check_class_set(of(DSEC_11), "x.pth", DSEC_11)
    for content in ({}, {"meta": {"iter": 3}}, {"meta": {"CLASSES": None}}, of(CITYSCAPES_19)):
        check_class_set(content, "x.pth", CITYSCAPES_19)
        with pytest.raises(CheckpointError, match=r"x\.pth was trained on the 19 classes of 'cityscapes19' .*'dsec11'"):
            check_class_set(content, "x.pth", DSEC_11)
    with pytest.raises(CheckpointError, match=r"3 classes of another set .*drivable.* 19 of 'cityscapes19'"):
        check_class_set(of(class_set(STREET)), "x.pth", CITYSCAPES_19)


def test_submissions_are_cityscapes_only():
    check_classes(CITYSCAPES_19)
    with pytest.raises(ConfigError, match="takes the 19 Cityscapes classes, and the config has those of 'dsec11'"):
        check_classes(DSEC_11)


def test_own_labels_of_a_data_set(mini_project):
    """Label files of the mini tree read as numbers of their own: 10, the sky of Cityscapes, is not among them."""
    own = [{"name": f"c{number}", "color": [number, 1, 1], "from": [number]} for number in range(10)]
    classes = class_set({"name": "own", "labels": "own", "classes": own, "ignore": list(range(11, 19))})
    settings = dict(type="CityscapesICDataset", dataset_path=str(mini_project / "data/cityscapes"))
    dataset = build_dataset(settings, classes)
    with pytest.raises(DataError, match=r"\.png holds the value 10, which is not a label id of the class set 'own'"):
        [dataset.load_label(index) for index in range(len(dataset))]
    assert classes.absent(DSEC_ABSENT_CLASSES) == ()


def test_logged_names():
    assert logged_classes(["mIoU", "IoU.traffic_light", "IoU.my_class"]) == {
        "traffic light": "IoU.traffic_light",
        "my_class": "IoU.my_class",
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dsec11", "street3"])
def test_training_and_test(mini_project, tmp_path, name):
    from mmseg.apis import test_work_dir, train
    from mmseg.inference.model import init_model

    file = tmp_path / "street.json"
    file.write_text(json.dumps(STREET))
    classes = class_set("dsec11" if name == "dsec11" else STREET)
    small = {"runner.max_iters": 2, "evaluation.interval": 2, "uda.debug_img_interval": 1}
    # of the mini trees' few images, none has many pixels of most classes
    small |= {"data.train.rare_class_sampling.min_pixels": 0, "model.decode_head.num_classes": None}
    config = config_of(mini_project, classes="dsec11" if name == "dsec11" else file, **small)
    work_dir = train(config, tmp_path / "run")
    file.unlink()

    meta = torch.load(work_dir / "iter_2.pth", weights_only=True)["meta"]
    assert meta["CLASSES"] == list(classes.names)
    assert meta["PALETTE"] == [list(color) for color in classes.palette]
    log = (work_dir / "run.log.json").read_text().splitlines()
    (evaluated,) = (record for record in map(json.loads, log) if record["mode"] == "val")
    assert {key for key in evaluated if key.startswith("IoU.")} == {
        f"IoU.{name.replace(' ', '_')}" for name in classes.names
    }

    result = test_work_dir(work_dir)
    metrics = json.loads((work_dir / "preds" / "metrics.json").read_text())
    assert list(metrics["per_class"]) == list(classes.names)
    # of the three, the truck's is absent from the labels of DSEC
    assert ("mIoU_2" in metrics["scores"]) == (name == "street3")
    assert result.scores.valid_classes == (tuple(range(11)) if name == "dsec11" else (0, 1))
    picture = next(path for path in (work_dir / "preds").glob("*.png"))
    predicted, colored = (np.asarray(Image.open(path)) for path in (picture, picture.parent / "color" / picture.name))
    assert predicted.max() < len(classes)
    np.testing.assert_array_equal(colored, np.array(classes.palette, np.uint8)[predicted])
    report = (work_dir / "preds" / "report.html").read_text()
    assert "mean of 11" in report if name == "dsec11" else "drivable &lt;1&gt;" in report

    model = init_model(work_dir / "run.json", work_dir / "iter_2.pth")
    assert (classes.names, classes.palette) == (model.CLASSES, model.PALETTE)
    other = {"classes": "cityscapes19"}
    with pytest.raises(CheckpointError, match="was trained on the"):
        init_model(work_dir / "run.json", work_dir / "iter_2.pth", cfg_options=other)


def test_the_export_names_the_classes():
    from mmseg.inference.input_recipe import InputRecipe, describe

    values = dict(classes=STREET, data=dict(test=dict(type="DSECDataset", dataset_txt_path="none")))
    from mmengine.config import Config

    about = describe(InputRecipe(Config(values)), ["image"], (64, 64), labels=False)
    assert about["classes"] == ["drivable <1>", "vehicle", "truck"]
    assert about["palette_rgb"] == [color["color"] for color in STREET["classes"]]
    assert about["outputs"][0]["shape"][1] == 3
