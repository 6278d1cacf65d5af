"""Training of the style-transfer generator: its two domains, losses, exact resume, file, and measure."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN, load_json
from helpers.script_tools import run as run_script
from PIL import Image
from torch import nn

from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.errors import CheckpointError, ConfigError, DataError, Interrupted
from mmseg.models.resnet_generator import ResnetGenerator, load_generator
from mmseg.style_transfer.checkpoint import PUBLISHED_NAME, save_generator
from mmseg.style_transfer.cyclegan import CycleGAN
from mmseg.style_transfer.discriminator import PatchDiscriminator
from mmseg.style_transfer.image_pool import ImagePool, PoolDraw
from mmseg.style_transfer.make_pictures import PictureSettings, make_pictures, open_sources, picture_tasks
from mmseg.style_transfer.measure import StyleStatistics, kept_activity
from mmseg.style_transfer.pictures import MANIFEST, UnpairedPictures, whole_picture
from mmseg.style_transfer.settings import StyleTransferSettings
from mmseg.style_transfer.trainer import StyleTransferTrainer
from mmseg.style_transfer.training import evaluate_generator, train_style_transfer

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = PictureSettings(count=6, held_out=2, width=64, height=48, seed=1)


def run(script: str, *arguments: object, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess:
    return run_script(f"tools/{script}", *arguments, cwd=cwd, expect=expect)


def one_line(result: subprocess.CompletedProcess) -> str:
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A scratch folder with the golden mini trees and a list of frames."""
    folder = tmp_path_factory.mktemp("style")
    (folder / "data").mkdir()
    for name in ("cityscapes", "DSEC_Night"):
        shutil.copytree(GOLDEN / "mini" / name, folder / "data" / name)
    command = [sys.executable, str(ROOT / "create_dsec_dataset_txt.py"), "--root_dir", str(folder / "data/DSEC_Night")]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    # The mini tree has few training frames; the test list has more, and serves as well here.
    lines = [(folder / f"night_{part}dataset_warp.txt").read_text() for part in ("", "test_")]
    (folder / "frames.txt").write_text("".join(lines))
    return folder


def make(project: Path, out: Path, nproc: int = 1, settings: PictureSettings = SETTINGS) -> dict:
    return make_pictures(project / "data" / "cityscapes", project / "frames.txt", out, settings, nproc)


@pytest.fixture(scope="module")
def data(project, tmp_path_factory) -> Path:
    """Pictures of both domains, 64x48."""
    out = tmp_path_factory.mktemp("pictures") / "data"
    make(project, out)
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------------------------------ the two domains


def test_pictures_are_what_a_training_sees(project, tmp_path):
    """Full size: crops of the resized image change, whole event frames, in 8 bits."""
    settings = PictureSettings(count=5, held_out=1, width=640, height=480, seed=0)
    report = make(project, tmp_path / "data", settings=settings)
    change = CityscapesICDataset(
        str(project / "data/cityscapes"), image_crop_size=(640, 480), outputs=("img_time_res",)
    )
    events = DSECDataset(str(project / "frames.txt"), outputs=("events_vg",), crop_size=(480, 640))
    # Each event frame gives one picture of its own size, so there are no more pictures than frames.
    assert report["pictures"]["trainB"] == min(5, len(events) - 1)
    assert report["pictures"]["trainA"] == 5
    sources = open_sources(project / "data/cityscapes", project / "frames.txt", settings)
    for task in picture_tasks(sources, settings, tmp_path / "data"):
        if task.domain == "change":
            expected = change.sample(task.index, task.draw)["img_time_res"][:1]
        else:
            assert (task.draw.x, task.draw.y, task.draw.flip) == (0, 0, False)
            # A test sample is the same grid, cut to the top 440 rows.
            expected = events.sample(task.index, None)["events_vg"][:1]
        picture = whole_picture(task.path)[:, : expected.shape[1]]
        assert picture.shape == expected.shape
        assert (picture - expected).abs().max() <= 1 / 255 + 1e-6
        if task.domain == "change":
            assert torch.equal(picture, expected)
    assert np.array(Image.open(task.path)).dtype == np.uint8


def test_equal_seeds_give_equal_bytes_with_any_number_of_processes(project, data, tmp_path):
    make(project, tmp_path / "again", nproc=2)
    assert files(tmp_path / "again") == files(data)
    other = PictureSettings(**{**SETTINGS.__dict__, "seed": 2})
    make(project, tmp_path / "other", settings=other)
    assert files(tmp_path / "other") != files(data)


def test_interrupted_run_goes_on(project, data, tmp_path, monkeypatch):
    from mmseg.style_transfer import make_pictures as style_transfer_data

    real, written = style_transfer_data._write, []

    def stop_after_three(sources, task):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(task)
        return real(sources, task)

    with monkeypatch.context() as patch:
        patch.setattr(style_transfer_data, "_write", stop_after_three)
        with pytest.raises(KeyboardInterrupt):
            make(project, tmp_path / "data")
    assert not json.loads((tmp_path / "data" / MANIFEST).read_text())["complete"]
    with pytest.raises(DataError, match="is incomplete"):
        UnpairedPictures(tmp_path / "data", 32, 0)
    report = make(project, tmp_path / "data")
    assert report["written"] == sum(report["pictures"].values()) - 3
    assert files(tmp_path / "data") == files(data)
    assert make(project, tmp_path / "data")["written"] == 0


def test_held_out_files_are_not_trained_on(project):
    sources = open_sources(project / "data/cityscapes", project / "frames.txt", SETTINGS)
    used = {}
    for task in picture_tasks(sources, SETTINGS, Path("out")):
        used.setdefault((task.domain, task.path.parent.name[:-1]), set()).add(task.index)
    for domain in ("change", "events"):
        assert not used[domain, "train"] & used[domain, "test"]
        assert min(used[domain, "test"]) > max(used[domain, "train"])


def test_refusals_of_the_data_tool(project, data, tmp_path):
    with pytest.raises(DataError, match=r"made of something else .*seed 1, now 5"):
        make(project, data, settings=PictureSettings(**{**SETTINGS.__dict__, "seed": 5}))
    (tmp_path / "thesis.tex").write_text("dear to someone")
    with pytest.raises(DataError, match="is not empty and holds no"):
        make(project, tmp_path)
    with pytest.raises(ConfigError, match="--size 480x800 does not fit into the resized event frames, 480x640"):
        make(project, tmp_path / "x", settings=PictureSettings(**{**SETTINGS.__dict__, "width": 800, "height": 480}))
    result = run("make_style_transfer_data.py", "x", "--cityscapes", "nowhere", cwd=tmp_path, expect=2)
    assert "nowhere/leftImg8bit/train does not exist" in one_line(result)


def test_pairs_depend_on_their_number_alone(data):
    pictures, again = UnpairedPictures(data, 32, seed=0), UnpairedPictures(data, 32, seed=0)
    assert pictures.describe(3) == f"pair 3 from {data}"
    later = again[7]
    for domain in ("change", "events"):
        assert pictures[7][domain].shape == (1, 32, 32)
        assert torch.equal(pictures[7][domain], later[domain])
        assert pictures[7][domain].abs().max() <= 1
    assert not torch.equal(pictures[8]["change"], later["change"])
    with pytest.raises(ConfigError, match="a crop of 64x64 does not fit"):
        UnpairedPictures(data, 64, seed=0)


# ------------------------------------------------------------------------------------------------ networks and losses


def test_discriminator_sees_70_by_70_pixels():
    discriminator = PatchDiscriminator(width=4)
    norms = [m for m in discriminator.modules() if isinstance(m, nn.InstanceNorm2d)]
    assert len(norms) == 3
    for norm in norms:  # a norm sees the whole picture; what a convolution sees is asked here
        norm.forward = lambda x: x
    picture = torch.zeros(1, 1, 256, 256, requires_grad=True)
    score = discriminator(picture)
    assert score.shape == (1, 1, 30, 30)
    score[0, 0, 15, 15].backward()
    rows = picture.grad[0, 0].abs().sum(1).nonzero().flatten()
    assert rows.max() - rows.min() + 1 == 70
    assert sum(p.numel() for p in PatchDiscriminator().parameters()) == 2_762_689


def test_losses_are_those_of_the_formulas():
    torch.manual_seed(0)
    model = CycleGAN(filters=4, cycle_weight=10.0, identity_weight=0.5)
    change, events = torch.rand(2, 2, 1, 32, 32) * 2 - 1
    losses, fake = model.generator_losses(change, events)
    fake_events, fake_change = model.to_events(change), model.to_change(events)
    expected = {
        "loss_gan_events": ((model.events_discriminator(fake_events) - 1) ** 2).mean(),
        "loss_gan_change": ((model.change_discriminator(fake_change) - 1) ** 2).mean(),
        "loss_cycle_change": 10 * (model.to_change(fake_events) - change).abs().mean(),
        "loss_cycle_events": 10 * (model.to_events(fake_change) - events).abs().mean(),
        "loss_identity_events": 5 * (model.to_events(events) - events).abs().mean(),
        "loss_identity_change": 5 * (model.to_change(change) - change).abs().mean(),
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(losses[name], value, rtol=1e-4), name
    assert torch.allclose(fake["events"], fake_events, atol=1e-5)
    assert not fake["events"].requires_grad
    judged = model.discriminator_losses(change, events, fake["change"], fake["events"])
    real, false = model.events_discriminator(events), model.events_discriminator(fake_events)
    assert torch.allclose(judged["loss_critic_events"], ((real - 1) ** 2).mean() / 2 + (false**2).mean() / 2)


def test_initial_weights():
    model = CycleGAN(filters=16)
    weights = torch.cat([p.flatten() for n, p in model.named_parameters() if n.endswith("weight")])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert all(not p.any() for n, p in model.named_parameters() if n.endswith("bias"))


def test_pool_hands_out_what_it_stored():
    pool, pictures = ImagePool(2), torch.arange(6.0).reshape(6, 1, 1, 1)
    first = pool.exchange(pictures[:2], PoolDraw((True, True), (0, 1)))
    assert torch.equal(first, pictures[:2])
    second = pool.exchange(pictures[2:5], PoolDraw((True, False, True), (1, 0, 1)))
    assert second.flatten().tolist() == [1.0, 3.0, 2.0]
    assert pool.state().flatten().tolist() == [0.0, 4.0]
    copy = ImagePool(2)
    copy.restore(pool.state(), torch.device("cpu"))
    draw = PoolDraw((True,), (1,))
    assert torch.equal(copy.exchange(pictures[5:], draw), pool.exchange(pictures[5:], draw))
    none = ImagePool(0)
    assert torch.equal(none.exchange(pictures, PoolDraw.make(6, 0, 0, 0, 0)), pictures)
    assert none.state() is None


def test_pool_draws_are_keyed():
    draws = [PoolDraw.make(1, 50, 0, iteration, pool) for iteration in range(400) for pool in (0, 1)]
    assert draws[:4] == [PoolDraw.make(1, 50, 0, i, p) for i in (0, 1) for p in (0, 1)]
    assert np.mean([d.swap[0] for d in draws]) == pytest.approx(0.5, abs=0.06)
    assert {d.slot[0] for d in draws} == set(range(50))


def test_rate_is_constant_then_falls_to_zero():
    settings = StyleTransferSettings(iterations=10, constant=6, learning_rate=1.0)
    assert [settings.rate(i) for i in range(10)] == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert StyleTransferSettings(iterations=10, learning_rate=1.0).rate(5) == 1
    with pytest.raises(ConfigError, match="multiple of 4"):
        StyleTransferSettings(crop=50).checked()


# ------------------------------------------------------------------------------------------------ training

OPTIONS = ("--crop", 32, "--filters", 4, "--pool", 3, "--batch", 2, "--workers", 0, "--log-interval", 2)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """Work dir of six iterations in one go, with a small network."""
    work_dir = tmp_path_factory.mktemp("run") / "whole"
    arguments = ("--data", data, "--work-dir", work_dir, "--iterations", 6, *OPTIONS, "--picture-interval", 3)
    run("train_style_transfer.py", *arguments, cwd=work_dir.parent)
    return work_dir


def test_files_of_a_run(trained):
    names = {p.name for p in trained.iterdir()}
    assert {"style_transfer.json", "style_transfer.log", "environment.json", "iter_6.pth"} <= names
    assert PUBLISHED_NAME not in names
    assert "generator_4_filters.pth" in names
    assert {p.name for p in (trained / "pictures").iterdir()} == {"iter_000003.png", "iter_000006.png"}
    records = [json.loads(line) for line in (trained / "style_transfer.log.json").read_text().splitlines()]
    assert [r["iter"] for r in records if r["mode"] == "train"] == [1, 2, 4, 6]
    assert all(np.isfinite(value) for r in records for value in r.values() if not isinstance(value, str))
    assert list((trained / "tensorboard").glob("events.*"))
    result = json.loads((trained / "evaluation.json").read_text())
    assert result["other_events"]["total"] < result["image_change"]["total"]


def test_resumed_training_equals_one_run(data, trained, tmp_path, monkeypatch):
    """Interrupted after four iterations, with loading processes: networks, optimisers and pools of six, bit for bit."""
    from mmseg.style_transfer import training as api

    settings = StyleTransferSettings(**json.loads((trained / "style_transfer.json").read_text()))
    monkeypatch.setattr(api, "choose_device", lambda: torch.device("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        short = StyleTransferSettings(**{**settings.__dict__, "checkpoint_interval": 4})
        with monkeypatch.context() as patch:
            patch.setattr(StyleTransferTrainer, "write_checkpoint", stop_after(StyleTransferTrainer.write_checkpoint))
            with pytest.raises(KeyboardInterrupt):
                api.train_style_transfer(data, tmp_path / "run", short)
        api.train_style_transfer(data, tmp_path / "run", short, resume=True, workers=1)
    finally:
        torch.set_num_threads(threads)
    one, two = (torch.load(folder / "iter_6.pth", weights_only=True) for folder in (trained, tmp_path / "run"))
    compared = [dict(flat({k: c[k] for k in ("state_dict", "optimizer", "pools")})) for c in (one, two)]
    assert compared[0].keys() == compared[1].keys()
    assert sum(isinstance(v, torch.Tensor) for v in compared[0].values()) > 300
    for name, value in compared[0].items():
        same = torch.equal(value, compared[1][name]) if isinstance(value, torch.Tensor) else value == compared[1][name]
        assert same, name
    assert [p.name for p in (tmp_path / "run").glob("iter_*.pth")] == ["iter_6.pth"]


def test_a_signal_saves_and_a_bad_picture_too(data, trained, tmp_path, monkeypatch):
    """Checkpoints come at the end only; what ended the training before says which one it saved."""
    from mmseg.style_transfer import training as api

    settings = StyleTransferSettings(**json.loads((trained / "style_transfer.json").read_text()))
    monkeypatch.setattr(api, "choose_device", lambda: torch.device("cpu"))
    step = StyleTransferTrainer.step

    def told_to_stop(self, batch, iteration):
        if iteration == 1:
            os.kill(os.getpid(), signal.SIGHUP)
        return step(self, batch, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(StyleTransferTrainer, "step", told_to_stop)
        with pytest.raises(
            Interrupted, match=r"after iteration 2; saved .*iter_2\.pth\. Continue with --resume$"
        ) as caught:
            api.train_style_transfer(data, tmp_path / "run", settings)
    assert caught.value.status == 128 + signal.SIGHUP
    read = UnpairedPictures.__getitem__

    def bad(self, number):
        if number // settings.batch == 4:
            raise DataError("a.png is not a readable image; replace it")
        return read(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(UnpairedPictures, "__getitem__", bad)
        with pytest.raises(DataError, match=r"^a\.png is not a .*\. Saved .*iter_4\.pth\. Continue with --resume$"):
            api.train_style_transfer(data, tmp_path / "run", settings, resume=True, workers=1)
    api.train_style_transfer(data, tmp_path / "run", settings, resume=True)
    assert [path.name for path in (tmp_path / "run").glob("iter_*.pth")] == ["iter_6.pth"]


def stop_after(save):
    def saved_and_stopped(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    return saved_and_stopped


def flat(content, name: str = ""):
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    if not items:
        yield name, content
    for key, value in items:
        yield from flat(value, f"{name}.{key}")


@pytest.mark.parametrize(
    ("where", "resume", "changes", "message"),
    [
        ("trained", False, {}, "holds iter_6.pth of an earlier run"),
        ("trained", True, {"seed": 3}, "seed was 0, now 3"),
        ("trained", True, {}, "nothing is left of 6"),
        ("new", True, {}, "no iter_<n>.pth to resume from"),
        ("new", False, {"batch": -1}, "batch is -1; it must not be negative"),
    ],
)
def test_refusals_of_a_training(data, trained, tmp_path, where, resume, changes, message):
    settings = {**json.loads((trained / "style_transfer.json").read_text()), **changes}
    work_dir = trained if where == "trained" else tmp_path
    with pytest.raises((CheckpointError, ConfigError), match=message):
        train_style_transfer(data, work_dir, StyleTransferSettings(**settings), resume)


def test_missing_pictures_are_one_line(tmp_path):
    result = run("train_style_transfer.py", "--data", "nowhere", cwd=tmp_path, expect=2)
    assert "nowhere/trainA holds no *.png; make them with" in one_line(result)


def test_published_file_holds_the_published_size_alone(data, tmp_path):
    path = tmp_path / PUBLISHED_NAME
    with pytest.raises(CheckpointError, match="must hold the generator of 64 filters"):
        save_generator(ResnetGenerator(width=16), path)
    assert not path.exists()
    save_generator(ResnetGenerator(), path)
    weights = torch.load(path, weights_only=True)
    golden = load_json("c01_cyclegan_define_G.json.gz")
    assert [[name, list(tensor.shape)] for name, tensor in weights.items()] == golden
    # Seen as a user: load_generator takes it, and the measure is printed.
    result = run("train_style_transfer.py", "--evaluate", path, "--data", data, cwd=tmp_path)
    assert "before" in result.stdout
    assert "after" in result.stdout


def test_generators_of_any_width_are_read_and_others_are_not(data, tmp_path):
    small = tmp_path / "small.pth"
    save_generator(ResnetGenerator(width=16), small)
    assert load_generator(small)(torch.zeros(1, 1, 16, 16)).shape == (1, 1, 16, 16)
    torch.save({"model.1.weight": torch.zeros(16, 1, 7, 7)}, small)
    with pytest.raises(CheckpointError, match="is not a style-transfer generator of CMDA"):
        evaluate_generator(small, data)


# ------------------------------------------------------------------------------------------------ the measure


def sparse(seed: int, share: float, height: int = 64, width: int = 64) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    signs = np.sign(rng.random((1, height, width)) - 0.5)
    return torch.from_numpy((signs * (rng.random((1, height, width)) < share)).astype(np.float32))


def test_distance_of_a_known_shift():
    """All values moved by 0.5: 0.5 of values and of blocks, no gradient, all active instead of none."""
    still, moved = torch.zeros(1, 64, 64), torch.full((1, 64, 64), 0.5)
    distances = StyleStatistics.of([still]).distances(StyleStatistics.of([moved]))
    expected = {"values": 0.5, "gradients": 0.0, "blocks": 0.5, "activity": 1.0, "total": 2.0}
    assert distances == pytest.approx(expected, abs=0.02)


def test_distance_is_a_metric_of_style():
    real, likewise = (StyleStatistics.of([sparse(s, 0.1) for s in seeds]) for seeds in ((1, 2, 3), (4, 5, 6)))
    denser, smooth = StyleStatistics.of([sparse(7, 0.4)]), StyleStatistics.of([torch.zeros(1, 64, 64)])
    assert real.distances(real)["total"] == 0
    assert real.distances(likewise) == likewise.distances(real)
    assert real.distances(likewise)["total"] < 0.1 * real.distances(denser)["total"]
    assert real.distances(likewise)["total"] < 0.1 * real.distances(smooth)["total"]


def test_kept_activity():
    picture = torch.zeros(1, 64, 64)
    picture[:, :32] = sparse(1, 0.5, 32, 64)
    assert kept_activity(picture, -picture) == pytest.approx(1)
    assert kept_activity(picture, picture.flip(1)) < -0.5
    assert kept_activity(picture, torch.zeros(1, 64, 64)) == 0
