"""Statistics, checkpoints and weights with arbitrary content: one message that names the file, before any use."""

import copy
import io
import json
import math
import zipfile

import pytest
import torch
from helpers.golden_tools import GOLDEN
from torch import nn

from mmseg.datasets.class_statistics import STATISTICS_FILES, read_class_pixels, read_files_by_class
from mmseg.datasets.rare_classes import class_probabilities
from mmseg.engine.checkpoint import load_segmentor, load_training, save_best, save_checkpoint
from mmseg.engine.resuming import changes, listed
from mmseg.errors import CheckpointError, DataError, first_line
from mmseg.models.backbones.conversion import convert_encoder
from mmseg.models.backbones.foreign_files import read_weights
from mmseg.models.backbones.pretrained import load_pretrained_encoder
from mmseg.models.resnet_generator import load_generator
from mmseg.models.weights import load_file, load_weights_file
from mmseg.registry import BACKBONES
from mmseg.work_dir.layout import WorkDir


def one_line(error: BaseException, *parts: str) -> None:
    message = str(error)
    assert message.isprintable()
    assert len(message) < 600
    for part in parts:
        assert part in message


# ------------------------------------------------------------------------------------------------ class statistics

ENTRY = {"file": "gtFine/train/aachen/a_gtFine_labelTrainIds.png", "0": 100, "13": 7}
STATISTICS = {
    "nothing": "",
    "half": '[{"file": "a",',
    "deep": "[" * 100_000,
    "no list": "{}",
    "no entries": "[]",
    "number": "5",
    "numbers": "[1, 2]",
    "no file": json.dumps([{"0": 5}]),
    "file as number": json.dumps([{**ENTRY, "file": 5}]),
    "class 19": json.dumps([{**ENTRY, "19": 5}]),
    "class -1": json.dumps([{**ENTRY, "-1": 5}]),
    "class 255": json.dumps([{**ENTRY, "255": 5}]),
    "class as text": json.dumps([{**ENTRY, "road": 5}]),
    "class written otherwise": json.dumps([{**ENTRY, "00": 5}]),
    "negative": json.dumps([{**ENTRY, "0": -5}]),
    "not a number": json.dumps([{**ENTRY, "0": math.nan}]),
    "infinite": json.dumps([{**ENTRY, "0": math.inf}]),
    "half a pixel": json.dumps([{**ENTRY, "0": 0.5}]),
    "huge": json.dumps([{**ENTRY, "0": 10**30}]),
    "true": json.dumps([{**ENTRY, "0": True}]),
    "text": json.dumps([{**ENTRY, "0": "5"}]),
    "null": json.dumps([{**ENTRY, "0": None}]),
    "list": json.dumps([{**ENTRY, "0": [5]}]),
    "no pixels": json.dumps([{**ENTRY, "0": 0, "13": 0}]),
}
FILE = ENTRY["file"]
BY_CLASS = {
    "nothing": "",
    "deep": '{"0":' * 100_000,
    "list": "[]",
    "class 19": json.dumps({"19": [[FILE, 5]]}),
    "class as text": json.dumps({"road": [[FILE, 5]]}),
    "no list of files": json.dumps({"0": {"a": 5}}),
    "files without pixels": json.dumps({"0": [FILE]}),
    "three": json.dumps({"0": [[FILE, 5, 5]]}),
    "number as file": json.dumps({"0": [[5, 5]]}),
    "negative": json.dumps({"0": [[FILE, -1]]}),
    "not a number": json.dumps({"0": [[FILE, math.nan]]}),
    "text": json.dumps({"0": [[FILE, "5"]]}),
    "true": json.dumps({"0": [[FILE, True]]}),
}


@pytest.mark.parametrize("case", STATISTICS)
def test_hostile_pixels_by_class(tmp_path, case):
    (tmp_path / STATISTICS_FILES[0]).write_text(STATISTICS[case])
    with pytest.raises(DataError) as caught:
        read_class_pixels(tmp_path)
    one_line(caught.value, str(tmp_path / STATISTICS_FILES[0]), "convert_datasets/cityscapes.py")


@pytest.mark.parametrize("case", BY_CLASS)
def test_hostile_files_by_class(tmp_path, case):
    (tmp_path / STATISTICS_FILES[1]).write_text(BY_CLASS[case])
    with pytest.raises(DataError) as caught:
        read_files_by_class(tmp_path)
    one_line(caught.value, str(tmp_path / STATISTICS_FILES[1]), "convert_datasets/cityscapes.py")


def test_statistics_as_they_are_written_are_read(tmp_path):
    root = GOLDEN / "mini" / "cityscapes"
    assert read_class_pixels(root) == json.loads((root / STATISTICS_FILES[0]).read_text())
    by_class = read_files_by_class(root)
    assert {str(c): [list(item) for item in files] for c, files in by_class.items()} == json.loads(
        (root / STATISTICS_FILES[1]).read_text()
    )
    # a class without pixels in one image is not a fault
    (tmp_path / STATISTICS_FILES[0]).write_text("\ufeff" + json.dumps([{**ENTRY, "5": 0}]))
    ids, probabilities = class_probabilities(read_class_pixels(tmp_path), 0.1)
    assert ids == [5, 13, 0]
    assert probabilities.sum() == pytest.approx(1)


# ------------------------------------------------------------------------------------------------ checkpoints


def model_of(kind: type = torch.optim.AdamW) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return model, kind(model.parameters(), lr=1e-3)


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> dict:
    """A checkpoint as written by a training."""
    model, optimizer = model_of()
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    path = tmp_path_factory.mktemp("checkpoint") / "iter_3.pth"
    save_checkpoint(path, model, optimizer, 3, {"config": "{}", "seed": 1})
    return torch.load(path, weights_only=True)


def put(*keys, value):
    """Change to one entry of a checkpoint."""

    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def without(*keys):
    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


NAN = torch.tensor([math.nan, 0, 0, 0])
CHECKPOINTS = {
    "iteration below 0": (put("meta", "iter", value=-3), "the iteration -3, not a whole number of at least 0"),
    "iteration as text": (put("meta", "iter", value="3"), "the iteration '3'"),
    "iteration true": (put("meta", "iter", value=True), "the iteration True"),
    "huge iteration": (put("meta", "iter", value=10**30), "the iteration 1000"),
    "iteration as tensor": (put("meta", "iter", value=torch.tensor(3)), "the iteration tensor(3)"),
    "no iteration": (without("meta", "iter"), "is not a training checkpoint"),
    "no meta": (without("meta"), "is not a training checkpoint"),
    "weights as list": (put("state_dict", value=[1]), "is not a training checkpoint"),
    "weights as text": (put("state_dict", value={"0.weight": "x"}), "holds no state dict"),
    "number as name": (put("state_dict", value={1: torch.zeros(1)}), "holds no state dict"),
    "weights not finite": (put("state_dict", "0.bias", value=NAN), "1 tensors hold NaN or infinite numbers: 0.bias"),
    "infinite statistics": (put("state_dict", "1.running_var", value=NAN / 0), "infinite numbers: 1.running_var"),
    "weights of another shape": (put("state_dict", "0.bias", value=torch.zeros(5)), "1 wrong shape: 0.bias (5,)"),
    "whole numbers as weights": (put("state_dict", "0.bias", value=torch.zeros(4).long()), "1 wrong type: 0.bias"),
    "weights without numbers": (put("state_dict", "0.bias", value=torch.zeros(4, device="meta")), "'meta'"),
    "sparse weights": (put("state_dict", "0.bias", value=torch.zeros(4).to_sparse()), "is sparse or quantised"),
    "complex weights": (put("state_dict", "0.bias", value=torch.zeros(4) * 1j), "holds complex numbers"),
    "repeated weights": (put("state_dict", "0.bias", value=torch.zeros(1).expand(4)), "repeats the numbers"),
    "no groups": (without("optimizer", "param_groups"), "has no groups or no state"),
    "groups as text": (put("optimizer", "param_groups", value="x"), "has no groups or no state"),
    "group as text": (put("optimizer", "param_groups", value=["x"]), "it has [None] parameters by group"),
    "a parameter more": (put("optimizer", "param_groups", 0, "params", value=[0, 1, 2, 3, 4]), "it has [5] parameters"),
    "a parameter twice": (put("optimizer", "param_groups", 0, "params", value=[0, 1, 2, 2]), "lists a parameter twice"),
    "state as list": (put("optimizer", "state", value=[1]), "has no groups or no state"),
    "state of no parameter": (put("optimizer", "state", 9, value={}), "moments of 9, which is not a parameter"),
    "moments of another shape": (
        put("optimizer", "state", 1, "exp_avg", value=torch.zeros(1)),
        "exp_avg of the moments of parameter 1 has the shape (1,) instead of (4,)",
    ),
    "transposed moments": (put("optimizer", "state", 0, "exp_avg", value=torch.zeros(3, 4)), "shape (3, 4) instead of"),
    "a moment missing": (without("optimizer", "state", 1, "exp_avg_sq"), "parameter 1 lack exp_avg_sq"),
    "moments not finite": (put("optimizer", "state", 1, "exp_avg", value=NAN), "NaN or infinite numbers: exp_avg of"),
    "negative squares": (put("optimizer", "state", 1, "exp_avg_sq", value=-torch.ones(4)), "parameter 1 is negative"),
    "negative steps": (put("optimizer", "state", 1, "step", value=torch.tensor(-1.0)), "step of the moments of"),
    "moments as text": (put("optimizer", "state", 1, "exp_avg", value="x"), "exp_avg of the moments of parameter 1 is"),
    "moments without numbers": (put("optimizer", "state", 1, "exp_avg", value=torch.zeros(4, device="meta")), "'meta'"),
    "scaler as text": (put("scaler", value="x"), "the scaler's state in"),
    "scale of 0": (put("scaler", value={"scale": 0.0}), "without a scale above 0"),
    "infinite scale": (put("scaler", value={"scale": math.inf}), "without a scale above 0"),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_hostile_checkpoints_change_nothing(tmp_path, content, case):
    change, message = CHECKPOINTS[case]
    changed = copy.deepcopy(content)
    change(changed)
    path = tmp_path / "iter_3.pth"
    torch.save(changed, path)
    model, optimizer = model_of()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError) as caught:
        load_training(path, model, optimizer)
    one_line(caught.value, "iter_3.pth", message)
    assert not optimizer.state
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_as_it_is_written_is_taken_up(tmp_path, content):
    for kind in (torch.optim.AdamW, torch.optim.SGD):
        model, optimizer = model_of(kind)
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
        save_checkpoint(tmp_path / "iter_4.pth", model, optimizer, 4, {})
        again, fresh = model_of(kind)
        assert load_training(tmp_path / "iter_4.pth", again, fresh) == {"iter": 4}
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize("text", [None, 5, "", "[]", "5", "{", '{"a":' * 100_000, {"a": 1}, "\ud800"])
def test_an_odd_config_in_a_checkpoint_is_a_difference(text):
    assert list(changes({"config": text}, {"seed": 1}, 1).values()) == [
        "the checkpoint's config: unreadable -> the one given now"
    ]


def test_differences_are_printable_and_limited():
    meta = {"config": json.dumps({"x\n[red]": "y\x1b" * 10_000, "seed": 1}), "processes": [torch.zeros(1)]}
    (text,) = changes(meta, {"seed": 1}, 2).values()
    assert text.isprintable()
    assert len(text) < 500
    many = {"config": json.dumps({str(k): k for k in range(1000)})}
    texts = listed(changes(many, {}, 1).values()).split("; ")
    assert len(texts) == 51
    assert texts[-1] == "and 950 more"


@pytest.mark.parametrize("text", ["", "[]", "5", '{"score": "x"}', '{"score": NaN, "iter": 1}', "[" * 100_000])
def test_an_odd_record_of_the_best_is_none(tmp_path, text):
    WorkDir(tmp_path).best_record.write_text(text)
    assert save_best(tmp_path, nn.Linear(1, 1), 2, {}, "mIoU", 0.1)
    assert json.loads(WorkDir(tmp_path).best_record.read_text())["score"] == 0.1


# ------------------------------------------------------------------------------------------------ weights

WEIGHTS = {
    "not finite": (lambda x: x / 0, "NaN or infinite numbers"),
    "one number not finite": (lambda x: x.index_fill(0, torch.tensor([0]), math.inf), "NaN or infinite numbers"),
    "without numbers": (lambda x: x.to("meta"), "'meta'"),
    "sparse": (lambda x: x.to_sparse(), "is sparse or quantised"),
    "complex": (lambda x: x * 1j, "holds complex numbers"),
    "repeated": (
        lambda x: x.flatten()[:1].clone().expand(x.numel()).view(x.shape),
        "repeats the numbers of a smaller one",
    ),
    "huge": (lambda x: torch.zeros(1).expand(2**40), "repeats the numbers of a smaller one"),
    "whole numbers": (lambda x: x.long(), "wrong type"),
    "another shape": (lambda x: x[:-1], "wrong shape"),
    "a single number": (lambda x: x.sum(), ""),
}


@pytest.fixture(scope="module")
def encoder() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return BACKBONES.build({"type": "mit_b0"}).state_dict()


@pytest.mark.parametrize("case", WEIGHTS)
def test_hostile_weights_are_refused_everywhere(tmp_path, encoder, case):
    change, message = WEIGHTS[case]
    name = "block2.0.mlp.fc1.weight"
    path = tmp_path / "mit_b0.pth"
    torch.save({**encoder, name: change(encoder[name])}, path)
    model = BACKBONES.build({"type": "mit_b0"})

    def convert() -> None:
        weights, _ = read_weights(path)
        convert_encoder(weights)

    for use in (lambda: load_pretrained_encoder(model, path), lambda: load_segmentor(model, path), convert):
        with pytest.raises(CheckpointError) as caught:
            use()
        one_line(caught.value, message)


def test_a_generator_of_no_width(tmp_path):
    for first in (torch.zeros(()), torch.zeros(0, 1, 7, 7), torch.zeros(1025, 1, 1, 1), torch.zeros(4, 1, 7, 7)):
        torch.save({"model.1.weight": first}, tmp_path / "generator.pth")
        with pytest.raises(CheckpointError, match=r"generator\.pth is not a style-transfer generator"):
            load_generator(tmp_path / "generator.pth")


def test_a_packed_checkpoint_is_not_unpacked(tmp_path):
    """Its zeros would fill the memory; PyTorch itself stores data uncompressed."""
    plain, packed = io.BytesIO(), tmp_path / "packed.pth"
    torch.save({"state_dict": {"w": torch.zeros(2**20)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))
    assert packed.stat().st_size < 2**20
    for read in (load_file, load_weights_file):
        with pytest.raises(CheckpointError, match=r"packed\.pth is cut short or damaged"):
            read(packed)


def test_an_error_without_a_text_has_a_first_line():
    assert first_line(MemoryError()) == "MemoryError"
    assert first_line(MemoryError("\n")) == "MemoryError"
    assert first_line(RuntimeError("a\nb")) == "a"
