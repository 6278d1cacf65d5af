"""Files of networks with random weights, and frame lists to test them on."""

from pathlib import Path

import torch

from helpers.golden_tools import GOLDEN
from mmseg.config.load import dump_config, load_config
from mmseg.uda.segmentors import build_segmentor

ROOT = Path(__file__).resolve().parents[2]


def make_network(folder: Path, name: str, **changes) -> dict[str, Path]:
    """Config and checkpoint of a demo network with random weights, whose labels vary within an image."""
    config = load_config(ROOT / "configs" / "demo" / f"{name}.py", {"model.pretrained": None, **changes})
    torch.manual_seed(0)
    states = {}
    for prefix in ("model", "ema_model"):
        segmentor = build_segmentor(config.model.to_dict())
        torch.nn.init.normal_(segmentor.decode_head.conv_seg.weight, std=2)
        states |= {f"{prefix}.{key}": value for key, value in segmentor.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{folder.name}.json").write_text(dump_config(config))
    torch.save({"state_dict": states}, folder / "iter_1.pth")
    return {"config": folder / f"{folder.name}.json", "checkpoint": folder / "iter_1.pth"}


def write_list(path: Path, *numbers: str) -> None:
    """Frame list of some test frames of the sequence."""
    lines = (GOLDEN / "c10_dsec_txt" / "night_test_dataset_warp.txt").read_text().splitlines()
    path.write_text("\n".join(line for line in lines if "09_a" in line and any(n in line for n in numbers)))
