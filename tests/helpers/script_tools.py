"""Running the scripts as users do, on the golden mini trees."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from helpers.golden_tools import GOLDEN, fill
from helpers.process_tools import QUIET, ROOT, server
from mmseg.models.resnet_generator import ResnetGenerator

PUBLISHED = "configs/fusion/cs2dsec_image+events_together_b5.py"
# The published config at a size that a test can bear.
SMALL = {
    "model.pretrained": "none",
    "model.backbone_image.type": "mit_b0",
    "model.backbone_events.type": "mit_b0",
    "model.fusion_module.in_channels": "[32,64,160,256]",
    "model.decode_head.in_channels": "[32,64,160,256]",
    "model.decode_head.channels": 32,
    "model.decode_head.decoder_params.embed_dims": 32,
    "data.train.source.image_crop_size": "(64,64)",
    "data.train.target.after_crop_resize_size": "(64,64)",
    "data.train.rare_class_sampling.min_pixels": 300,
    "data.train.rare_class_sampling.min_crop_ratio": 0.1,
    "data.workers_per_gpu": 1,
    "runner.max_iters": 4,
    "lr_config.warmup_iters": 2,
    "log_config.interval": 2,
    "evaluation.interval": 2,
    "checkpoint_config.interval": 2,
    "checkpoint_config.max_keep_ckpts": 2,
    "uda.debug_img_interval": 2,
}


def run(
    script: str, *arguments: object, cwd: Path | None = None, expect: int = 0, **environment: str
) -> subprocess.CompletedProcess:
    """Run a script in a process of its own, which need not import torch again, see :mod:`process_server`."""
    folder = Path(tempfile.mkdtemp())
    try:
        started = server().start(folder, script, *arguments, cwd=cwd or ROOT, **{**os.environ, **QUIET, **environment})
        status = started.wait(600)
        result = subprocess.CompletedProcess([script, *arguments], status, started.stdout, started.stderr)
        server().started.remove(started)
    finally:
        shutil.rmtree(folder)
    assert status == expect, result.stdout + result.stderr
    return result


def options(**changes: object) -> list[str]:
    return [f"{key}={value}" for key, value in {**SMALL, **changes}.items()]


def make_project(folder: Path) -> Path:
    """Fill a folder with data/, lists, statistics and generator weights, made by the scripts."""
    (folder / "data").mkdir()
    for name in ("cityscapes", "DSEC_Night"):
        shutil.copytree(GOLDEN / "mini" / name, folder / "data" / name)
    for name in ("sample_class_stats.json", "samples_with_class.json"):
        (folder / "data" / "cityscapes" / name).unlink()
    run("create_dsec_dataset_txt.py", "--root_dir", folder / "data" / "DSEC_Night", cwd=folder)
    run("tools/convert_datasets/cityscapes.py", "data/cityscapes", "--nproc", 2, cwd=folder)
    (folder / "pretrained").mkdir()
    torch.save(fill(ResnetGenerator()).state_dict(), folder / "pretrained" / "cityscapes_ICD_to_dsec_EN.pth")
    return folder
