"""The scripts as users run them, on the golden mini trees: lists, converter, launcher, test."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden_tools import GOLDEN, load_json
from helpers.script_tools import PUBLISHED, ROOT, SMALL_PUBLISHED, make_project, options, run
from PIL import Image

from mmseg.classes import CLASSES
from mmseg.work_dir.log_file import read_log

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Its name has what paths may have."""
    return make_project(tmp_path_factory.mktemp("a folder+with ünusual name"))


@pytest.fixture(scope="module")
def trained(project) -> Path:
    """Work dir of a short training by the launcher."""
    arguments = ("--root_path", f"{project}/", "--base_config", ROOT / PUBLISHED, "--name", "small")
    run("my_run_experiments.py", *arguments, "--cfg-options", *options(), cwd=project)
    (work_dir,) = (project / "work_dirs" / "local-basic").glob("*_small_?????")
    return work_dir


def test_launcher_files(project, trained):
    assert (project / "configs" / "generated" / "local-basic" / f"{trained.name}.json").is_file()
    names = {p.name for p in trained.iterdir()}
    assert {f"{trained.name}.json", f"{trained.name}.log", "environment.json", "iter_2.pth", "iter_4.pth"} <= names
    records = [json.loads(line) for line in (trained / f"{trained.name}.log.json").read_text().splitlines()]
    training = [r for r in records if r["mode"] == "train"]
    assert [r["iter"] for r in training] == [1, 2, 4]
    for record in training:
        for key in ("decode.loss_seg", "mix.decode.loss_seg", "decode.acc_seg", "mix.decode.acc_seg"):
            assert np.isfinite(record[key])
    evaluations = [r for r in records if r["mode"] == "val"]
    assert [r["iter"] for r in evaluations] == [2, 4]
    for record in evaluations:
        assert record["unit"] == "percent"
        metrics = json.loads((trained / "evaluations" / f"iter_{record['iter']}" / "metrics.json").read_text())
        for name, share in metrics["scores"].items():
            assert record[name] == pytest.approx(100 * share, abs=0.01), name
        for name, of in metrics["per_class"].items():
            found, share = record[f"IoU.{name.replace(' ', '_')}"], of["IoU"]
            assert found is None if share is None else found == pytest.approx(100 * share, abs=0.01), name
    assert list((trained / "tensorboard").glob("events.*"))
    assert {p.name for p in (trained / "pictures").iterdir()} == {"iter_000001.png", "iter_000003.png"}
    assert json.loads((trained / "environment.json").read_text())["device"] == "cpu"
    log = (trained / f"{trained.name}.log").read_text()
    assert "no CUDA GPU" in log
    assert "on this CPU the 4 iterations take about" in log


def test_tensorboard_holds_scalars_and_pictures(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(trained / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    assert {"train/decode.loss_seg", "train/lr", "val/mIoU", "val/mIoU_18", "val/IoU.road"} <= set(tags["scalars"])
    logged = [record for record in read_log(trained) if record["mode"] == "val"]
    for name in ("mIoU_18", "IoU.road"):
        shown = [event.value for event in board.Scalars(f"val/{name}")]
        assert shown == pytest.approx([record[name] for record in logged], rel=1e-5)
    assert tags["images"] == ["step"]


def test_checkpoint_content(trained):
    checkpoint = torch.load(trained / "iter_4.pth", weights_only=True)
    assert checkpoint["meta"]["iter"] == 4
    assert checkpoint["meta"]["CLASSES"] == list(CLASSES)
    prefixes = {name.split(".")[0] for name in checkpoint["state_dict"]}
    assert prefixes == {"model", "ema_model", "cyclegan_itrd2en"}


def test_predictions_of_the_last_evaluation(trained):
    folder = trained / "evaluations" / "iter_4"
    predictions = sorted(p for p in folder.glob("*.png"))
    assert len(predictions) == 5
    image = np.array(Image.open(predictions[0]))
    assert image.shape == (440, 640)
    assert image.max() < 19
    assert len(list((folder / "panels").glob("*.png"))) == 5
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["samples"] == 5
    assert 0 <= metrics["scores"]["mIoU_18"] <= 1


def test_my_test_repeats_the_score_of_the_training(project, trained):
    result = run("my_test.py", "--work_dir", trained, cwd=project)
    assert "none missing, none unexpected" in result.stdout
    assert "left out, as a test does not need it: teacher" in result.stdout
    assert "style-transfer generator" in result.stdout
    assert "mean of 18" in result.stdout
    assert "truck (not among the 18)" in result.stdout
    preds = trained / "preds"
    last = trained / "evaluations" / "iter_4"
    name = "zurich_city_09_a_000797.png"
    assert (preds / name).read_bytes() == (last / name).read_bytes()
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (preds, last)]
    assert metrics[0]["scores"] == metrics[1]["scores"]
    assert metrics[0]["checkpoint"].endswith("iter_4.pth")
    assert (preds / "panels" / "zurich_city_09_a_000797.png").is_file()


def test_checkpoint_without_its_config_with_options_beside_other_results(project, trained, tmp_path):
    """The checkpoint carries the config; results with options lie beside those without, and say so."""
    (tmp_path / "alone" / "preds").mkdir(parents=True)
    (tmp_path / "alone" / "preds" / "metrics.json").write_text("{}")
    checkpoint = shutil.copy(trained / "iter_4.pth", tmp_path / "alone")
    option = "data.test.events_clip_range=(0.1,0.1)"
    arguments = ("--root_path", project, "--no_panels", "--cfg-options", option)
    result = run("my_test.py", "--work_dir", tmp_path / "alone", *arguments, cwd=tmp_path)
    assert f"config: that of {checkpoint}, which carries it" in result.stdout
    assert f"frames are read from {project / 'data' / 'DSEC_Night'}\n" in result.stdout
    (folder,) = (tmp_path / "alone").glob("preds_options_*")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["options"] == {"data.test.events_clip_range": [0.1, 0.1]}
    assert metrics["mode"] == "whole"
    assert (tmp_path / "alone" / "preds" / "metrics.json").read_text() == "{}"


def test_work_dir_from_python_with_nothing_but_its_path(project, trained, monkeypatch):
    """As ``mmseg.apis.test_work_dir(path)``: the student and the output of the config."""
    from mmseg.apis import testing

    seen = {}
    monkeypatch.setattr(testing, "test", lambda config, checkpoint, **options: seen.update(options))
    testing.test_work_dir(trained)
    assert seen == {"model": "student", "output": None}
    testing.test_work_dir(trained, model="teacher", output="image")
    assert seen == {"model": "teacher", "output": "image"}


def test_teacher_and_other_outputs(project, trained):
    arguments = (trained / f"{trained.name}.json", trained / "iter_4.pth", "--no_panels")
    run("tools/test.py", *arguments, "--model", "teacher", "--output", "image", "--out-dir", "teacher", cwd=project)
    metrics = json.loads((project / "teacher" / "metrics.json").read_text())
    assert metrics["output"] == "image"
    assert not (project / "teacher" / "panels").exists()
    result = run("tools/test.py", *arguments, "--output", "fusion_all", "--out-dir", "x", cwd=project, expect=2)
    assert "needs model.fusion_isr_module" in result.stderr


def test_resumed_training_equals_one_run(project, trained):
    """Weights after 2 + 2 iterations are those of 4: student, teacher and generator."""
    config = load_json_file(trained / f"{trained.name}.json")
    config |= {"resume_from": str(trained / "iter_2.pth"), "name": "resumed"}
    path = project / "resumed.json"
    path.write_text(json.dumps(config))
    run("tools/train.py", path, "--work-dir", "resumed", "--cfg-options", "evaluation.interval=0", cwd=project)
    states = [
        torch.load(folder / "iter_4.pth", weights_only=True)["state_dict"] for folder in (trained, project / "resumed")
    ]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_cached_training_equals_an_uncached_one(project, trained):
    config = trained / f"{trained.name}.json"
    by_two = run("tools/cache_events.py", config, "--sections", "train.source", "--nproc", 2, cwd=project).stdout
    made = run("tools/cache_events.py", config, "--nproc", 1, cwd=project).stdout
    again = run("tools/cache_events.py", config, "--nproc", 1, cwd=project).stdout
    assert by_two.count("(written)") == 1
    assert made.count("(written)") == 2  # val and test share theirs
    assert again.count("(kept)") == 4
    words = made.splitlines()[-1].removeprefix("train with ").split()
    assert len(words) == 5
    run("tools/train.py", config, "--work-dir", "cached", *words, "evaluation.interval=4", cwd=project)
    plain, cached = (torch.load(f / "iter_4.pth", weights_only=True) for f in (trained, project / "cached"))
    for name, tensor in plain["state_dict"].items():
        assert torch.equal(tensor, cached["state_dict"][name]), name
    result = run(
        "tools/train.py", config, *words, "data.train.source.image_resize_size=(512,256)", cwd=project, expect=2
    )
    assert "data.train.source.cache='data/cache/cityscapes_train_1024x512' is stale" in result.stderr


def test_torchrun_trains_one_run(project, tmp_path):
    """Both processes train, the first writes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(ROOT / "my_run_experiments.py"), "--launcher", "pytorch", "--root_path", f"{project}/"]
    command += ["--base_config", str(ROOT / PUBLISHED), "--name", "two", "--cfg-options"]
    command += options(SMALL_PUBLISHED, **{"runner.max_iters": 2, "data.samples_per_gpu": 1, "evaluation.interval": 0})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    (work_dir,) = (tmp_path / "work_dirs" / "local-basic").iterdir()
    assert json.loads((work_dir / "environment.json").read_text())["processes"] == 2
    assert (work_dir / "iter_2.pth").is_file()
    assert result.stdout.count("INFO wrote ") == 1


def test_nothing_left_to_train(project, trained):
    changes = ("--cfg-options", f"resume_from={trained / 'iter_4.pth'}")
    result = run("tools/train.py", trained / f"{trained.name}.json", *changes, "--work-dir", "r", cwd=project, expect=2)
    assert "is of iteration 4, and runner.max_iters is 4: nothing is left to train" in result.stderr
    assert "nothing is left to train" in (project / "r" / "r.log").read_text()


def load_json_file(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def published_folder(project) -> Path:
    """A checkpoint folder as the authors publish it: foreign paths, golden names and shapes, MiT-B5."""
    name = "230101_1200_cs2dsec_image+events_together_b5_0a1b2"
    folder = project / f"{name}[60.05]"
    folder.mkdir()
    shutil.copy(GOLDEN / "configs" / "work_dir_cs2dsec.json", folder / f"{name}.json")
    # Names and shapes are what counts: all tensors are parts of one, so that the file stays small.
    shapes = {k: s for k, s in load_json("c01_DACS_cs2dsec_b5.json.gz") if ".fusion_isr_module." not in k}
    numbers = torch.full((max(map(math.prod, shapes.values())),), 0.01)
    state = {key: numbers[: math.prod(shape)].view(shape) for key, shape in shapes.items()}
    state |= {key: torch.tensor(40000) for key in shapes if key.endswith("num_batches_tracked")}
    torch.save({"meta": {"iter": 40000}, "state_dict": state}, folder / "iter_40000.pth")
    lines = (project / "night_test_dataset_warp.txt").read_text().splitlines()
    (project / "published_root").mkdir()
    # as the authors' lists do, it names a place of its own
    (project / "published_root" / "night_test_dataset_warp.txt").write_text(f"{project}/{lines[0]}\n")
    return folder


def test_published_folder(project, published_folder):
    result = run(
        "my_test.py", "--work_dir", published_folder, "--root_path", project / "published_root", cwd=project.parent
    )
    student = sum(
        k.startswith("model.") and ".fusion_isr_module." not in k for k, _ in load_json("c01_DACS_cs2dsec_b5.json.gz")
    )
    assert f"{student} weights of the student loaded, none missing, none unexpected" in result.stdout
    assert f"teacher ({student} weights)" in result.stdout
    assert "style-transfer generator (48 weights)" in result.stdout
    assert (published_folder / "preds" / "metrics.json").is_file()


def test_published_folder_names_a_missing_list_with_the_remedy(published_folder, tmp_path):
    result = run("my_test.py", "--work_dir", published_folder, cwd=tmp_path, expect=2)
    assert "night_test_dataset_warp.txt does not exist" in result.stderr
    assert "--root-path" in result.stderr
    assert "Traceback" not in result.stderr


def test_checkpoint_of_another_model_is_refused(project, trained):
    arguments = (trained / f"{trained.name}.json", trained / "iter_4.pth")
    changed = ("--cfg-options", "model.fusion_module.type=AttentionFusion")
    result = run("tools/test.py", *arguments, *changed, cwd=project, expect=2)
    assert "does not fit the model of the config" in result.stderr
    assert "missing: fusion_module.basic_block" in result.stderr or "wrong shape" in result.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.pretrained": "pretrained/mit_b5.pth"},
            "model.pretrained=mit_b5 downloads it, or docs/weights.md says",
        ),
        ({"data.train.target.dataset_txt_path": "none.txt"}, "create it with create_dsec_dataset_txt.py"),
        ({"data.train.source.dataset_path": "nowhere"}, "data.train.source.dataset_path: nowhere does not exist"),
        ({"data.train.rare_class_sampling.min_pixels": 10**6}, "lower data.train.rare_class_sampling.min_pixels"),
        ({"model.backbone_image.type": "mit_b7"}, "is not a backbone"),
        ({"uda.pseudo_treshold": 0.9}, "did you mean 'pseudo_threshold'"),
        ({"data.train.target.outputs": "['warp_image']"}, "data.train.target.outputs lacks events_vg"),
        ({"data.train.source.image_crop_size": "(96,96)"}, "source samples are (96, 96), target samples (64, 64)"),
        ({"data.val.outputs": "['warp_image']"}, "data.val.outputs lacks img_metas"),
        ({"optimizer.type": "AdamX"}, "optimizer.type='AdamX' is not available"),
        ({"lr_config.policy": "step"}, "lr_config.policy='step' is not available"),
        ({"uda.random_choice_thres": "often"}, "uda.random_choice_thres is 'often'"),
        ({"uda.fuse_both_ice_and_e": "true", "model.fusion_isr_module": "none"}, "model.fusion_isr_module.type"),
    ],
)
def test_bad_input_is_one_line(project, changes, message):
    arguments = ("--base_config", ROOT / PUBLISHED, "--name", "bad", "--cfg-options", *options(**changes))
    result = run("my_run_experiments.py", *arguments, cwd=project, expect=2)
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_bad_sample_in_a_worker_is_one_line(project, tmp_path):
    shutil.copytree(project / "data", tmp_path / "data")
    for image in (tmp_path / "data" / "cityscapes" / "leftImg8bit" / "train").glob("*/*.png"):
        image.write_bytes(image.read_bytes()[:2000])
    run("create_dsec_dataset_txt.py", "--root_dir", "data/DSEC_Night", cwd=tmp_path)
    changes = {"uda.cyclegan_itrd2en_path": ""}
    arguments = ("--base_config", ROOT / PUBLISHED, "--name", "bad", "--cfg-options", *options(**changes))
    result = run("my_run_experiments.py", *arguments, cwd=tmp_path, expect=2)
    assert "_leftImg8bit.png is not a readable image" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
