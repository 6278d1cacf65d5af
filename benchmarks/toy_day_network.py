"""Write the start of the toy trainings, ``configs/demo/toy_day.pth``: the student of a checkpoint, in 16 bits.

The checkpoint comes from ``configs/demo/day_toy_city.py``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser
from mmseg.errors import run_as_script


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description=__doc__,
        epilog="example: python benchmarks/toy_day_network.py work_dirs/day/iter_4000.pth toy_day.pth",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint of the training")
    parser.add_argument("out", type=Path, help="file to write, e.g. configs/demo/toy_day.pth")
    return parser.parse_args()


def save_weights(state_dict: dict, out: Path) -> None:
    """Write the weights of a segmentor for ``load_from``, floating-point ones in 16 bits."""
    import torch

    from mmseg.classes import CLASSES
    from mmseg.io.files import atomic_path

    half = {key: value.half() if value.is_floating_point() else value for key, value in state_dict.items()}
    with atomic_path(out) as path:
        torch.save({"state_dict": half, "meta": {"CLASSES": list(CLASSES)}}, path)


def image_part(checkpoint: Path, out: Path) -> None:
    """Write the network of images only that is part of a fused network: the start of DAFormer's self-training."""
    from mmseg.engine.checkpoint import segmentor_weights

    names = {"backbone_image.": "backbone.", "embed_layers_image.": "embed_layers.", "fuse_layer_image.": "fuse_layer."}
    part = {}
    for key, value in segmentor_weights(checkpoint).state_dict.items():
        for name, shorter in names.items():
            if name in key:
                part[key.replace(name, shorter)] = value
        if key.startswith("decode_head.conv_seg."):
            part[key] = value
    save_weights(part, out)


def main() -> None:
    """Convert a checkpoint."""
    args = parse_args()
    from mmseg.engine.checkpoint import segmentor_weights

    save_weights(segmentor_weights(args.checkpoint).state_dict, args.out)
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_as_script(main)
