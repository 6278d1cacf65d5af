"""Convert the MiT encoder of another project to pretrained/mit_b*.pth."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from mmseg.apis.arguments import Parser, weight_file
from mmseg.errors import CheckpointError
from mmseg.io.files import atomic_path


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write the encoder of a SegFormer with the parameter names of its authors, as model.pretrained "
        "expects. Reads files of the SegFormer authors, Hugging Face folders (model.safetensors or pytorch_model.bin) "
        "and MMSegmentation 1.x files, for ImageNet or segmentation. Format and encoder are detected.",
        epilog="example: python tools/convert_weights.py downloads/mit-b5",
    )
    parser.add_argument("source", type=weight_file, help="weight file, Hugging Face folder, address or name")
    parser.add_argument("--out", type=Path, help="file to write (default: pretrained/<encoder>.pth)")
    parser.add_argument("--arch", help="accept only this encoder, e.g. mit_b5 (default: any)")
    parser.add_argument("--prefix", help="encoder to take if the file holds several, e.g. model.backbone_image")
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    import torch

    from mmseg.models.backbones.conversion import convert_encoder
    from mmseg.models.backbones.foreign_files import read_weights

    weights, file = read_weights(args.source)
    try:
        encoder = convert_encoder(weights, args.prefix)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    out = args.out or Path("pretrained") / f"{encoder.arch}.pth"
    named = re.search(r"mit_b[0-5]", out.name)
    asked = args.arch or (named[0] if named else encoder.arch)
    if asked != encoder.arch:
        raise CheckpointError(f"{file} holds {encoder.arch}, not {asked}; give another source, --out or --arch")
    if out.exists() and not args.force:
        raise CheckpointError(f"{out} exists; replace it with --force, or give another file with --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(out) as temporary:
            torch.save(encoder.state_dict, temporary)
    except OSError as error:
        raise CheckpointError(
            f"{out} cannot be written ({error.strerror or error}); give another file with --out"
        ) from error
    numbers = sum(tensor.numel() for tensor in encoder.state_dict.values())
    print(f"{file}: {encoder.arch}, layout of {encoder.layout}")
    for name, count in encoder.left_out.items():
        print(f"left out: {name} ({count} tensors)")
    if "decode_head" in encoder.left_out:
        print("note: the file has a decode head, so this encoder was trained for segmentation, not only on ImageNet")
    print(f"{out}: {len(encoder.state_dict)} tensors, {numbers / 1e6:.1f} M parameters")
