"""Training steps replayed as CUDA graphs.

A step of the published model launches tens of thousands of small kernels, and Python cannot launch them as fast as a
GPU runs them. Here the parts of a step (``mmseg.uda.parts``) are recorded once as CUDA graphs and replayed with one
launch each. The first call of a part runs it without a graph, records it, replays the record on the same inputs and
random numbers, and compares losses and gradients: a record that differs is not used.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmseg.config.run import Numerics
from mmseg.errors import ConfigError
from mmseg.models.concurrency import side_stream
from mmseg.models.low_precision import PRECISIONS
from mmseg.parallel.distributed import is_distributed
from mmseg.uda.cmda import DACS
from mmseg.uda.parts import Part, Tensors, flatten, map_tensors

# Largest relative difference between the losses of a part and of its replay, by whether the networks multiply in 16
# bits. The whole gradient may differ by GRADIENT_FACTOR times as much, since some of its sums have no fixed order.
LOSS_TOLERANCE = {True: 1e-3, False: 1e-5}
GRADIENT_FACTOR = 50
# Largest share of differing pixels in a label map.
LABEL_TOLERANCE = 1e-3


class Record(Protocol):
    """A recorded part: ``replay`` reads ``inputs`` and leaves its results in ``outputs``, all at fixed addresses."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]

    def replay(self) -> None: ...


class Recorder(Protocol):
    """Records parts; see :class:`CudaRecorder`."""

    def warm_up(self, part: Part, inputs: Tensors) -> dict[str, Any]:
        """Run a part without recording it, on the stream where it will be recorded."""
        ...

    def record(self, part: Part, inputs: dict[str, Any]) -> Record:
        """Record a part that reads ``inputs``."""
        ...

    def concurrently(self) -> AbstractContextManager[None]:
        """Context in which work runs concurrently with that of the caller."""
        ...

    def join(self) -> None:
        """Let the caller's work wait for that of :meth:`concurrently`."""
        ...


@dataclass
class CudaRecord:
    """A CUDA graph with its inputs and outputs."""

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Any]
    outputs: dict[str, Any]

    def replay(self) -> None:
        self.graph.replay()


class CudaRecorder:
    """Records parts as CUDA graphs that share one memory pool.

    Args:
        device: a CUDA device.
        side_by_side: record independent networks on separate streams. They share no memory.
    """

    def __init__(self, device: torch.device, side_by_side: bool = True) -> None:
        self._recording, self._concurrent = torch.cuda.Stream(device), torch.cuda.Stream(device)
        self._side = torch.cuda.Stream(device) if side_by_side else None
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, part: Part, inputs: Tensors) -> dict[str, Any]:
        here = torch.cuda.current_stream()
        self._recording.wait_stream(here)
        with torch.cuda.stream(self._recording):
            outputs = part(inputs)
        here.wait_stream(self._recording)
        return outputs

    def record(self, part: Part, inputs: dict[str, Any]) -> CudaRecord:
        graph = torch.cuda.CUDAGraph()
        collects = gc.isenabled()
        gc.collect()
        # Freeing GPU memory during a recording would break it.
        gc.disable()
        # thread_local: other threads use the GPU meanwhile, such as those that fill the loader's pinned memory
        recording = torch.cuda.graph(graph, pool=self._pool, stream=self._recording, capture_error_mode="thread_local")
        try:
            with side_stream(self._side), recording:
                outputs = part(inputs)
        except RuntimeError:
            _renew_random_numbers(self._recording.device)
            raise
        finally:
            if collects:
                gc.enable()
        return CudaRecord(graph, inputs, outputs)

    @contextmanager
    def concurrently(self) -> Iterator[None]:
        self._concurrent.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._concurrent):
            yield

    def join(self) -> None:
        torch.cuda.current_stream().wait_stream(self._concurrent)


def _renew_random_numbers(device: torch.device) -> None:
    """Give a device's generator a new state: after a failed recording, the old one still waits for its end."""
    generator = torch.cuda.default_generators[device.index or 0]
    generator.graphsafe_set_state(torch.Generator(device).graphsafe_get_state())


@dataclass
class Replayable:
    """A record, and the weights for which it computes gradients."""

    record: Record
    reached: list[nn.Parameter]


class ReplayingRunner:
    """Runs the parts of a step by replaying records of them.

    Gradients of recorded parts have fixed addresses. They are set to zero before the first part of a step that adds to
    them. Weights that no part of a step reaches have no gradient, as in a step without graphs.

    Args:
        method: the training method on its device, in the precision in which it will be trained.
        recorder: records the parts.
        concurrent_recorder: records those that run concurrently with others, with which they share no memory; None runs
            them one after another.
        warn: called with one line if a part, or all parts from then on, run without a graph.
    """

    def __init__(
        self, method: DACS, recorder: Recorder, concurrent_recorder: Recorder | None, warn: Callable[[str], None]
    ) -> None:
        self._method, self._warn = method, warn
        self._recorder, self._concurrent_recorder = recorder, concurrent_recorder
        self._records: dict[Hashable, Replayable] = {}
        self._sizes: dict[Hashable, tuple] = {}
        self._odd: set[Hashable] = set()
        self._gradients: dict[nn.Parameter, Tensor] = {}
        self.replays = True

    def run(self, name: str, variant: Hashable, part: Part, inputs: Tensors) -> dict[str, Any]:
        return self._run((name, variant), part, inputs, self._recorder)

    def begin(self, name: str, variant: Hashable, part: Part, inputs: Tensors) -> Callable[[], dict[str, Any]]:
        recorder = self._concurrent_recorder
        if recorder is None or not self.replays or (name, variant) not in self._records:
            return lambda: self._run((name, variant), part, inputs, recorder or self._recorder)
        with recorder.concurrently():
            outputs = self._run((name, variant), part, inputs, recorder)

        def join() -> dict[str, Any]:
            recorder.join()
            return outputs

        return join

    def _run(self, key: tuple[str, Hashable], part: Part, inputs: Tensors, recorder: Recorder) -> dict[str, Any]:
        if not self.replays:
            return part(inputs)
        size = tuple((tuple(t.shape), t.dtype) for t in flatten(inputs))
        if self._sizes.setdefault(key, size) != size:
            if key not in self._odd:
                self._odd.add(key)
                self._warn(f"CUDA graphs: an input of the {key[0]} changed its size; it runs without a graph")
            return part(inputs)
        if key in self._records:
            return self._replayed(self._records[key], inputs)
        return self._first(key, part, inputs, recorder)

    def _replayed(self, replayable: Replayable, inputs: Tensors) -> dict[str, Any]:
        record = replayable.record
        torch._foreach_copy_(flatten(record.inputs), flatten(inputs))
        self._point_gradients(replayable.reached)
        record.replay()
        return map_tensors(torch.clone, record.outputs)

    @torch.no_grad()
    def _point_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Move gradients to their fixed addresses, with their current values."""
        unset: list[Tensor] = []
        elsewhere: list[tuple[Tensor, Tensor]] = []
        for parameter in parameters:
            fixed, gradient = self._gradients[parameter], parameter.grad
            if gradient is fixed:
                continue
            if gradient is None:
                unset.append(fixed)
            else:
                elsewhere.append((fixed, gradient))
            parameter.grad = fixed
        if unset:
            torch._foreach_zero_(unset)
        if elsewhere:
            torch._foreach_copy_([fixed for fixed, _ in elsewhere], [gradient for _, gradient in elsewhere])

    def _first(self, key: tuple[str, Hashable], part: Part, inputs: Tensors, recorder: Recorder) -> dict[str, Any]:
        """Run a part without a graph, record it and compare its replay; the state afterwards is that of the run."""
        method = self._method
        trained = [p for p in method.model.parameters() if p.requires_grad]
        start, before = _State(method), _Gradients(trained)
        outputs = recorder.warm_up(part, inputs)
        end, reached = _State(method), before.changed()
        # a gradient at its fixed address is about to be overwritten
        gradients = [(parameter, parameter.grad) for parameter in reached if parameter.grad is not None]
        total = [grad.clone() if grad is self._gradients.get(parameter) else grad for parameter, grad in gradients]
        try:
            start.restore()
            self._lay_out(reached, before)
            replayable = Replayable(recorder.record(part, map_tensors(torch.clone, inputs)), reached)
            self._lay_out(reached, before)
            replayable.record.replay()
            apart = self._difference(replayable, outputs, total)
        except RuntimeError as error:
            apart = _reason(error)
        end.restore()
        for parameter, gradient in zip(reached, total, strict=True):
            parameter.grad = gradient
        if apart is None:
            self._records[key] = replayable
        else:
            self._stop(f"CUDA graphs: the {key[0]} {apart}; training continues without graphs")
        return outputs

    @torch.no_grad()
    def _lay_out(self, parameters: list[nn.Parameter], values: _Gradients) -> None:
        """Give gradients their fixed addresses and their values before the part."""
        for parameter in parameters:
            if parameter not in self._gradients:
                self._gradients[parameter] = torch.zeros_like(parameter)
            fixed, value = self._gradients[parameter], values.of(parameter)
            parameter.grad = fixed.zero_() if value is None else fixed.copy_(value)

    @torch.no_grad()
    def _difference(self, replayable: Replayable, outputs: dict[str, Any], total: list[Tensor]) -> str | None:
        """How a replay differs from the run without a graph; None if they agree.

        Args:
            outputs: outputs of the run without a graph.
            total: gradients after that run.
        """
        tolerance = LOSS_TOLERANCE[PRECISIONS[self._method.numerics.precision] is not None]
        for plain, replayed in zip(flatten(outputs), flatten(replayable.record.outputs), strict=True):
            if not _agree(plain, replayed, tolerance):
                return "differs when it is replayed"
        if not total:
            return None
        length = torch.nn.utils.get_total_norm(total)
        fixed = [self._gradients[p] for p in replayable.reached]
        torch._foreach_sub_(fixed, total)
        apart = torch.nn.utils.get_total_norm(fixed)
        # A loss scale that is still too large overflows; that is not a fault of the record.
        if bool(length.isfinite()) and not float(apart) <= GRADIENT_FACTOR * tolerance * float(length):
            return f"has gradients that differ by {float(apart / length):.1e} when it is replayed"
        return None

    def _stop(self, why: str) -> None:
        self.replays = False
        self._records.clear()
        self._gradients.clear()
        self._warn(why)


class _State:
    """Running statistics and random number state, which a part changes in addition to gradients."""

    def __init__(self, method: nn.Module) -> None:
        self._buffers = [(buffer, buffer.clone()) for buffer in method.buffers()]
        self._device = next(method.parameters()).device
        self._random = self._of_device().get_rng_state()

    def _of_device(self) -> Any:
        return torch.cuda if self._device.type == "cuda" else torch

    def restore(self) -> None:
        """Restore both."""
        for buffer, value in self._buffers:
            buffer.copy_(value)
        self._of_device().set_rng_state(self._random)


class _Gradients:
    """Gradients before a part, for comparison with those after it."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._before = {p: None if p.grad is None else (p.grad, p.grad._version, p.grad.clone()) for p in parameters}

    def of(self, parameter: nn.Parameter) -> Tensor | None:
        """Value of a gradient before the part."""
        before = self._before[parameter]
        return None if before is None else before[2]

    def changed(self) -> list[nn.Parameter]:
        """The weights whose gradients the part has changed."""

        def is_changed(parameter: nn.Parameter, before: tuple[Tensor, int, Tensor] | None) -> bool:
            if before is None:
                return parameter.grad is not None
            return parameter.grad is not before[0] or parameter.grad._version != before[1]

        return [parameter for parameter, before in self._before.items() if is_changed(parameter, before)]


def _agree(plain: Tensor, replayed: Tensor, tolerance: float) -> bool:
    if not plain.is_floating_point():
        return float((plain != replayed).float().mean()) <= LABEL_TOLERANCE
    plain, replayed = plain.float(), replayed.float()
    if not bool(plain.isfinite().all()):
        return bool((plain.isfinite() == replayed.isfinite()).all())
    return bool((plain - replayed).abs().max() <= tolerance * plain.abs().max())


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "needs more memory to be recorded than is available"
    return f"cannot be recorded ({str(error).splitlines()[0] if str(error) else type(error).__name__})"


def why_not(numerics: Numerics, device: torch.device) -> str | None:
    """Why training steps cannot be recorded on a device; None where they can."""
    if device.type != "cuda":
        return "CUDA graphs need a CUDA GPU"
    if numerics.sync_bn and is_distributed():
        return "with sync_bn=True the processes exchange statistics inside the network, which a graph cannot hold"
    return None


def use_graphs(method: DACS, numerics: Numerics, device: torch.device, warn: Callable[[str], None]) -> None:
    """Apply the key ``cuda_graphs``: replay the parts of the step if it is True, or 'auto' and possible.

    Args:
        warn: called with one line if 'auto' leaves a GPU without graphs, or if a part turns out to differ.

    Raises:
        ConfigError: it is True and the steps cannot be recorded.
    """
    if numerics.cuda_graphs is False:
        return
    reason = why_not(numerics, device)
    if reason and numerics.cuda_graphs is True:
        raise ConfigError(f"cuda_graphs=True: {reason}; set it to 'auto' or False")
    if reason:
        if device.type == "cuda":
            warn(f"steps run without CUDA graphs: {reason}")
        return
    # graphs that run concurrently share no memory
    concurrent = not numerics.saves_memory
    recorder = CudaRecorder(device, side_by_side=concurrent)
    method.configure(runner=ReplayingRunner(method, recorder, CudaRecorder(device) if concurrent else None, warn))
