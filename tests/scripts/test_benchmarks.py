"""The benchmarks: plain forms equal the package's own, and the inference benchmark on a small network."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN
from helpers.script_tools import run
from helpers.small_encoder import TEST_CHANNELS, TEST_ENCODER

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import data_speed
import flops
import gpu_report
import plain
import roofline
import toy_day_network
import toy_edges
from operations import REST, WorkCounter, kind_of

from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.datasets.normalization import normalize_image
from mmseg.errors import CMDAError
from mmseg.events.normalize import rescale_array, standardize_events
from mmseg.events.voxel_grid import voxel_grid
from mmseg.extractors.content import SHIFTS, ContentParams, content_map, grey_level
from mmseg.uda.augment import to_uint8

ROOT = Path(__file__).resolve().parents[2]
PARAMS = ContentParams((0.01, 1.01), 0.005, 0.1, 1)
ISR = dict(val_range=[0.01, 1.01], _threshold=0.005, _clip_range=0.1, shift_pixel=1)


@pytest.mark.parametrize("bins", [1, 5])
def test_grids(bins):
    rng = np.random.default_rng(bins)
    t = np.linspace(0, 1, 2000, dtype=np.float32)
    x, y = (rng.uniform(-3, side + 3, 2000).astype(np.float32) for side in (64, 48))
    p = rng.integers(0, 2, 2000).astype(np.float32)
    grid = voxel_grid(t, x, y, p, bins, 48, 64)
    events = (torch.from_numpy(values) for values in (t, x, y, p))
    data_speed.check_equal("grid", plain.voxel_grid(*events, bins, 48, 64), torch.from_numpy(grid))
    normal = torch.from_numpy(rescale_array(standardize_events(grid), 0.9))
    data_speed.check_equal("normal", plain.normalize_events(torch.from_numpy(grid), 0.9), normal)


@pytest.mark.parametrize("direction", SHIFTS)
def test_content_maps_of_a_batch(direction):
    rng = np.random.default_rng(0)
    images = torch.stack([normalize_image(data_speed.textured(rng, 40, 56, level, 3)) for level in (20, 120)])
    ours = content_map(grey_level(to_uint8(images)), PARAMS, direction)[:, None].repeat(1, 3, 1, 1)
    data_speed.check_equal("content maps", plain.batch_content_map(images, PARAMS, direction), ours)


def test_samples(monkeypatch):
    monkeypatch.chdir(GOLDEN / "mini" / "DSEC_Night")
    night = DSECDataset(
        GOLDEN / "c10_dsec_txt" / "night_dataset_warp.txt",
        outputs={"warp_image", "events_vg", "warp_img_self_res"},
        crop_size=(400, 400),
        after_crop_resize_size=(96, 96),
        shift_type="random",
        isr_parms=ISR,
    )
    outputs = {"image", "label", "img_time_res", "img_self_res"}
    day = CityscapesICDataset(GOLDEN / "mini" / "cityscapes", outputs=outputs, shift_type="random")
    for dataset, plain_form in ((night, plain.dsec_sample), (day, plain.cityscapes_sample)):
        for seed in range(2):
            draw = dataset.draw(np.random.default_rng(seed))
            expected, found = plain_form(dataset, seed, draw), dataset.sample(seed, draw)
            data_speed.check_equal("sample", expected, found)


def test_differences_end_the_benchmark():
    values = torch.linspace(-1, 1, 9)
    for other in (values + 2e-5, values * torch.nan, values.double(), values[:8]):
        with pytest.raises(CMDAError, match="a map: "):
            data_speed.check_equal("a map", values, other)


def run_tool(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, words)])
    runpy.run_path(str(ROOT / "tools" / "benchmark.py"), run_name="__main__")


def torch_settings() -> tuple[bool, bool, int]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.get_num_threads()


def test_inference(monkeypatch, tmp_path):
    """Needs neither data nor weights, and leaves torch as it was."""
    monkeypatch.chdir(tmp_path)
    settings = torch_settings()
    words = "--size 64x96 --batch 1 --precision fp32 bf16 fp16 --seconds 0.1 --threads 1 --device cpu --json x.json"
    run_tool(monkeypatch, ROOT / "configs" / "demo" / "cmda_toy_city.py", *words.split())
    result = json.loads((tmp_path / "x.json").read_text())
    assert (result["output"], result["size"], result["checkpoint"]) == ("fusion", [64, 96], None)
    assert result["environment"]["torch_threads"] == 1
    forms = [(row["precision"], row["batch"], row["compiled"], row["recorded"]) for row in result["rows"]]
    assert forms == [("fp32", 1, False, False), ("bf16", 1, False, False)]
    for row in result["rows"]:
        assert 0 < row["latency_ms"] <= row["latency_p95_ms"]
        assert row["images_per_second"] > 0
        assert "peak_memory_mib" not in row
    assert len(result["left_out"]) == 1
    assert settings == torch_settings()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--size", "64by96"), "give <height>x<width>"),
        (("--size", "64x16"), "at least 32 pixels"),
        (("--seconds", "nan"), "a number above 0"),
        (("--device", "cpu", "--output", "fusion_isr"), "needs model.fusion_isr_module"),
        (("--json", "absent/x.json"), "the folder does not exist"),
    ],
)
def test_bad_values_are_refused(monkeypatch, capsys, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        run_tool(monkeypatch, ROOT / "configs" / "demo" / "cmda_toy_city.py", *words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("groups", [1, 4])
def test_work_of_a_convolution(groups):
    """Two products on the way back, one for each gradient; torch's own count of grouped ones is too large."""
    with torch.device("meta"):
        layer = torch.nn.Conv2d(8, 12, 3, padding=1, groups=groups, bias=False)
        image = torch.empty((2, 8, 10, 10), requires_grad=True)
    flop = 2 * 2 * 100 * 12 * (8 // groups) * 9
    elements = 2 * 8 * 100 + 2 * 12 * 100 + layer.weight.numel()
    with WorkCounter() as there:
        maps = layer(image)
    assert (there.total.flop, there.total.bytes) == (flop, 4 * elements)
    with WorkCounter() as back:
        maps.backward(torch.empty_like(maps))
    assert back.total.flop == 2 * flop
    # reads the gradient, image and weight; writes their two gradients
    assert back.total.bytes == 4 * (elements + 2 * 8 * 100 + layer.weight.numel())


@pytest.mark.parametrize(
    ("work", "moved"),
    [
        (lambda a, b: a + b, 3),
        (lambda a, b: a.add_(b), 3),
        (lambda a, b: a.copy_(b), 2),
        (lambda a, b: a.view(10, 10), 0),
        (lambda a, b: torch.empty_like(a), 0),
        (lambda a, b: torch._foreach_lerp_([a], [b], 0.5), 3),
        (lambda a, b: a * b[:1].expand(100), 2.01),
    ],
)
def test_moved_bytes(work, moved):
    a, b = torch.zeros(100), torch.ones(100)
    with WorkCounter() as counter:
        work(a, b)
    assert counter.total.bytes == pytest.approx(400 * moved)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("aten::linear", "aten::addmm"), "matrix products"),
        (("autograd::engine::evaluate_function: MmBackward0", "aten::t"), "matrix products"),
        (("aten::conv2d", "aten::_convolution", "aten::copy_"), "convolutions"),
        (("aten::scaled_dot_product_attention", "aten::bmm"), "attention"),
        (("Optimizer.step#AdamW.step", "aten::_foreach_norm", "aten::norm"), "optimiser and teacher"),
        (("aten::native_batch_norm",), "normalisation"),
        (("UpsampleBilinear2DBackward0",), "resizing"),
        (("aten::_log_softmax",), "classes and losses"),
        (("aten::mul",), REST),
        (("aten::add_",), REST),
    ],
)
def test_kinds_of_operations(names, kind):
    assert kind_of(names) == kind


def small_config(folder: Path) -> Path:
    """The toy city's config with the smallest encoders."""
    encoder, channels = {"type": TEST_ENCODER, "_delete_": True}, {"in_channels": TEST_CHANNELS}
    head = {**channels, "channels": 16, "decoder_params": {"embed_dims": 16}}
    model = dict(backbone_image=encoder, backbone_events=encoder, fusion_module=channels, decode_head=head)
    path = folder / "small.py"
    path.write_text(f"_base_ = [{str(ROOT / 'configs' / 'demo' / 'cmda_toy_city.py')!r}]\nmodel = {model!r}\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("work", [pytest.param("step", marks=pytest.mark.exhaustive), "inference"])
def test_roofline(work, monkeypatch, tmp_path):
    monkeypatch.setitem(roofline.MATRIX_SIDE, "cpu", 256)
    monkeypatch.setitem(roofline.COPIED, "cpu", 2**20)
    path = tmp_path / "x.json"
    words = f"--work {work} --precision fp32 bf16 --size 64 --batch 1 --repetitions 1 --device cpu --json {path}"
    monkeypatch.setattr(sys, "argv", ["roofline.py", str(small_config(tmp_path)), *words.split()])
    roofline.main()
    rows = json.loads(path.read_text())["rows"]
    assert [row["precision"] for row in rows] == ["fp32", "bf16"]
    for row in rows:
        kinds = row["kinds"]
        assert kinds["convolutions"]["tflop"] > 0 < kinds["attention"]["tflop"]
        assert all(kind["floor_s"] >= 0 <= kind["seconds"] for kind in kinds.values())
        assert kinds["resizing"]["gigabytes"] > 0
        assert ("optimiser and teacher" in kinds) == (work == "step")
        assert row["seconds"] > 0
        assert row["peak_gib"] is None
    # 16 bits move fewer bytes in matrix products, and multiply as often
    fp32, bf16 = (row["kinds"]["matrix products"] for row in rows)
    assert bf16["tflop"] == fp32["tflop"]
    assert bf16["gigabytes"] < fp32["gigabytes"]


def test_work_of_a_step():
    """16 bits multiply as often and move less; optimiser and teacher stay in 32."""
    config = ROOT / "configs" / "demo" / "cmda_mic_toy_city.py"
    fp32, bf16 = (flops.count(config, precision) for precision in ("fp32", "bf16"))
    assert fp32.keys() == bf16.keys()
    for name, work in fp32.items():
        assert bf16[name].flop == work.flop
        assert 0.4 < bf16[name].bytes / work.bytes <= 1
    assert "Image Motion-Extractor" not in fp32
    source, mixed, masked = (fp32[f"student, {name} (forward and backward)"] for name in ("source", "mixed", "masked"))
    assert source == mixed == masked
    parts = [work for name, work in fp32.items() if name not in ("training step", "inference")]
    assert fp32["training step"].flop == sum(work.flop for work in parts)


def report_of_the_cpu(folder: Path, *parts: str) -> dict:
    """Report of a CPU at a tiny size, whose parts are all there."""
    done = run("benchmarks/gpu_report.py", "--device", "cpu", "--tiny", "--out", folder, "--parts", *parts)
    (path,) = folder.glob("*.json")
    report = json.loads(path.read_text())
    assert report["left_out"] == []
    assert list(report["parts"]) == list(parts)
    assert path.with_suffix(".md").read_text() in done.stdout
    return report


@pytest.mark.slow
def test_the_report_of_a_device(tmp_path):
    """The parts that a CPU has and that need no data."""
    report = report_of_the_cpu(tmp_path, "step", "small card", "inference")
    assert [row["precision"] for row in report["parts"]["step"]] == ["fp32", "bf16"]


@pytest.mark.exhaustive
def test_the_report_of_a_training(tmp_path):
    """It renders a toy city first."""
    assert report_of_the_cpu(tmp_path, "training")["parts"]["training"][0]["time"] > 0


def test_a_part_of_the_report_that_fails(tmp_path):
    report = gpu_report.Report({"device": "none"}, 100)
    report.part("a", "", lambda: 1 / 0)
    report.part("b", "row", lambda: {"x": 1.0})
    report.part("c", "", lambda: {"x": 1.0}, least=1000)
    assert report.parts == {"b": [{"x": 1.0}]}
    assert report.left_out == ["a: ZeroDivisionError: division by zero", "c: no time was left"]


def test_images_part_of_the_day_network(tmp_path):
    """The start of the self-training on images only fits its config, and holds the weights of the fused network."""
    from mmseg.config.load import effective, load_config
    from mmseg.engine.checkpoint import load_segmentor, segmentor_weights
    from mmseg.uda.segmentors import build_segmentor

    demo, out = ROOT / "configs" / "demo", tmp_path / "images.pth"
    toy_day_network.image_part(demo / "toy_day.pth", out)
    config = effective(load_config(demo / "image_only_toy_city.py", {"model.pretrained": None}))
    part = load_segmentor(build_segmentor(config["model"]), out).state_dict
    whole = segmentor_weights(demo / "toy_day.pth").state_dict
    for ours, theirs in (("backbone.", "backbone_image."), ("decode_head.conv_seg", "decode_head.conv_seg")):
        names = [name for name in part if name.startswith(ours)]
        assert names
        assert all(part[name].equal(whole[name.replace(ours, theirs)]) for name in names)


def test_edges_next_to_strong_values(monkeypatch):
    """Events show the whole edge in the dark, the content map none of it, but noise inside the objects."""
    label = np.zeros((8, 12), np.uint8)
    label[:, 6:], label[7] = 1, 255
    grey = np.full(label.shape, 20, np.uint8)
    events, content = np.zeros(label.shape, np.float32), np.zeros(label.shape, np.float32)
    events[:, 8], content[0, 0], content[0, 1] = 0.5, 0.5, 0.2
    monkeypatch.setattr(toy_edges, "frames", lambda city: iter([(label, grey, events, content)]))
    found = toy_edges.count(None, 0.3)
    assert found["dark", "edges", "all"] == found["dark", "edges", "events"] == 7
    assert (found["dark", "edges", "content map"], found["dark", "inside", "content map"]) == (0, 1)
    assert found["all", "inside", "all"] == 7 * (12 - 5)
    assert not any(found["glare", "edges", name] for name in ("all", *toy_edges.INPUTS))
