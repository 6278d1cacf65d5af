"""Running the scripts as users do, on the golden mini trees."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from helpers.golden_tools import GOLDEN, fill
from helpers.process_tools import QUIET, ROOT, server
from helpers.small_encoder import TEST_CHANNELS, TEST_ENCODER
from mmseg.models.backbones.mit import ARCHITECTURES
from mmseg.models.resnet_generator import ResnetGenerator

PUBLISHED = "configs/fusion/cs2dsec_image+events_together_b5.py"


def with_encoders(name: str, channels: Sequence[int]) -> dict[str, object]:
    """Options for an encoder of both streams."""
    listed = str(list(channels)).replace(" ", "")
    types = {f"model.backbone_{stream}.type": name for stream in ("image", "events")}
    return types | {f"model.{part}.in_channels": listed for part in ("fusion_module", "decode_head")}


# The published config at a size that a test can bear.
SMALL = {
    "model.pretrained": "none",
    **with_encoders(TEST_ENCODER, TEST_CHANNELS),
    "model.decode_head.channels": 16,
    "model.decode_head.decoder_params.embed_dims": 16,
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
# For scripts that start processes, to which the tests' encoder is unknown.
PUBLISHED_ENCODERS = with_encoders("mit_b0", ARCHITECTURES["mit_b0"][1])
SMALL_PUBLISHED = {**SMALL, **PUBLISHED_ENCODERS}


def run(
    script: str, *arguments: object, cwd: Path | None = None, expect: int = 0, **environment: str
) -> subprocess.CompletedProcess:
    """Run a script in a process of its own, which need not import torch again, see :mod:`process_server`."""
    folder = Path(tempfile.mkdtemp())
    try:
        values = {**os.environ, **QUIET, **environment}
        started = server().start(folder, script, *arguments, cwd=cwd or ROOT, quick_end=True, **values)
        status = started.wait(600)
        result = subprocess.CompletedProcess([script, *arguments], status, started.stdout, started.stderr)
        server().started.remove(started)
    finally:
        shutil.rmtree(folder)
    assert status == expect, result.stdout + result.stderr
    return result


def options(small: dict[str, object] = SMALL, **changes: object) -> list[str]:
    return [f"{key}={value}" for key, value in {**small, **changes}.items()]


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
    torch.save(fill(ResnetGenerator(width=8)).state_dict(), folder / "pretrained" / "cityscapes_ICD_to_dsec_EN.pth")
    return folder
