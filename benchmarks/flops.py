"""Count operations and bytes of a training step and of an inference, without computing them.

The networks run forward and backward on tensors without storage. For matrix products, convolutions and attention,
operations are counted (two per multiply-add); for every operation, the bytes that it reads and writes. A compiler that
fuses operations moves fewer bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser
from mmseg.errors import run_as_script

if TYPE_CHECKING:
    import torch
    from operations import Work

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "fusion" / "cs2dsec_image+events_together_b5.py"
TEST_SIZE = (440, 640)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description=__doc__,
        epilog="example: python benchmarks/flops.py configs/ablations/cs2dsec_no_share_decoder.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", nargs="?", default=str(CONFIG), help="config of a variant (default: %(default)s)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="number format of the networks (default: %(default)s)",
    )
    return parser.parse_args()


def count(config: str | Path, precision: str) -> dict[str, Work]:
    """Work of the parts of a step, of the whole ``training step``, and of the ``inference`` of one frame."""
    import torch
    from operations import Work, WorkCounter
    from torch._subclasses.fake_tensor import FakeTensorMode

    from mmseg.config.load import effective, load_config
    from mmseg.config.uda import UDASettings
    from mmseg.models.backbones.mit import _keep_shares
    from mmseg.models.low_precision import PRECISIONS
    from mmseg.models.resnet_generator import ResnetGenerator
    from mmseg.uda.segmentors import build_segmentor
    from mmseg.uda.streams import stream_plan, variant_of_settings

    cfg = effective(load_config(config, {"model.pretrained": None}))
    settings = UDASettings(**cfg["uda"])
    plan = stream_plan(settings)
    output = "fusion" if variant_of_settings(settings).is_fused else "image"
    batch, side = cfg["data"]["samples_per_gpu"], cfg["data"]["train"]["source"]["image_crop_size"][0]
    passes = plan.passes(True)
    dtype = PRECISIONS[precision]
    networks_precision = torch.autocast("cpu", dtype, enabled=dtype is not None)

    def inputs(streams: dict, count: int, *size: int) -> dict[str, torch.Tensor]:
        return {slot: torch.empty(count, 3, *size) for slot in streams}

    def counted(work: Callable[[], object]) -> Work:
        with WorkCounter() as counter:
            work()
        return counter.total

    def student() -> None:
        with networks_precision:
            output = model(inputs(passes.student_streams, batch, side, side), passes.student_fusion)
        # As in the losses, the logits of every output are read once.
        sum(logits.sum() for logits in output.logits.values()).backward()

    @torch.no_grad()
    def teacher() -> None:
        with networks_precision:
            model(inputs(passes.teacher_streams, batch, side, side), passes.teacher_fusion)

    @torch.no_grad()
    def translation() -> None:
        generator(torch.empty(batch, 1, side, side))

    @torch.no_grad()
    def imagenet_features() -> None:
        with networks_precision:
            model.image_encoder(torch.empty(batch, 3, side, side))

    @torch.no_grad()
    def inference() -> None:
        with networks_precision:
            model.eval().output_logits(inputs(dict.fromkeys(model.required_streams(output)), 1, *TEST_SIZE), output)

    with ExitStack() as stack:
        # Constants cached for real tensors must not mix with those for tensors without storage.
        _keep_shares.cache_clear()
        stack.callback(_keep_shares.cache_clear)
        stack.enter_context(FakeTensorMode())
        model, generator = build_segmentor(cfg["model"]).train(), ResnetGenerator()
        student_pass = counted(student)
        parts = {
            "student, source (forward and backward)": student_pass,
            "student, mixed (forward and backward)": student_pass,
            "teacher": counted(teacher),
        }
        if settings.masked_pass:
            parts["student, masked (forward and backward)"] = student_pass
        if plan.translated in plan.source_keys and settings.cyclegan_itrd2en_path:
            parts["Image Motion-Extractor"] = counted(translation)
        if settings.imnet_feature_dist_lambda > 0:
            parts["ImageNet encoder"] = counted(imagenet_features)
        # AdamW reads weight, gradient and two moments and writes three of them; the average reads two and writes one.
        weights = sum(p.numel() for p in model.parameters())
        parts["AdamW and the teacher's average"] = Work(bytes=10.0 * 4 * weights)
        return {**parts, "training step": sum(parts.values(), Work()), "inference": counted(inference)}


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from rich.console import Console

    from mmseg.system.printing import TextTable

    table = TextTable(title=f"{Path(args.config).name}, {args.precision}")
    table.add_column("part")
    for column in ("TFLOP", "GB"):
        table.add_column(column, justify="right")
    for name, work in count(args.config, args.precision).items():
        if name == "training step":
            table.add_section()
        shown = f"inference, {TEST_SIZE[0]}x{TEST_SIZE[1]}, one frame" if name == "inference" else name
        table.add_row(shown, f"{work.flop / 1e12:.2f}", f"{work.bytes / 1e9:.1f}")
    Console().print(table)


if __name__ == "__main__":
    run_as_script(main)
