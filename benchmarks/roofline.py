"""Profile a training step or an inference, and compare it with the lower bound on this device.

First, the limits of the device are measured: large matrix products in each precision, and a large copy. Then the work
of every kind of operation is counted; its lower bound is the longer of the times for arithmetic and for bytes at these
rates. Finally the work is timed, and profiled by kind; operations fused by a compiler count as element by element.
Weights and inputs are random: no files are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser, add_config_options, whole_number
from mmseg.errors import ConfigError, run_as_script

if TYPE_CHECKING:
    import torch
    from rich.table import Table

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "fusion" / "cs2dsec_image+events_together_b5.py"
TEST_SIZE = (440, 640)
# Side of the multiplied matrices, and bytes copied, by type of device
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
COPIED = {"cpu": 2**28, "cuda": 2**30}
WARM_UP = {"cpu": 1, "cuda": 3}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description=__doc__,
        epilog="example: python benchmarks/roofline.py --work step --precision fp32 bf16 --compile",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config", nargs="?", default=str(CONFIG), help="config of a DSEC variant (default: %(default)s)"
    )
    parser.add_argument(
        "--work", choices=("step", "inference"), default="step", help="what to run (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("fp32", "tf32", "bf16", "fp16"),
        default=["fp32"],
        help="number formats; tf32 and fp16 need a GPU (default: fp32)",
    )
    parser.add_argument("--compile", action="store_true", help="also measure compiled networks")
    parser.add_argument(
        "--size", type=whole_number(32), help="side of the square crops (default: the config's; for inference 440x640)"
    )
    parser.add_argument("--batch", type=whole_number(1), help="samples (default: the config's; for inference 1)")
    parser.add_argument(
        "--repetitions", type=whole_number(1), default=3, help="timed runs of each row (default: %(default)s)"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:<number> (default: a GPU if available)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    add_config_options(parser)
    return parser.parse_args()


class Device:
    """A device, its clock and its limits."""

    def __init__(self, place: torch.device) -> None:
        import torch

        self.place = place
        self.torch = torch

    def wait(self) -> None:
        """Wait until all launched work is done."""
        if self.place.type == "cuda":
            self.torch.cuda.synchronize(self.place)

    def seconds(self, work: Callable[[], object]) -> float:
        """Time of one run."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def multiplications(self, dtype: torch.dtype) -> float:
        """FLOP/s of a large matrix product, best of five."""
        side = MATRIX_SIDE[self.place.type]
        factors = [self.torch.randn((side, side), device=self.place, dtype=dtype) for _ in range(2)]
        return 2 * side**3 / min(self.seconds(lambda: factors[0] @ factors[1]) for _ in range(5))

    def bandwidth(self) -> float:
        """Bytes/s read and written by a large copy, best of five."""
        source = self.torch.ones(COPIED[self.place.type] // 4, device=self.place)
        target = self.torch.zeros_like(source)
        return 2 * COPIED[self.place.type] / min(self.seconds(lambda: target.copy_(source)) for _ in range(5))


def make_step(
    args: argparse.Namespace, device: Device, precision: str, compiled: bool, _stack: ExitStack
) -> Callable[[], None]:
    """A whole training step of the config's method on random samples: gradients, optimiser, teacher."""
    import torch
    from step_speed import random_batch

    from mmseg.config.fields import build
    from mmseg.config.load import effective, load_config
    from mmseg.config.run import Optimizer, RunConfig
    from mmseg.engine.data import to_device
    from mmseg.engine.environment import keep_freed_memory
    from mmseg.engine.numerics import make_scaler, set_numerics
    from mmseg.engine.optim import build_optimizer
    from mmseg.models.resnet_generator import ResnetGenerator
    from mmseg.registry import UDA
    from mmseg.uda.draws import StepDraws
    from mmseg.uda.segmentors import build_segmentor

    if device.place.type == "cpu":
        keep_freed_memory()
    cfg = effective(load_config(args.config, {"model.pretrained": None, **args.cfg_options}))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        if cfg["uda"].get("cyclegan_itrd2en_path"):
            cfg["uda"]["cyclegan_itrd2en_path"] = str(Path(folder) / "generator.pth")
            torch.save(ResnetGenerator().state_dict(), cfg["uda"]["cyclegan_itrd2en_path"])
        method = UDA.build({**cfg["uda"], "model": build_segmentor(cfg["model"])}).to(device.place)
    numerics = replace(RunConfig.from_config(cfg).numerics, precision=precision, compile=compiled)
    set_numerics(method, numerics, device.place)
    optimizer, scaler = build_optimizer(method.model, build(Optimizer, cfg["optimizer"])), make_scaler(precision)
    size = args.batch or cfg["data"]["samples_per_gpu"]
    side = args.size or cfg["data"]["train"]["source"]["image_crop_size"][0]
    batch = to_device(random_batch(size, side), device.place)
    # From the second iteration on, the teacher is an average; the same draws give each step the same work.
    draws = StepDraws.make(method.settings, size, 1, 1000, 0)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        if scaler is None:
            method.train_step(batch, draws)
            optimizer.step()
        else:
            method.train_step(batch, draws, lambda loss: scaler.scale(loss).backward())
            scaler.step(optimizer)
            scaler.update()

    return step


def make_inference(
    args: argparse.Namespace, device: Device, precision: str, compiled: bool, stack: ExitStack
) -> Callable[[], None]:
    """Inference from random images on the device to class maps of the same size."""
    from mmseg.config.load import load_config
    from mmseg.engine.networks import random_segmentor
    from mmseg.evaluation.test_set import default_output
    from mmseg.inference.benchmark import prepared, random_inputs
    from mmseg.inference.input_recipe import InputRecipe

    config = load_config(args.config, args.cfg_options)
    model = random_segmentor(config).eval().to(device.place)
    output = default_output(model, InputRecipe(config))
    size = (args.size, args.size) if args.size else TEST_SIZE
    inputs = random_inputs(model.required_streams(output), args.batch or 1, size, device.place)
    predictor = stack.enter_context(prepared(model, precision, compiled, device.place))
    return lambda: predictor(inputs, output)


def profiled(work: Callable[[], None], device: Device) -> dict[str, float]:
    """Device time of one run in seconds, by kind of operation."""
    from operations import kind_of
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device.place.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        work()
        device.wait()
    seconds: dict[str, float] = {}
    for event in profiler.events():
        if event.device_type.name != "CPU":
            # Kernels count for the operation that launched them.
            continue
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if spent > 0:
            names = [event.name]
            while event.cpu_parent is not None:
                event = event.cpu_parent
                names.insert(0, event.name)
            kind = kind_of(names)
            seconds[kind] = seconds.get(kind, 0.0) + spent / 1e6
    return seconds


def measure(args: argparse.Namespace, device: Device, precision: str, compiled: bool) -> dict[str, Any]:
    """Count, time and profile one configuration; return plain data."""
    import torch
    from operations import WorkCounter

    from mmseg.engine.numerics import set_precision

    make = {"step": make_step, "inference": make_inference}[args.work]
    dtype = set_precision(precision, device.place)
    rate, bandwidth = device.multiplications(dtype or torch.float32), device.bandwidth()
    with ExitStack() as stack:
        # Fused operations cannot be counted separately.
        work = make(args, device, precision, False, stack)
        with WorkCounter() as counter:
            work()
        del work
    with ExitStack() as stack:
        work = make(args, device, precision, compiled, stack)
        for _ in range(WARM_UP[device.place.type]):
            work()
        if device.place.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device.place)
        seconds = min(device.seconds(work) for _ in range(args.repetitions))
        peak = torch.cuda.max_memory_allocated(device.place) / 2**30 if device.place.type == "cuda" else None
        spent = profiled(work, device)
    kinds = {
        kind: {
            "tflop": counted.flop / 1e12,
            "gigabytes": counted.bytes / 1e9,
            "floor_s": max(counted.flop / rate, counted.bytes / bandwidth),
            "seconds": spent.get(kind, 0.0),
        }
        for kind in counter.kinds.keys() | spent.keys()
        for counted in [counter.kinds[kind]]
    }
    return {
        "work": args.work,
        "precision": precision,
        "compiled": compiled,
        "tflop_per_s": rate / 1e12,
        "gigabytes_per_s": bandwidth / 1e9,
        "seconds": seconds,
        "peak_gib": peak,
        "kinds": kinds,
    }


def show(found: dict[str, Any]) -> Table:
    """Table with a row per kind of operation, longest first."""
    from rich.table import Table

    name = found["precision"] + (", compiled" if found["compiled"] else "")
    table = Table(
        title=f"{found['work']}, {name}: limits of this device: {found['tflop_per_s']:.3g} TFLOP/s, "
        f"{found['gigabytes_per_s']:.3g} GB/s"
    )
    for column in ("kind", "TFLOP", "GB", "bound, s", "time, s", "share", "time / bound"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    kinds = found["kinds"]
    spent = sum(kind["seconds"] for kind in kinds.values())
    for name, kind in sorted(kinds.items(), key=lambda item: -item[1]["seconds"]):
        table.add_row(name, *_cells(kind, kind["seconds"] / spent))
    table.add_section()
    whole = {key: sum(kind[key] for kind in kinds.values()) for key in next(iter(kinds.values()))}
    table.add_row("all, not profiled", *_cells({**whole, "seconds": found["seconds"]}, found["seconds"] / spent))
    if found["peak_gib"] is not None:
        table.caption = f"peak memory {found['peak_gib']:.1f} GiB"
    return table


def _cells(kind: dict[str, float], share: float) -> list[str]:
    times = f"{kind['seconds'] / kind['floor_s']:.1f}" if kind["floor_s"] else ""
    return [
        *(f"{kind[key]:.3f}" for key in ("tflop", "gigabytes", "floor_s", "seconds")),
        f"{100 * share:.0f} %",
        times,
    ]


def main() -> None:
    """Measure every precision, eager and on request compiled; print and write the results."""
    args = parse_args()
    if args.json and not args.json.resolve().parent.is_dir():
        raise ConfigError(f"--json {args.json}: the folder does not exist; make it, or choose another file")
    # Silence the profiler's own messages.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import torch
    from data_speed import machine
    from rich.console import Console

    from mmseg.engine.environment import environment, named_device
    from mmseg.io.files import write_text

    device = Device(named_device(args.device))
    console = Console()
    rows = []
    for precision in args.precision:
        for compiled in (False, True) if args.compile else (False,):
            try:
                rows.append(measure(args, device, precision, compiled))
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                name = precision + (", compiled" if compiled else "")
                console.print(f"{name} is left out: out of GPU memory", highlight=False)
            else:
                console.print(show(rows[-1]))
    console.print(machine(), highlight=False, soft_wrap=True)
    if args.json:
        record = {"config": str(args.config), "environment": environment(device.place), "rows": rows}
        write_text(args.json, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    run_as_script(main)
