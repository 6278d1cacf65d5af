"""Class maps of a network; on a GPU replayed as CUDA graphs.

A prediction launches thousands of kernels, more slowly than a GPU runs them. Here the whole of it, from the inputs to
the class of every pixel, is recorded once per input size and replayed with one launch.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mmseg.engine.graphs import CudaRecorder, Record, Recorder
from mmseg.models.low_precision import WeightCopies
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.uda.parts import Part, flatten, map_tensors

# Records that are kept; each holds its inputs and outputs, the memory in between is shared.
MOST_RECORDS = 8
# Sizes met once that are remembered.
MOST_SIZES = 64
# Largest difference between the confidence (0..1) of a prediction and of its replay.
CONFIDENCE_TOLERANCE = 1e-3

Size = tuple[int, int]
Outcome = TypeVar("Outcome")


def recorder_for(device: torch.device, wanted: Any = "auto") -> Recorder | None:
    """What records predictions on a device; None where they are run as they are.

    Args:
        device: where the network runs.
        wanted: the config key ``cuda_graphs``; False records nothing. Without a GPU nothing is recorded either way: a
            network that was trained on one may be used without.
    """
    return CudaRecorder(device) if device.type == "cuda" and wanted is not False else None


class Predictor:
    """Predicts with a segmentor, and replays what it has recorded.

    The first inputs of a size are predicted plainly. The second ones of that size are too; the prediction is then
    recorded, and replayed on the same inputs: only where both agree is the record used, from the third ones on. At most
    :data:`MOST_RECORDS` are kept, and the one used longest ago makes room.

    Args:
        segmentor: in eval mode, on ``device``. Its weights must not change as long as this object is used.
        device: where it runs.
        dtype: number format in which the network multiplies, see :func:`mmseg.engine.numerics.set_precision`; None for
            that of its weights. Resizing and classes stay in 32 bits.
        recorder: records predictions, see :func:`recorder_for`; None runs all of them plainly.
        say: told in one line why nothing is recorded from then on.
    """

    def __init__(
        self,
        segmentor: BaseSegmentor,
        device: torch.device,
        dtype: torch.dtype | None = None,
        recorder: Recorder | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.segmentor, self.device = segmentor, device
        self._dtype, self._recorder, self._say = dtype, recorder, say
        self._copies = None if dtype is None else WeightCopies(segmentor, dtype)
        self._records: OrderedDict[Hashable, Record] = OrderedDict()
        self._met: OrderedDict[Hashable, None] = OrderedDict()

    @torch.no_grad()
    def __call__(
        self, streams: Mapping[str, Tensor], output: str, size: Size | None = None, confidence: bool = False
    ) -> dict[str, Tensor]:
        """Maps of one output, on the device; they hold until the next call.

        Args:
            streams: inputs on the device by stream name, each (B, 3, H, W).
            output: name of the output, e.g. ``fusion``.
            size: (H, W) of the maps when it differs from the input's.
            confidence: also give the softmax probability of the class.

        Returns:
            ``label``, (B, H, W) uint8, and where it is asked for ``confidence``, (B, H, W) float32.
        """
        streams = {name: streams[name] for name in self.segmentor.required_streams(output)}
        part = partial(self._predicted, output=output, size=size and tuple(size), confidence=confidence)
        with self._on_device():
            if self._recorder is None:
                return part(streams)
            shapes = ((name, tuple(stream.shape), stream.dtype) for name, stream in streams.items())
            key = (output, size and tuple(size), confidence, *shapes)
            if key in self._records:
                self._records.move_to_end(key)
                return _replayed(self._records[key], streams)
            return self._run_or_record(key, part, streams)

    def begin(
        self, streams: Mapping[str, Tensor], output: str, size: Size | None = None, confidence: bool = False
    ) -> Copies:
        """Begin a prediction of inputs that may lie on the host, and the copies of its maps to the host.

        On a GPU neither is waited for before :meth:`Copies.arrays`. Arguments as of calling the object.
        """
        with self._on_device():
            started = _moment(self.device)
            there = {name: _sent(streams[name], self.device) for name in self.segmentor.required_streams(output)}
            maps = self(there, output, size, confidence)
            on_host = {name: values.to("cpu", non_blocking=True, copy=True) for name, values in maps.items()}
            return Copies(on_host, started, _moment(self.device))

    def _predicted(
        self, streams: Mapping[str, Tensor], output: str, size: Size | None, confidence: bool
    ) -> dict[str, Tensor]:
        copies = nullcontext() if self._copies is None else self._copies.swapped_in()
        with copies, torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            if not confidence:
                return {"label": self.segmentor.predict(streams, output, size).to(torch.uint8)}
            label, probability = self.segmentor.predict_with_confidence(streams, output, size)
            return {"label": label.to(torch.uint8), "confidence": probability}

    def _on_device(self) -> AbstractContextManager:
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _run_or_record(self, key: Hashable, part: Part, streams: Mapping[str, Tensor]) -> dict[str, Tensor]:
        is_new = key not in self._met
        try:
            plain = part(streams) if is_new else self._recorder.warm_up(part, streams)
        except torch.OutOfMemoryError:
            if is_new and not self._records:
                raise
            plain = None
        if plain is None:
            # outside of the handler, whose error would keep the memory
            self._stop("out of memory beside the records")
            return part(streams)
        if is_new:
            self._met[key] = None
            if len(self._met) > MOST_SIZES:
                self._met.popitem(last=False)
        else:
            self._record(key, part, streams, plain)
        return plain

    def _record(self, key: Hashable, part: Part, streams: Mapping[str, Tensor], plain: dict[str, Tensor]) -> None:
        """Record a prediction whose plain result is known, and keep the record if its replay gives that too."""
        try:
            # zeros: the replay then shows that the record reads the inputs of the call
            record = self._recorder.record(part, map_tensors(torch.zeros_like, streams))
            agrees = _agree(plain, _replayed(record, streams))
            why = "" if agrees else "a replayed prediction differs from the plain one"
        except torch.OutOfMemoryError:
            why = "out of memory while a prediction is recorded"
        except RuntimeError as error:
            why = f"a prediction cannot be recorded ({str(error).partition(chr(10))[0] or type(error).__name__})"
        if why:
            record = None
            self._stop(why)
            return
        self._records[key] = record
        del self._met[key]
        if len(self._records) > MOST_RECORDS:
            self._records.popitem(last=False)

    def _stop(self, why: str) -> None:
        self._recorder = None
        self._records.clear()
        self._met.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._say(f"CUDA graphs: {why}; predictions run without graphs from now on")


def _replayed(record: Record, streams: Mapping[str, Tensor]) -> dict[str, Tensor]:
    torch._foreach_copy_(flatten(record.inputs), [streams[name] for name in record.inputs])
    record.replay()
    return record.outputs


def _agree(plain: Mapping[str, Tensor], replayed: Mapping[str, Tensor]) -> bool:
    if not torch.equal(plain["label"], replayed["label"]):
        return False
    if "confidence" not in plain:
        return True
    return bool((plain["confidence"] - replayed["confidence"]).abs().max() <= CONFIDENCE_TOLERANCE)


class Copies:
    """Maps on their way to the host.

    Args:
        maps: tensors on the host by name, complete when ``ended`` is reached.
        started, ended: events of the GPU, or times in seconds.
    """

    def __init__(self, maps: Mapping[str, Tensor], started: Any, ended: Any) -> None:
        self._maps, self._started, self._ended = maps, started, ended

    def arrays(self) -> dict[str, np.ndarray]:
        """The maps by name, (B, H, W) each; waits for them."""
        if isinstance(self._ended, torch.cuda.Event):
            self._ended.synchronize()
        # pinned memory is scarce: it is given back with this object
        return {name: values.numpy().copy() for name, values in self._maps.items()}

    @property
    def seconds(self) -> float:
        """Time that the prediction and the copies took, once they are done."""
        if isinstance(self._ended, torch.cuda.Event):
            return self._started.elapsed_time(self._ended) / 1000
        return self._ended - self._started


def _moment(device: torch.device) -> Any:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on its way to a device; only a copy from pinned memory is not waited for."""
    if device.type == "cuda" and tensor.device.type == "cpu" and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def one_behind(begun: Iterable[Callable[[], Outcome]]) -> Iterator[Outcome]:
    """Outcomes of work that was begun, each asked for when the next has begun too."""
    previous = None
    for finish in begun:
        if previous is not None:
            yield previous()
        previous = finish
    if previous is not None:
        yield previous()
