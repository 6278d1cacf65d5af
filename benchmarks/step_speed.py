"""Time and memory of a training step on this CPU, compared with the plain implementation in ``plain_step.py``.

Both are first run at a small size, where losses and gradients must agree. Then they run alternately in separate
processes, so that a busy machine slows both and each has its own memory peak.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import CMDAError, run_as_script

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "fusion" / "cs2dsec_image+events_together_b5.py"
FORMS = ("plain", "ours")
# Peak memory of the reference's step in MiB, MiT-b5, 512x512, batch 1, on a CPU.
REFERENCE_PEAK = 16434
SMALL = {
    "model.backbone_image.type": "mit_b0",
    "model.backbone_events.type": "mit_b0",
    "model.fusion_module.in_channels": [32, 64, 160, 256],
    "model.decode_head.in_channels": [32, 64, 160, 256],
    "model.decode_head.channels": 32,
    "model.decode_head.decoder_params.embed_dims": 32,
}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description=__doc__,
        epilog="example: python benchmarks/step_speed.py --encoder mit_b0 --size 128",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--encoder", default="mit_b5", help="encoder, mit_b0 to mit_b5 (default: %(default)s)")
    parser.add_argument(
        "--size", type=whole_number(32), default=512, help="side of the square crops (default: %(default)s)"
    )
    parser.add_argument("--batch", type=whole_number(1), default=1, help="batch size (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=whole_number(1), default=2, help="processes per implementation (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=whole_number(1), default=1, help="timed steps per process (default: %(default)s)"
    )
    parser.add_argument("--checkpointing", action="store_true", help="also measure ours with gradient checkpointing")
    parser.add_argument("--form", choices=(*FORMS, "checkpointing"), help=argparse.SUPPRESS)
    return parser.parse_args()


def build(form: str, options: dict[str, Any]) -> Any:
    """Training method and optimiser of the published config, for one implementation."""
    import torch

    from mmseg.config import fields
    from mmseg.config.load import effective, load_config
    from mmseg.config.run import Numerics, Optimizer
    from mmseg.engine.environment import keep_freed_memory
    from mmseg.engine.numerics import set_numerics
    from mmseg.engine.optim import build_optimizer
    from mmseg.registry import UDA
    from mmseg.uda.segmentors import build_segmentor

    fixed = {"model.pretrained": None, "model.fusion_isr_module": None, "uda.cyclegan_itrd2en_path": ""}
    cfg = effective(load_config(CONFIG, {**fixed, **options}))
    if form != "plain":
        keep_freed_memory()
    torch.manual_seed(0)
    method = UDA.build({**cfg["uda"], "model": build_segmentor(cfg["model"])})
    set_numerics(method, Numerics(gradient_checkpointing=form == "checkpointing"), torch.device("cpu"))
    optimizer = build_optimizer(method.model, fields.build(Optimizer, cfg["optimizer"]), foreach=form != "plain")
    return method, optimizer


def random_batch(batch: int, side: int) -> dict[str, dict[str, Any]]:
    """Source and target samples of the published sizes."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def noise() -> torch.Tensor:
        return torch.rand((batch, 3, side, side), generator=generator) * 2 - 1

    label = torch.randint(0, 19, (batch, 1, side // 16, side // 16), generator=generator)
    source = {key: noise() for key in ("image", "img_time_res", "img_self_res")}
    target = {key: noise() for key in ("warp_image", "events_vg", "warp_img_self_res")}
    return {"source": {**source, "label": label.repeat_interleave(16, 2).repeat_interleave(16, 3)}, "target": target}


def steps(form: str, method: Any, optimizer: Any, batch: dict, count: int) -> tuple[list[float], dict[str, float]]:
    """Duration of every step in seconds, and the losses of the first."""
    import torch
    from plain_step import in_plain_form

    from mmseg.uda.draws import StepDraws

    seconds, logs = [], {}
    size = len(batch["source"]["image"])
    with ExitStack() as stack:
        for part in in_plain_form() if form == "plain" else ():
            stack.enter_context(part)
        for iteration in range(count):
            torch.manual_seed(iteration)
            started = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            result = method.train_step(batch, StepDraws.make(method.settings, size, iteration, 1000, 0))
            optimizer.step()
            seconds.append(time.perf_counter() - started)
            logs = logs or {name: value.item() for name, value in result.logs.items()}
    return seconds, logs


def check() -> None:
    """Compare both implementations at a small size.

    Raises:
        CMDAError: losses or gradients differ.
    """
    import torch

    found = {}
    for form in FORMS:
        method, optimizer = build(form, SMALL)
        for module in method.modules():
            if hasattr(module, "drop_prob"):
                module.drop_prob = 0.0
            if isinstance(module, torch.nn.Dropout2d):
                module.p = 0.0
        _, logs = steps(form, method, optimizer, random_batch(2, 64), 1)
        found[form] = logs, [p.grad for p in method.model.parameters()]
    (plain_logs, plain_gradients), (logs, gradients) = (found[form] for form in FORMS)
    for name, value in plain_logs.items():
        if abs(logs[name] - value) > 1e-4 * max(1, abs(value)):
            raise CMDAError(f"{name} is {value} in the plain implementation, {logs[name]} in ours")
    apart = sum((a - b).square().sum() for a, b in zip(plain_gradients, gradients, strict=True)).sqrt()
    whole = sum(a.square().sum() for a in plain_gradients).sqrt()
    if apart > 1e-3 * whole:
        raise CMDAError(f"the gradients differ by {apart / whole:.1e} of their norm")


def measure_here(args: argparse.Namespace) -> None:
    """Run one implementation in this process and print time and memory as JSON."""
    channels = [32, 64, 160, 256] if args.encoder == "mit_b0" else [64, 128, 320, 512]
    options = {
        "model.backbone_image.type": args.encoder,
        "model.backbone_events.type": args.encoder,
        "model.fusion_module.in_channels": channels,
        "model.decode_head.in_channels": channels,
    }
    method, optimizer = build(args.form, options)
    seconds, _ = steps(args.form, method, optimizer, random_batch(args.batch, args.size), args.steps + 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # The first step also creates the optimiser state.
    print(json.dumps({"seconds": seconds[1:], "peak": peak}))


def main() -> None:
    """Check, measure alternately, print."""
    args = parse_args()
    if args.form:
        measure_here(args)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    check()
    console.print("losses and gradients agree; measuring", highlight=False)
    forms = [*FORMS, *(["checkpointing"] if args.checkpointing else [])]
    found: dict[str, list[dict]] = {form: [] for form in forms}
    for _ in range(args.rounds):
        for form in forms:
            words = [f"--{name}={getattr(args, name)}" for name in ("encoder", "size", "batch", "steps")]
            command = [sys.executable, str(Path(__file__).resolve()), f"--form={form}", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise CMDAError(
                    f"the {form} implementation failed with exit status {done.returncode}: {done.stderr[-500:]}"
                )
            found[form].append(json.loads(done.stdout.splitlines()[-1]))
    table = Table(title=f"training step, {args.encoder}, {args.size}x{args.size}, batch {args.batch}, fp32, CPU")
    for column in ("form", "s, best", "s, median", "/ plain", "peak MiB", "/ reference"):
        table.add_column(column, justify="left" if column == "form" else "right")
    base = min(s for run in found["plain"] for s in run["seconds"])
    for form, runs in found.items():
        seconds = [s for run in runs for s in run["seconds"]]
        peak = max(run["peak"] for run in runs)
        cells = [f"{min(seconds):.2f}", f"{statistics.median(seconds):.2f}", f"{min(seconds) / base:.2f}"]
        table.add_row(form, *cells, f"{peak:.0f}", f"{peak / REFERENCE_PEAK:.2f}")
    console.print(table)
    from data_speed import machine

    console.print(machine(), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_as_script(main)
