"""Throughput and latency of inference, by precision and batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mmseg.config.class_sets import class_set_of
from mmseg.config.components import LEAST_SIDE
from mmseg.config.load import load_config
from mmseg.engine.checkpoint import load_segmentor
from mmseg.engine.environment import environment, named_device
from mmseg.engine.networks import empty_segmentor, random_segmentor
from mmseg.engine.prediction import Predictor, recorder_for
from mmseg.errors import ConfigError
from mmseg.evaluation.test_set import default_output
from mmseg.inference.input_recipe import InputRecipe
from mmseg.models.compilation import compile_networks
from mmseg.models.low_precision import PRECISIONS
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.system.printing import TextTable, say

# A call on the CPU can take many seconds; a GPU needs a few calls until its clocks and algorithms have settled.
WARM_UP_CALLS = {"cpu": 1, "cuda": 5}
LEAST_CALLS = 3
# Lowest compute capability of a GPU with TF32 and bfloat16.
AMPERE = (8, 0)


@dataclass(frozen=True)
class Row:
    """Times of one way to run the network.

    Attributes:
        precision: a key of :data:`.PRECISIONS`.
        batch: images per call.
        compiled: whether the blocks of the network were compiled by ``torch.compile``.
        recorded: whether the calls were replayed as CUDA graphs.
        calls: number of timed calls.
        latency_ms, latency_p95_ms: median and 95th percentile of a call, which processes the whole batch.
        images_per_second: over all timed calls.
        peak_memory_mib: peak memory of tensors during the calls, including weights; None on a CPU.
    """

    precision: str
    batch: int
    compiled: bool
    recorded: bool
    calls: int
    latency_ms: float
    latency_p95_ms: float
    images_per_second: float
    peak_memory_mib: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, without values that were not measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Benchmark:
    """Rows of a run, the settings they share, and why other rows are left out."""

    about: dict[str, Any]
    rows: list[Row]
    left_out: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for a JSON file."""
        return {**self.about, "rows": [row.as_dict() for row in self.rows], "left_out": self.left_out}

    def table(self) -> Table:
        """One line per row."""
        height, width = self.about["size"]
        table = TextTable(
            title=f"{self.about['output']} output, {height}x{width}, {self.about['environment']['device']}"
        )
        with_memory = any(row.peak_memory_mib is not None for row in self.rows)
        columns = ["batch", "latency, ms", "95 %, ms", "images/s", *(["peak MiB"] if with_memory else [])]
        table.add_column("precision")
        for column in columns:
            table.add_column(column, justify="right")
        for row in self.rows:
            name = _form(row.precision, row.compiled, row.recorded)
            cells = [f"{row.batch}", f"{row.latency_ms:.1f}", f"{row.latency_p95_ms:.1f}"]
            cells += [f"{row.images_per_second:.2f}"]
            cells += [f"{row.peak_memory_mib:.0f}"] if row.peak_memory_mib is not None else []
            table.add_row(name, *cells)
        return table


def benchmark(
    config_path: str | Path,
    checkpoint: str | Path | None = None,
    output: str | None = None,
    size: tuple[int, int] = (440, 640),
    precisions: Sequence[str] = ("fp32",),
    batches: Sequence[int] = (1,),
    compiled: bool = False,
    device: str | torch.device | None = None,
    seconds: float = 3.0,
    threads: int | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Benchmark:
    """Measure how fast the network of a config turns images on the device into class maps of their size.

    No data are read, and no weights except those of the checkpoint. What a device does not support is left out and
    reported.

    Args:
        config_path: any config.
        checkpoint: checkpoint whose student is measured, by path, address or name; None for random weights,
            which are equally fast.
        output: output of the model; by default that of a test.
        size: (height, width) of the images.
        precisions: keys of :data:`.PRECISIONS`.
        batches: images per call.
        compiled: also measure compiled networks. On a GPU each variant is also measured replayed as CUDA graphs.
        device: ``cpu``, ``cuda`` or ``cuda:<number>``; None takes a GPU if there is one.
        seconds: measuring time per row; at least three calls.
        threads: CPU threads; None leaves the choice to torch.
        cfg_options: dotted key -> value.
        console: receives messages and the table; stdout by default.

    Raises:
        CMDAError: bad input.
    """
    console = console or Console()
    place = named_device(device)
    _check_values(size, precisions, batches, seconds, threads)
    config = load_config(config_path, cfg_options)
    model = empty_segmentor(config) if checkpoint else random_segmentor(config)
    if checkpoint:
        load_segmentor(model, checkpoint, classes=class_set_of(config))
    output = output or default_output(model.eval(), InputRecipe(config))
    streams = model.required_streams(output)
    model = model.to(place)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        about = {
            "config": str(config_path),
            "checkpoint": None if checkpoint is None else str(checkpoint),
            "output": output,
            "size": list(size),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "environment": environment(place),
        }
        result = Benchmark(about, [], [])
        for precision in precisions:
            missing = _unavailable(precision, place)
            if missing:
                result.left_out.append(f"{precision} is left out: {missing}")
                say(console, result.left_out[-1])
                continue
            for batch in batches:
                for compile_it, record_it in _forms(compiled, place):
                    inputs = random_inputs(streams, batch, size, place)
                    try:
                        row = _measure(model, inputs, output, precision, compile_it, record_it, seconds)
                    except torch.OutOfMemoryError:
                        row = "it does not fit into the GPU's memory"
                    if isinstance(row, Row):
                        result.rows.append(row)
                        continue
                    torch.cuda.empty_cache()
                    what = f"{_form(precision, compile_it, record_it)}, batch {batch}"
                    result.left_out.append(f"{what} is left out: {row}")
                    say(console, result.left_out[-1])
        console.print(result.table())
        return result
    finally:
        torch.set_num_threads(before)


def _form(precision: str, compiled: bool, recorded: bool) -> str:
    return precision + (", compiled" if compiled else "") + (", recorded" if recorded else "")


def _check_values(
    size: tuple[int, int], precisions: Sequence[str], batches: Sequence[int], seconds: float, threads: int | None
) -> None:
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown:
        raise ConfigError(f"precision {unknown[0]!r} is unknown; choose from {', '.join(PRECISIONS)}")
    if min(size) < LEAST_SIDE:
        raise ConfigError(f"size {size[0]}x{size[1]} is too small; height and width are at least {LEAST_SIDE}")
    if any(batch < 1 for batch in batches) or seconds <= 0 or (threads is not None and threads < 1):
        raise ConfigError(
            f"batches {list(batches)}, seconds {seconds}, threads {threads}: batches and threads are at least 1, "
            "seconds more than 0"
        )


def _unavailable(precision: str, device: torch.device) -> str:
    """Why a device cannot compute in a precision; '' if it can."""
    if device.type == "cpu":
        return "it is for GPUs" if precision in ("tf32", "fp16") else ""
    if precision in ("tf32", "bf16") and torch.cuda.get_device_capability(device) < AMPERE:
        return f"{torch.cuda.get_device_name(device)} does not have it"
    return ""


def random_inputs(streams: Sequence[str], batch: int, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
    """Random inputs (batch, 3, H, W); the time does not depend on their values."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn((batch, 3, *size), generator=generator).to(device) for name in streams}


def _forms(compiled: bool, device: torch.device) -> list[tuple[bool, bool]]:
    """Variants to measure: whether the network is compiled, and whether its predictions are recorded."""
    return list(product((False, True) if compiled else (False,), (False, True) if device.type == "cuda" else (False,)))


def _measure(
    model: BaseSegmentor,
    inputs: dict[str, Tensor],
    output: str,
    precision: str,
    compile_it: bool,
    record_it: bool,
    seconds: float,
) -> Row | str:
    """Warm up, then time calls; return a message if they cannot be recorded.

    Raises:
        ConfigError: the network cannot be compiled here.
    """
    device = next(iter(inputs.values())).device
    on_gpu = device.type == "cuda"
    refusals: list[str] = []
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    with prepared(model, precision, compile_it, device, record_it, refusals.append) as predictor:
        try:
            for _ in range(WARM_UP_CALLS[device.type]):
                predictor(inputs, output)
        except _compile_errors(compile_it) as error:
            reason = " ".join(str(error).split("\n")[:2])
            raise ConfigError(f"torch.compile cannot compile the network here ({reason}); do without it") from error
        if refusals:
            return refusals[0]
        # A replay allocates nothing: its memory was counted when it was recorded.
        if on_gpu and not record_it:
            torch.cuda.reset_peak_memory_stats(device)
        times: list[float] = []
        while len(times) < LEAST_CALLS or sum(times) < seconds:
            if on_gpu:
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            predictor(inputs, output)
            if on_gpu:
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
        peak = torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None
    batch = len(next(iter(inputs.values())))
    median, high = (1000 * float(value) for value in np.percentile(times, (50, 95)))
    rate = batch * len(times) / sum(times)
    return Row(precision, batch, compile_it, record_it, len(times), median, high, rate, peak)


def _compile_errors(compile_it: bool) -> tuple[type[Exception], ...]:
    # Naming them imports the compiler, which takes seconds.
    return (torch._dynamo.exc.TorchDynamoException,) if compile_it else ()


@contextmanager
def prepared(
    model: BaseSegmentor,
    precision: str,
    compile_it: bool,
    device: torch.device,
    record_it: bool = False,
    say: Callable[[str], None] = print,
) -> Iterator[Predictor]:
    """Yield a predictor of a model in a precision, compiled or not; torch's settings are restored afterwards.

    Args:
        model: in eval mode, on ``device``.
        precision: a key of :data:`.PRECISIONS`.
        compile_it: compile the blocks of the network.
        device: device it runs on.
        record_it: replay predictions as CUDA graphs.
        say: receives a message if they cannot be replayed.
    """
    # Only these switches, as in training: torch refuses to report a precision that was set in both of its ways.
    matmul, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if compile_it:
        compile_networks(model)
    try:
        yield Predictor(model, device, PRECISIONS[precision], recorder_for(device) if record_it else None, say)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
        torch.backends.cudnn.allow_tf32 = convolutions
        if compile_it:
            for module in model.modules():
                module._compiled_call_impl = None
            # Each row compiles for its own shapes and precision; torch stops compiling a function after many of them.
            torch.compiler.reset()
