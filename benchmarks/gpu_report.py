"""Report on a GPU: speed and memory of training and inference, and correctness of results.

One command, at most eight minutes, with random weights and no data: training steps in every precision, with and
without CUDA graphs; the settings for a small card; inference; the tests that need a GPU; a short launcher training on
the toy city. Writes a JSON file and tables in Markdown. A part that fails, or for which no time is left, is listed and
does not stop the others. On a CPU, use --tiny to try the script.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import run_as_script
from mmseg.toy.settings import TINY_TRAINING

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "fusion" / "cs2dsec_image+events_together_b5.py"
ITERATIONS = 40_000
# Random weights need no files; without fusion of content maps, its module is not needed.
FIXED = {"model.pretrained": None, "model.fusion_isr_module": None}
SMALL_CARD = {"gradient_checkpointing": True, "micro_batch": 1}
PARTS = ("step", "small card", "inference", "tests", "training", "compiled")
# Minimum time of a part on a GPU, in seconds.
LEAST = {"step": 15, "small card": 25, "inference": 15, "tests": 60, "training": 60, "compiled": 120}


def network_options(tiny: bool) -> dict[str, Any]:
    """Return the config values that replace those of the published config; ``tiny`` takes small networks."""
    from step_speed import SMALL

    return FIXED | (SMALL if tiny else {})


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description=__doc__,
        epilog="example: python benchmarks/gpu_report.py --out report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="output folder (default: %(default)s)"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:<number> (default: a GPU if available)")
    parser.add_argument(
        "--seconds", type=whole_number(30), default=480, help="time limit for all parts (default: %(default)s)"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run (default: all)")
    parser.add_argument("--tiny", action="store_true", help="small networks and inputs, to try the script")
    return parser.parse_args()


@dataclass
class Report:
    """Rows of each part, and parts that failed or were left out."""

    about: dict[str, Any]
    seconds: float
    parts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def left(self) -> float:
        """Seconds left."""
        return self.seconds - (time.perf_counter() - self.started)

    def part(self, name: str, what: str, work: Callable[[], dict[str, Any]], least: float = 0.0) -> None:
        """Run one measurement, and store its row or why there is none."""
        title = f"{name}: {what}" if what else name
        if self.left() < least:
            self.left_out.append(f"{title}: no time was left")
            return
        try:
            row = work()
        except Exception as error:
            self.left_out.append(f"{title}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        else:
            self.parts.setdefault(name, []).append(row)
            print(f"[{time.perf_counter() - self.started:.0f} s] {title}: {json.dumps(row)}", flush=True)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.about, "parts": self.parts, "left_out": self.left_out}

    def markdown(self) -> str:
        """All tables as Markdown."""
        about = self.about
        lines = [f"**{about['device']}**, torch {about['torch']}, {about['config']}, {about['date']}", ""]
        for name, rows in self.parts.items():
            columns = list(dict.fromkeys(key for row in rows for key in row))
            lines += [f"### {name}", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
            lines += [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in rows] + [""]
        lines += [f"- left out: {text}" for text in self.left_out]
        return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


class Steps:
    """Training method of the published config with random weights, and variants of its step."""

    def __init__(self, device: torch.device, tiny: bool) -> None:
        import torch
        from step_speed import random_batch

        from mmseg.config.load import effective, load_config
        from mmseg.engine.data import to_device
        from mmseg.models.resnet_generator import ResnetGenerator
        from mmseg.registry import UDA
        from mmseg.uda.segmentors import build_segmentor

        self.torch, self.device = torch, device
        self.cfg = effective(load_config(CONFIG, network_options(tiny)))
        self.batch = to_device(random_batch(2, 64 if tiny else 512), device)
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            self.cfg["uda"]["cyclegan_itrd2en_path"] = str(Path(folder) / "generator.pth")
            torch.save(ResnetGenerator(width=8 if tiny else 64).state_dict(), self.cfg["uda"]["cyclegan_itrd2en_path"])
            with device:
                model = build_segmentor(self.cfg["model"])
                self.method = UDA.build({**self.cfg["uda"], "model": model}).to(device)
        self.start = {name: value.detach().cpu().clone() for name, value in self.method.state_dict().items()}
        torch.backends.cudnn.benchmark = bool(self.cfg.get("cudnn_benchmark"))

    def prepare(self, graphs: bool, **numerics: Any) -> None:
        """Start again from the same weights."""
        from mmseg.config.fields import build
        from mmseg.config.run import Numerics, Optimizer
        from mmseg.engine.graphs import use_graphs
        from mmseg.engine.numerics import make_scaler, set_numerics
        from mmseg.engine.optim import build_optimizer
        from mmseg.uda.parts import PlainRunner

        self.method.configure(runner=PlainRunner())
        for parameter in self.method.model.parameters():
            parameter.grad = None
        self.optimizer = None
        self.method.load_state_dict(self.start)
        chosen = Numerics(**numerics, cuda_graphs=graphs)
        set_numerics(self.method, chosen, self.device)
        self.optimizer = build_optimizer(self.method.model, build(Optimizer, self.cfg["optimizer"]))
        self.scaler = make_scaler(chosen.precision)
        gc.collect()
        if self.device.type == "cuda":
            self.torch.cuda.empty_cache()
        self.warnings: list[str] = []
        use_graphs(self.method, chosen, self.device, self.warnings.append)

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        """Run one iteration as in the training loop; its logs stay on the device."""
        from mmseg.uda.draws import StepDraws

        self.torch.manual_seed(1000 + iteration)
        self.optimizer.zero_grad(set_to_none=True)
        draws = StepDraws.make(self.method.settings, 2, iteration, 1000, 0)
        if self.scaler is None:
            result = self.method.train_step(self.batch, draws)
            self.optimizer.step()
        else:
            scaler = self.scaler
            result = self.method.train_step(self.batch, draws, lambda loss: scaler.scale(loss).backward())
            scaler.step(self.optimizer)
            scaler.update()
        return result.logs

    def losses(self, count: int) -> list[dict[str, float]]:
        """Losses of the first iterations."""
        runs = (self.step(iteration) for iteration in range(count))
        return [{name: value.item() for name, value in logs.items() if ".ce_" in name} for logs in runs]

    def wait(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)

    def seconds(self, first: int, count: int) -> float:
        """Seconds per iteration, without synchronisation in between, as in training."""
        self.wait()
        started = time.perf_counter()
        for iteration in range(first, first + count):
            self.step(iteration)
        self.wait()
        return (time.perf_counter() - started) / count

    def memory(self) -> dict[str, float]:
        """Memory reserved after the first iteration, in GiB."""
        if self.device.type != "cuda":
            return {}
        return {"GiB": round(self.torch.cuda.max_memory_reserved(self.device) / 2**30, 2)}

    def launches(self) -> dict[str, Any]:
        """Number of kernels in a step and their total time; overlapping streams count twice."""
        if self.device.type != "cuda":
            return {}
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
            self.step(50)
            self.wait()
        events = profiler.key_averages()
        busy = sum(event.self_device_time_total for event in events) / 1e3
        return {"kernels": sum(event.count for event in events), "busy ms": round(busy, 1)}


def measure_steps(report: Report, steps: Steps, precision: str, compiled: bool = False) -> None:
    """Measure steps in one precision, without and with graphs; compiled networks only with graphs."""
    torch, cuda = steps.torch, steps.device.type == "cuda"
    plain: dict[str, list] = {}

    def form(graphs: bool, timed: int, **numerics: Any) -> dict[str, Any]:
        steps.prepare(graphs, precision=precision, **numerics)
        started = time.perf_counter()
        losses = steps.losses(3 if cuda else 1)
        steps.wait()
        begun = time.perf_counter() - started
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(steps.device)
        seconds = steps.seconds(3, timed)
        row = {"s/iteration": round(seconds, 4), "hours for 40,000": round(seconds * ITERATIONS / 3600, 2)}
        row |= steps.memory()
        if not numerics and not compiled:
            row |= steps.launches()
        if graphs:
            row["graphs in use"] = "yes" if steps.method.parts.replays else steps.warnings[-1]
        key = json.dumps(numerics)
        reference = plain.setdefault(key, losses)
        if graphs and not compiled and reference is not losses:
            apart = max(abs(x[k] - y[k]) / abs(y[k]) for x, y in zip(losses, reference, strict=True) for k in y)
            row["losses, from plain"] = f"{apart:.0e}"
        return {"precision": precision, **row, "first 3 iterations, s": round(begun, 1)}

    if compiled:
        report.part(
            "compiled", precision, lambda: form(cuda, 5, compile=True), least=LEAST["compiled"] if cuda else 0.0
        )
        return
    least = LEAST["step"] if cuda else 0.0
    for graphs in (False, True) if cuda else (False,):
        name = "graphs" if graphs else "plain"
        timed = 20 if graphs else 3 if cuda else 1
        report.part("step", f"{precision}, {name}", lambda g=graphs, n=timed, f=name: {"form": f, **form(g, n)}, least)


def measure_small_card(report: Report, steps: Steps, precision: str) -> None:
    """Measure the settings that save memory."""

    def work() -> dict[str, Any]:
        cuda = steps.device.type == "cuda"
        steps.prepare(cuda, precision=precision, **SMALL_CARD)
        steps.losses(2)
        if cuda:
            steps.torch.cuda.empty_cache()
            steps.torch.cuda.reset_peak_memory_stats(steps.device)
        seconds = steps.seconds(2, 5 if cuda else 1)
        return {"precision": precision, "s/iteration": round(seconds, 4), **steps.memory(), "settings": str(SMALL_CARD)}

    report.part("small card", precision, work, LEAST["small card"] if steps.device.type == "cuda" else 0.0)


def precisions(device: torch.device) -> list[str]:
    """Precisions of a device, fastest first."""
    import torch

    if device.type != "cuda":
        return ["fp32", "bf16"]
    if torch.cuda.get_device_capability(device) >= (8, 0):
        return ["bf16", "tf32", "fp32"]
    return ["fp16", "fp32"]


def measure_inference(report: Report, device: torch.device, tiny: bool) -> None:
    """Measure the fused output at the size of DSEC tests."""
    from rich.console import Console

    from mmseg.inference.benchmark import benchmark

    def work() -> dict[str, Any]:
        result = benchmark(
            CONFIG,
            size=(64, 96) if tiny else (440, 640),
            precisions=precisions(device),
            batches=(1,) if tiny else (1, 8),
            device=device,
            seconds=0.1 if tiny else 1.0,
            cfg_options=network_options(tiny),
            console=Console(file=sys.stderr),
        )
        rows = [row.as_dict() for row in result.rows]
        report.parts.setdefault("inference", []).extend(rows[1:])
        report.left_out += [f"inference: {text}" for text in result.left_out]
        return rows[0]

    report.part("inference", "", work, LEAST["inference"] if device.type == "cuda" else 0.0)


def run_tests(report: Report) -> None:
    """Run the tests that need a GPU in a separate process."""

    def work() -> dict[str, Any]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/engine/test_gpu.py"]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=max(report.left(), 1), check=False
        )
        lines = done.stdout.strip().splitlines() or ["pytest printed nothing"]
        failed = [line.removeprefix("FAILED ") for line in lines if line.startswith(("FAILED", "ERROR"))]
        return {"tests/engine/test_gpu.py": lines[-1].strip("= "), "failed": "; ".join(failed) or None}

    report.part("tests", "", work, LEAST["tests"])


def run_training(report: Report, device: torch.device, tiny: bool) -> None:
    """Run a launcher training on the toy city, including data loading."""
    iterations = 3 if tiny else 60
    base = ROOT / "configs" / "demo" / "cmda_toy_city.py" if tiny else CONFIG

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            city = ["tools/make_toy_data.py", f"{folder}/toy", "--size", "tiny" if tiny else "small"]
            _run(city, report, folder)
            options = {
                "model.pretrained": None,
                "uda.cyclegan_itrd2en_path": "",
                "runner.max_iters": iterations,
                "log_config.interval": max(iterations // 3, 1),
                "evaluation.interval": 0,
                "checkpoint_config.interval": 0,
                "data.workers_per_gpu": 0 if tiny else min(8, os.cpu_count() or 1),
                "data.train.rare_class_sampling.min_pixels": 10,
                "precision": precisions(device)[0] if device.type == "cuda" else "fp32",
            }
            if tiny:
                options |= TINY_TRAINING
            command = ["my_run_experiments.py", "--root-path", f"{folder}/toy", "--base-config", str(base)]
            command += ["--name", "gpu_report", "--cfg-options", *(f"{k}={v!r}" for k, v in options.items())]
            started = time.perf_counter()
            _run(command, report, folder)
            seconds = time.perf_counter() - started
            records = [
                json.loads(line)
                for path in Path(folder).rglob("*.log.json")
                for line in path.read_text(encoding="utf-8").splitlines()
            ]
            steps = [record for record in records if record.get("mode") == "train"][1:]
            row = {"iterations": iterations, "whole run, s": round(seconds, 1)}
            for name in ("time", "data_time", "memory_gib"):
                values = [record[name] for record in steps if name in record]
                row[name] = round(statistics.median(values), 4) if values else None
            return row

    report.part("training", "", work, LEAST["training"] if device.type == "cuda" else 0.0)


def _run(command: list[str], report: Report, folder: str) -> None:
    """Run a script of the project in a folder.

    Raises:
        RuntimeError: the script failed.
    """
    command = [sys.executable, str(ROOT / command[0]), *command[1:]]
    seconds = max(report.left(), 1)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{Path(command[1]).name} failed with exit status {done.returncode}: {(done.stdout + done.stderr)[-300:]!r}"
        )


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write the JSON and Markdown files, and return their paths."""
    from mmseg.io.files import write_text

    folder.mkdir(parents=True, exist_ok=True)
    name = f"{report.about['date']}_{re.sub('[^A-Za-z0-9]+', '-', report.about['device']).strip('-')}"
    paths = folder / f"{name}.json", folder / f"{name}.md"
    write_text(paths[0], json.dumps(report.as_dict(), indent=1) + "\n")
    write_text(paths[1], report.markdown())
    return paths


def measure(report: Report, args: argparse.Namespace, device: torch.device) -> None:
    """Run the selected parts; those that modify the networks come last."""
    names = precisions(device)
    if {"step", "small card"} & set(args.parts):
        steps = Steps(device, args.tiny)
        for precision in names if "step" in args.parts else ():
            measure_steps(report, steps, precision)
        if "small card" in args.parts:
            measure_small_card(report, steps, names[0])
        del steps
        gc.collect()
    if "inference" in args.parts:
        measure_inference(report, device, args.tiny)
    if "tests" in args.parts and device.type == "cuda":
        run_tests(report)
    if "training" in args.parts:
        run_training(report, device, args.tiny)
    if "compiled" in args.parts and not args.tiny:
        measure_steps(report, Steps(device, args.tiny), names[0], compiled=True)


def main() -> None:
    """Run all parts, print and write the tables."""
    args = parse_args()
    import torch

    from mmseg.engine.environment import environment, named_device

    device = named_device(args.device)
    found = environment(device)
    about = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "config": CONFIG.name + (", tiny" if args.tiny else ""),
        "environment": found,
    }
    report = Report(about, args.seconds)
    measure(report, args, device)
    for path in write(report, args.out):
        print(f"wrote {path}")
    print(report.markdown())


if __name__ == "__main__":
    run_as_script(main)
