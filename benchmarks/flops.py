"""Operations and bytes of a training step and of an inference, counted without computing them.

The networks run on tensors without storage, there and back. Of matrix products, convolutions and attention the
operations are counted (two a multiply-add), of everything the bytes that it reads and writes, each operation by itself:
what a compiler joins moves fewer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser
from mmseg.errors import run_as_script

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "fusion" / "cs2dsec_image+events_together_b5.py"
TEST_SIZE = (440, 640)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description=__doc__,
        epilog="example: python benchmarks/flops.py configs/ablations/cs2dsec_no_share_decoder.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", nargs="?", default=str(CONFIG), help="config of a DSEC variant (%(default)s)")
    return parser.parse_args()


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    import torch
    from operations import Work, WorkCounter
    from rich.console import Console
    from rich.table import Table

    from mmseg.config import effective, load_config
    from mmseg.models.style_transfer import ResnetGenerator
    from mmseg.registry import SEGMENTORS
    from mmseg.uda.settings import UDASettings
    from mmseg.uda.streams import stream_plan

    cfg = effective(load_config(args.config, {"model.pretrained": None}))
    plan = stream_plan(UDASettings(**{k: v for k, v in cfg["uda"].items() if k != "type"}))
    batch, side = cfg["data"]["samples_per_gpu"], cfg["data"]["train"]["source"]["image_crop_size"][0]
    passes = plan.passes(True)
    with torch.device("meta"):
        model = SEGMENTORS.build(dict(cfg["model"])).train()
        generator = ResnetGenerator()

    def inputs(streams: dict, count: int, *size: int) -> dict[str, torch.Tensor]:
        return {slot: torch.empty(count, 3, *size, device="meta") for slot in streams}

    def counted(work: Callable[[], object]) -> Work:
        with WorkCounter() as counter:
            work()
        return counter.total

    def student() -> None:
        output = model(inputs(passes.student_streams, batch, side, side), passes.student_fusion)
        # summed as losses are: every output's logits are read once
        sum(logits.sum() for logits in output.logits.values()).backward()

    @torch.no_grad()
    def teacher() -> None:
        model(inputs(passes.teacher_streams, batch, side, side), passes.teacher_fusion)

    @torch.no_grad()
    def translated() -> None:
        generator(torch.empty(batch, 1, side, side, device="meta"))

    @torch.no_grad()
    def inference() -> None:
        model.eval().output_logits(inputs({"image": 0, "events": 0}, 1, *TEST_SIZE), "fusion")

    student_pass = counted(student)
    weights = sum(p.numel() for p in model.parameters())
    parts = {
        "student, source (forward and backward)": student_pass,
        "student, mixed (forward and backward)": student_pass,
        "teacher": counted(teacher),
        "Image Motion-Extractor": counted(translated),
        # AdamW reads weight, gradient and two moments and writes three of them; the average reads two, writes one
        "AdamW and the teacher's average": Work(bytes=10.0 * 4 * weights),
    }
    table = Table(title=f"{Path(args.config).name}: batch {batch}, {side}x{side}")
    table.add_column("part")
    for column in ("TFLOP", "GB"):
        table.add_column(column, justify="right")
    for name, work in parts.items():
        table.add_row(name, f"{work.flop / 1e12:.2f}", f"{work.bytes / 1e9:.1f}")
    table.add_section()
    step, frame = sum(parts.values(), Work()), counted(inference)
    table.add_row("training step", f"{step.flop / 1e12:.2f}", f"{step.bytes / 1e9:.1f}")
    name = f"inference, fused, {TEST_SIZE[0]}x{TEST_SIZE[1]}"
    table.add_row(name, f"{frame.flop / 1e12:.3f}", f"{frame.bytes / 1e9:.1f}")
    console = Console()
    console.print(table)
    console.print(f"{weights / 1e6:.1f} M weights", highlight=False)


if __name__ == "__main__":
    run_as_script(main)
