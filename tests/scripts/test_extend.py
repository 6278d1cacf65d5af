"""``examples/extend`` from a folder outside of the project, as a user runs it: train, test, infer, export."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers.golden_tools import GOLDEN
from helpers.script_tools import ROOT, run

from mmseg.engine.checkpoint_config import carried_config
from mmseg.errors import ConfigError

pytestmark = pytest.mark.slow

SMALL = {
    "model.decode_head.channels": 32,
    "model.decode_head.decoder_params.embed_dims": 32,
    "data.train.source.image_resize_size": "(256,128)",
    "data.train.source.image_crop_size": "(64,64)",
    "data.train.target.image_resize_size": "(160,90)",
    "data.train.target.image_crop_size": "(64,64)",
    "data.val.image_resize_size": "(160,90)",
    "data.test.image_resize_size": "(160,90)",
    "data.train.rare_class_sampling": "none",
    "data.train.source_json_root": "none",
    "uda.pseudo_weight_ignore_bottom": 0,
    "data.workers_per_gpu": 1,
    "runner.max_iters": 2,
    "lr_config.warmup_iters": 1,
    "log_config.interval": 1,
    "evaluation.interval": 2,
    "checkpoint_config.interval": 2,
}
OPTIONS = ["--cfg-options", *(f"{key}={value}" for key, value in SMALL.items())]
CONSENT = "--allow-custom-imports"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the example, whose config names CMDA by its path, with data in the layout of its data set."""
    folder = tmp_path_factory.mktemp("mine") / "extend"
    shutil.copytree(ROOT / "examples" / "extend", folder, ignore=shutil.ignore_patterns("__pycache__"))
    config = folder / "my_config.py"
    config.write_text(config.read_text().replace("../../configs", str(ROOT / "configs")))
    (folder / "data").mkdir()
    (folder / "data" / "cityscapes").symlink_to(GOLDEN / "mini" / "cityscapes")
    mini = GOLDEN / "mini" / "dark_zurich"
    for kind, suffix, ours in (("rgb_anon", "_rgb_anon.png", "images"), ("gt", "_gt_labelTrainIds.png", "labels")):
        for path in (mini / kind).glob(f"*/night/*/*{suffix}"):
            split, drive = path.relative_to(mini / kind).parts[0], path.parent.name
            new = folder / "data" / "drives" / ours / split / drive / path.name.replace(suffix, ".png")
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, new)
    return folder


def script(name: str, *arguments: object, project: Path, **options):
    return run(name, *arguments, cwd=project, PYTHONPATH=str(project), **options)


@pytest.fixture(scope="module")
def trained(project) -> Path:
    """Work dir of a training of two iterations by the launcher."""
    script("my_run_experiments.py", "--base_config", "my_config.py", "--name", "mine", *OPTIONS, project=project)
    (work_dir,) = (project / "work_dirs" / "local-basic").glob("*_mine_?????")
    return work_dir


def test_trained(trained):
    config = json.loads((trained / f"{trained.name}.json").read_text())
    assert config["custom_imports"] == {"imports": ["my_cmda.components"], "allow_failed_imports": False}
    assert config["data"]["train"]["target"]["type"] == "NightFolder"
    weights = torch.load(trained / "iter_2.pth", weights_only=True)["state_dict"]
    assert "model.fusion_module.gates.0.weight" in weights
    assert "model.backbone_events.stages.3.0.weight" in weights
    records = [json.loads(line) for line in (trained / f"{trained.name}.log.json").read_text().splitlines()]
    (last,) = [r for r in records if r["mode"] == "train" and r["iter"] == 2]
    assert {"decode.ce_fusion", "mix.decode.ce_image"} <= last.keys()
    assert "decode.ce_events" not in last
    with pytest.raises(ConfigError, match=r"custom_imports of my_cmda.components"):
        carried_config(trained / "iter_2.pth")


def test_a_test_needs_consent(project, trained):
    refused = script("my_test.py", "--work-dir", trained, project=project, expect=2)
    assert "custom_imports of my_cmda.components, which would run code" in refused.stderr
    assert CONSENT in refused.stderr
    script("my_test.py", "--work-dir", trained, CONSENT, project=project)
    scores = json.loads((trained / "preds" / "metrics.json").read_text())["scores"]
    assert 0 <= scores["mIoU"] <= 1


def test_the_config_of_the_checkpoint(project, trained):
    arguments = (trained / "iter_2.pth", "--out", project / "tested", "--output", "fusion", "--no-panels")
    refused = script("tools/test.py", *arguments, project=project, expect=2)
    assert CONSENT in refused.stderr
    script("tools/test.py", *arguments, CONSENT, project=project)


def test_a_training_from_the_config_of_the_work_dir(project, trained):
    config = trained / f"{trained.name}.json"
    refused = script("tools/train.py", config, "--work-dir", project / "again", project=project, expect=2)
    assert CONSENT in refused.stderr
    script("tools/train.py", config, "--work-dir", project / "again", CONSENT, project=project)


def test_inference_and_export(project, trained):
    images = project / "data" / "drives" / "images" / "val" / "GOPR0356"
    script("tools/infer.py", "--work-dir", trained, images, "--out", project / "seen", CONSENT, project=project)
    assert list((project / "seen").rglob("*.png"))
    out = project / "exported"
    script("tools/export.py", "--work-dir", trained, "--out", out, "--size", "64x96", CONSENT, project=project)
    described = json.loads(next(out.glob("*.json")).read_text())
    assert [one["name"] for one in described["inputs"]] == ["image"]


def test_two_runs_side_by_side(project):
    """Processes of the launcher import the same modules without being asked."""
    script(
        *("my_run_experiments.py", "--base_config", "my_config.py", "--name", "seeds", "--seeds", "0,1"),
        *OPTIONS,
        project=project,
    )
    assert len(list((project / "work_dirs" / "local-basic").glob("*_seeds*/iter_2.pth"))) == 2


def test_without_the_package(project):
    """One message that names the module, the folders, and the remedy."""
    refused = run("tools/train.py", "my_config.py", cwd=project, expect=2, PYTHONPATH=os.devnull)
    (line,) = [line for line in refused.stderr.splitlines() if "my_cmda" in line]
    assert "PYTHONPATH" in line
    assert "pip install -e" in line
