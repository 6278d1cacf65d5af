"""tools/export.py: exported networks compute the same as in PyTorch, and their descriptions define their inputs."""

import io
import json
import runpy
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.golden_tools import events_input, fill, image_input
from rich.console import Console

from mmseg.classes import CLASSES, PALETTE
from mmseg.config.load import load_config
from mmseg.errors import CheckpointError, ConfigError
from mmseg.events.normalize import event_clip_range
from mmseg.inference import export as exporting
from mmseg.inference.input_recipe import InputRecipe
from mmseg.models.backbones.mit import ARCHITECTURES
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.uda.segmentors import build_segmentor

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "demo"
SIZE = (64, 96)


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """MiT-b0 with only its first and last block, since the time of an export grows with the number of nodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "mit_b0", ((1, 0, 0, 1), ARCHITECTURES["mit_b0"][1]))
        yield


def make_network(name: str, folder: Path) -> tuple[BaseSegmentor, Path]:
    """A filled network of a demo config, and a checkpoint with it as the student and another one as the teacher."""
    cfg = load_config(CONFIGS / name).model.to_dict()
    student, teacher = (fill(build_segmentor({**cfg, "pretrained": None})).eval() for _ in range(2))
    with torch.no_grad():
        teacher.decode_head.conv_seg.bias += 1
    state = {f"model.{key}": value for key, value in student.state_dict().items()}
    state |= {f"ema_model.{key}": value for key, value in teacher.state_dict().items()}
    checkpoint = folder / "iter_4.pth"
    torch.save({"meta": {"iter": 4}, "state_dict": state}, checkpoint)
    return student, checkpoint


def export(config: str, checkpoint: Path, out_dir: Path, **options) -> tuple[list[Path], str]:
    console = Console(record=True, width=300, file=io.StringIO())
    files = exporting.export(CONFIGS / config, checkpoint, out_dir, size=SIZE, console=console, **options)
    return files, console.export_text()


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    """Network, files and printed text of an export of the fused output, in both formats."""
    folder = tmp_path_factory.mktemp("fused")
    network, checkpoint = make_network("cmda_toy_city.py", folder)
    return network, *export("cmda_toy_city.py", checkpoint, folder)


@pytest.fixture(scope="module")
def image_only(tmp_path_factory):
    """The same of an image-only network, as labels."""
    folder = tmp_path_factory.mktemp("image_only")
    network, checkpoint = make_network("image_only_toy_city.py", folder)
    return network, *export("image_only_toy_city.py", checkpoint, folder, labels=True)


def inputs(streams: tuple[str, ...], batch: int) -> dict[str, torch.Tensor]:
    make = {"image": image_input, "events": events_input}
    return {name: make[name](f"export:{name}", (batch, 3, *SIZE)) for name in streams}


@cache
def load_file(path: Path) -> onnxruntime.InferenceSession | torch.nn.Module:
    if path.suffix == ".onnx":
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.export.load(path).module()


def run_file(path: Path, given: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Outputs of an exported file, run as its users would."""
    network = load_file(path)
    if path.suffix == ".onnx":
        return network.run(None, {name: value.numpy() for name, value in given.items()})
    outputs = network(**given)
    return [value.numpy() for value in (outputs if isinstance(outputs, tuple) else (outputs,))]


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_are_those_of_the_network(fused, suffix, batch):
    network, files, _ = fused
    (path,) = (file for file in files if file.suffix == suffix)
    given = inputs(("image", "events"), batch)
    with torch.inference_mode():
        expected = network.predict_logits(given, "fusion").numpy()
    (logits,) = run_file(path, given)
    assert logits.dtype == np.float32
    assert logits.shape == (batch, 19, *SIZE)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.ptp(expected))


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("batch", [1, 3])
def test_labels_are_those_of_the_network(image_only, suffix, batch):
    network, files, _ = image_only
    (path,) = (file for file in files if file.suffix == suffix)
    given = inputs(("image",), batch)
    with torch.inference_mode():
        probabilities = network.predict_logits(given, "image").softmax(dim=1)
    label, confidence = run_file(path, given)
    assert (label.dtype, confidence.dtype) == (np.uint8, np.float32)
    np.testing.assert_allclose(confidence, probabilities.amax(dim=1).numpy(), rtol=0, atol=1e-4)
    # Rounding may choose either of two nearly equal classes.
    first, second = probabilities.topk(2, dim=1).values.unbind(dim=1)
    clear = (first - second > 1e-5).numpy()
    assert clear.mean() > 0.99
    assert (label == network.predict(given, "image").numpy())[clear].all()


def test_descriptions(fused, image_only):
    for path in fused[1]:
        text = Path(f"{path}.json").read_text()
        about = json.loads(text)
        assert about["file"] == path.name
        image, events = about["inputs"]
        assert (image["name"], image["shape"], image["dtype"]) == ("image", ["batch", 3, *SIZE], "float32")
        assert image["mean"] == [123.675, 116.28, 103.53]
        assert (events["name"], events["range"]) == ("events", [-1, 1])
        assert any(f"{event_clip_range(0, 10**6):g} * events / 1,000,000" in step for step in events["steps"])
        assert [given["name"] for given in about["outputs"]] == ["logits"]
        assert about["classes"] == list(CLASSES)
        assert about["palette_rgb"] == [list(color) for color in PALETTE]
        assert (about["model"], about["output"]) == ("student", "fusion")
        assert about["checkpoint"] == f"{path.parent.name}/iter_4.pth"
        assert about["size_of_the_test"] == {"inputs": [282, 410], "predictions": [440, 640]}
        assert about["checked"]["batches"] == [1, 2]
        assert about["checked"]["largest_difference_of_logits"] <= 1e-4 * about["checked"]["range_of_logits"]
        assert str(ROOT) not in text
    assert {path.name for path in image_only[1]} == {
        "student_image_64x96_labels.onnx",
        "student_image_64x96_labels.pt2",
    }
    about = json.loads(Path(f"{image_only[1][0]}.json").read_text())
    assert [given["name"] for given in about["inputs"]] == ["image"]
    assert [(given["name"], given["dtype"]) for given in about["outputs"]] == [
        ("label", "uint8"),
        ("confidence", "float32"),
    ]


def test_files_describe_themselves(fused):
    """They contain their description, and no paths of the machine that made them."""
    onnx_file, torch_file = fused[1]
    session = load_file(onnx_file)
    inside = {
        onnx_file: session.get_modelmeta().custom_metadata_map["cmda"],
        torch_file: zipfile.ZipFile(torch_file).read("archive/extra/cmda.json"),
    }
    for path, text in inside.items():
        beside = json.loads(Path(f"{path}.json").read_text())
        assert beside.pop("checked")
        assert json.loads(text) == beside
        assert str(ROOT).encode() not in path.read_bytes()
    onnx.checker.check_model(onnx.load(onnx_file), full_check=True)
    assert [(value.name, value.shape[1:]) for value in session.get_inputs()] == [
        ("image", [3, *SIZE]),
        ("events", [3, *SIZE]),
    ]


def test_what_is_printed(fused):
    _, files, text = fused
    assert "weights of the student" in text
    for path in files:
        assert f"{path} (" in text
    assert text.count("logits differ by") == 2


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        ("cmda_toy_city.py", {}, ["fusion"]),
        ("cmda_toy_city.py", {"outputs": ["all"]}, ["fusion", "image", "events"]),
        ("cmda_toy_city.py", {"outputs": ["image", "events", "image"]}, ["image", "events"]),
        ("image_only_toy_city.py", {"outputs": ["all"]}, ["image"]),
        ("cmda_toy_dark_zurich.py", {}, ["image"]),
    ],
)
def test_choice_of_outputs(monkeypatch, tmp_path, config, options, expected):
    chosen = []
    monkeypatch.setattr(exporting, "_write_checked", lambda network, *_: chosen.append(network.output) or [])
    _, checkpoint = make_network(config, tmp_path)
    export(config, checkpoint, tmp_path / "out", **options)
    assert chosen == expected


def test_the_teacher_and_the_size_of_the_test(monkeypatch, tmp_path):
    """Also when exported by work dir."""
    written = []
    monkeypatch.setattr(exporting, "_write_checked", lambda *arguments: written.append(arguments) or [])
    work_dir = tmp_path / "run[60.05]"
    work_dir.mkdir()
    student, _ = make_network("cmda_toy_city.py", work_dir)
    config = load_config(CONFIGS / "cmda_toy_city.py")
    (work_dir / "run.json").write_text(json.dumps({"model": config.model.to_dict(), "data": {"test": TEST_SET}}))
    exporting.export_work_dir(work_dir, model="teacher", console=Console(file=io.StringIO()))
    ((network, batches, stem, _, about),) = written
    bias = network.segmentor.decode_head.conv_seg.bias
    torch.testing.assert_close(bias, student.decode_head.conv_seg.bias + 1)
    assert stem == work_dir / "export" / "teacher_fusion_176x256"
    assert [tuple(batch["events"].shape) for batch in batches] == [(1, 3, 176, 256), (2, 3, 176, 256)]
    assert about["model"] == "teacher"


# of another machine
TEST_SET = {
    "type": "DSECDataset",
    "dataset_txt_path": "/nowhere/night_test_dataset_warp.txt",
    "outputs": ["warp_image", "events_vg", "label", "img_metas"],
    "test_resize_size": [176, 256],
}


def test_inputs_of_dark_zurich():
    """The content map takes the place of the events."""
    config = load_config(ROOT / "configs" / "fusion" / "cs2dz_image+raw-isr_b5.py")
    recipe = InputRecipe(config)
    assert recipe.input_size == recipe.prediction_size == (540, 960)
    about = recipe.steps("events", (540, 960))
    assert about["content"] == "content map of the image"
    steps = " ".join(about["steps"])
    for words in ("g / 255 * (100 - 1) + 1", "0.04 * span", "0.2 * span", "moved by 3 pixels", "right, down"):
        assert words in steps


def test_inputs_of_dsec():
    config = load_config(ROOT / "configs" / "fusion" / "cs2dsec_image+events_together_b5.py")
    assert InputRecipe(config).input_size == (440, 640)
    config.data.test.update(events_bins_5_avg_1=True, events_clip_range=(1.0, 2.0), events_num=1000)
    steps = InputRecipe(config).steps("events", (440, 640))["steps"]
    assert steps[0] == "the last 1000 events up to the image"
    assert any(step.startswith("clip = 1.5;") for step in steps)
    assert "mean of the 5 bins" in steps


def test_another_result_than_pytorchs_is_refused(monkeypatch, tmp_path):
    _, checkpoint = make_network("image_only_toy_city.py", tmp_path)
    monkeypatch.setattr(exporting, "_traced", lambda *_: None)
    run = lambda path, batches: ((torch.full((len(batch["image"]), 19, *SIZE), torch.nan),) for batch in batches)  # noqa: E731
    monkeypatch.setitem(exporting._WAYS, "torch", (lambda program, path, about: path.touch(), run, ("torch",)))
    with pytest.raises(ConfigError, match=r"student_image_64x96\.pt2 is not written, since it differs from PyTorch"):
        export("image_only_toy_city.py", checkpoint, tmp_path / "out", formats=["torch"])
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("label", "confidence"), [(torch.tensor([[[1, 1]]]), 0.0), (torch.tensor([[[0, 0]]]), 0.01)])
def test_wrong_labels_are_noticed(label, confidence):
    logits = torch.tensor([[[[2.0, 1.0]], [[2.0, 1.0001]]]])
    found = (label.to(torch.uint8), logits.softmax(dim=1).amax(dim=1) + confidence)
    parity = exporting._compare([found], [logits])
    # Both classes are nearly equal here, so another label is not an error.
    assert parity.is_close == (confidence == 0)


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(exporting, "ONNX_PACKAGES", ("onnx", "not_there"))
    _, checkpoint = make_network("image_only_toy_city.py", tmp_path)
    with pytest.raises(ConfigError, match="needs not_there: pip install onnx not_there"):
        export("image_only_toy_city.py", checkpoint, tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"outputs": ["fusion"]}, ConfigError, "its only output is 'image'"),
        ({"formats": ["tflite"]}, ConfigError, "format 'tflite' is unknown"),
        ({"cfg_options": {"data.test.type": "UDADataset"}}, ConfigError, "data.test.type is 'UDADataset'"),
        ({"cfg_options": {"model.decode_head.channels": 16}}, CheckpointError, "does not fit the model of the config"),
    ],
)
def test_bad_values_are_refused(tmp_path, options, error, message):
    _, checkpoint = make_network("image_only_toy_city.py", tmp_path)
    with pytest.raises(error, match=message):
        export("image_only_toy_city.py", checkpoint, tmp_path, **options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give either --work-dir or --checkpoint"),
        (("--config", CONFIGS / "cmda_toy_city.py"), "give either --work-dir or --checkpoint"),
        (("--work-dir", "nowhere"), "work dir nowhere does not exist"),
        (("--config", CONFIGS / "cmda_toy_city.py", "--checkpoint", "no.pth"), "weight file no.pth does not exist"),
    ],
)
def test_bad_words_are_one_line(monkeypatch, capsys, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["export.py", *map(str, words)])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(ROOT / "tools" / "export.py"), run_name="__main__")
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
