"""Operations of a training step and of an inference, counted without running them.

The networks are run on tensors without storage, and every matrix product and convolution is counted (two operations a
multiply-add), attention included.
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
    from rich.console import Console
    from rich.table import Table
    from torch.utils.flop_counter import FlopCounterMode

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

    def counted(work: Callable[[], object]) -> float:
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops() / 1e12

    def student() -> None:
        model(inputs(passes.student_streams, batch, side, side), passes.student_fusion)

    def teacher() -> None:
        with torch.no_grad():
            model(inputs(passes.teacher_streams, batch, side, side), passes.teacher_fusion)

    def translated() -> None:
        with torch.no_grad():
            generator(torch.empty(batch, 1, side, side, device="meta"))

    def inference() -> None:
        with torch.no_grad():
            model.eval().output_logits(inputs({"image": 0, "events": 0}, 1, *TEST_SIZE), "fusion")

    # The way back takes two products for each on the way there. (Counted by torch, that of depth-wise convolutions
    # comes out as many times too large as they have channels.)
    student_pass = 3 * counted(student)
    parts = {
        "student, source (forward and backward)": student_pass,
        "student, mixed (forward and backward)": student_pass,
        "teacher": counted(teacher),
        "Image Motion-Extractor": counted(translated),
    }
    weights = sum(p.numel() for p in model.parameters())
    table = Table(title=f"{Path(args.config).name}: batch {batch}, {side}x{side}")
    table.add_column("part")
    table.add_column("TFLOP", justify="right")
    for name, value in parts.items():
        table.add_row(name, f"{value:.2f}")
    table.add_section()
    table.add_row("training step", f"{sum(parts.values()):.2f}")
    table.add_row(f"inference, fused, {TEST_SIZE[0]}x{TEST_SIZE[1]}", f"{counted(inference):.3f}")
    console = Console()
    console.print(table)
    # AdamW reads weight, gradient and two moments and writes three of them; the teacher's mean reads two, writes one.
    console.print(f"{weights / 1e6:.1f} M weights; AdamW and the teacher move {weights * 4 * 10 / 1e9:.1f} GB a step")


if __name__ == "__main__":
    run_as_script(main)
