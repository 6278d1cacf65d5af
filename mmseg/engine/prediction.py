"""Class maps of a network; on a GPU replayed as CUDA graphs.

A prediction launches thousands of kernels, more slowly than a GPU runs them. Here the whole prediction, from the inputs
to the class of every pixel, is recorded once per input size and replayed with one launch.
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

from mmseg.config.augmentation import TestTimeAugmentation
from mmseg.engine.augmented_prediction import augmented_prediction
from mmseg.engine.graphs import CudaRecorder, Record, Recorder
from mmseg.models.low_precision import MixedPrecision
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.uda.parts import Part, flatten, map_tensors

# Number of records kept; each holds its inputs and outputs, other memory is shared.
MOST_RECORDS = 8
# Number of input sizes seen once that are remembered.
MOST_SIZES = 64
# Largest difference between the confidence (0..1) of a prediction and of its replay.
CONFIDENCE_TOLERANCE = 1e-3

Size = tuple[int, int]
Outcome = TypeVar("Outcome")


def recorder_for(device: torch.device, wanted: Any = "auto") -> Recorder | None:
    """Recorder of predictions on a device; None if they are not recorded.

    Args:
        device: where the network runs.
        wanted: the config key ``cuda_graphs``; False records nothing. Without a GPU nothing is recorded, whatever the
            key says, as a network trained on a GPU may be used without one.
    """
    return CudaRecorder(device) if device.type == "cuda" and wanted is not False else None


class Predictor:
    """Predicts with a segmentor, replaying recorded predictions.

    The first and second inputs of a size are predicted without a graph. The second prediction is also recorded, and
    replayed on the same inputs; if both agree, the record is used from the third inputs on. At most
    :data:`MOST_RECORDS` are kept; the least recently used one is dropped.

    Args:
        segmentor: in eval mode, on ``device``. Its weights must not change while this object is used.
        device: where it runs.
        dtype: number format in which the network multiplies, see :func:`mmseg.engine.numerics.set_precision`; None for
            that of its weights. Resizing and classes stay in 32 bits.
        recorder: records predictions, see :func:`recorder_for`; None records none.
        say: called with one line if nothing is recorded from then on.
        augmentation: test-time augmentation, which is recorded like the rest; None for none.
    """

    def __init__(
        self,
        segmentor: BaseSegmentor,
        device: torch.device,
        dtype: torch.dtype | None = None,
        recorder: Recorder | None = None,
        say: Callable[[str], None] = print,
        augmentation: TestTimeAugmentation | None = None,
    ) -> None:
        self.segmentor, self.device, self.augmentation = segmentor, device, augmentation
        self._recorder, self._say = recorder, say
        self._precision = MixedPrecision(dtype, [segmentor])
        self._records: OrderedDict[Hashable, Record] = OrderedDict()
        self._met: OrderedDict[Hashable, None] = OrderedDict()

    @torch.no_grad()
    def __call__(
        self, streams: Mapping[str, Tensor], output: str, size: Size | None = None, confidence: bool = False
    ) -> dict[str, Tensor]:
        """Maps of one output, on the device; valid until the next call.

        Args:
            streams: inputs on the device by stream name, each (B, 3, H, W).
            output: name of the output, e.g. ``fusion``.
            size: (H, W) of the maps if it differs from the input's.
            confidence: also return the softmax probability of the class; with augmentation, its mean.

        Returns:
            ``label``, (B, H, W) uint8, and if requested ``confidence``, (B, H, W) float32.
        """
        streams = {name: streams[name] for name in self.segmentor.required_streams(output)}
        part = partial(self._predicted, output=output, size=size and (size[0], size[1]), confidence=confidence)
        with self._on_device():
            if self._recorder is None:
                return part(streams)
            shapes = ((name, tuple(stream.shape), stream.dtype) for name, stream in streams.items())
            key = (output, size and tuple(size), confidence, *shapes)
            if key in self._records:
                self._records.move_to_end(key)
                return _replayed(self._records[key], streams)
            return self._run_or_record(self._recorder, key, part, streams)

    def begin(
        self, streams: Mapping[str, Tensor], output: str, size: Size | None = None, confidence: bool = False
    ) -> Copies:
        """Start a prediction of inputs that may be on the host, and the copies of its maps to the host.

        On a GPU, only :meth:`Copies.arrays` waits for them. The arguments are those of calling the object.
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
        with self._precision.weights_of(self.segmentor), self._precision.autocast(self.device):
            if self.augmentation is not None:
                label, probability = augmented_prediction(self.segmentor, streams, output, size, self.augmentation)
            elif not confidence:
                return {"label": self.segmentor.predict(streams, output, size).to(torch.uint8)}
            else:
                label, probability = self.segmentor.predict_with_confidence(streams, output, size)
            return {"label": label.to(torch.uint8), **({"confidence": probability} if confidence else {})}

    def _on_device(self) -> AbstractContextManager:
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _run_or_record(
        self, recorder: Recorder, key: Hashable, part: Part, streams: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        is_new = key not in self._met
        try:
            plain = part(streams) if is_new else recorder.warm_up(part, streams)
        except torch.OutOfMemoryError:
            if is_new and not self._records:
                raise
            plain = None
        if plain is None:
            # outside the handler, whose exception would keep the memory alive
            self._stop("out of memory next to the records")
            return part(streams)
        if is_new:
            self._met[key] = None
            if len(self._met) > MOST_SIZES:
                self._met.popitem(last=False)
        else:
            self._record(recorder, key, part, streams, plain)
        return plain

    def _record(
        self, recorder: Recorder, key: Hashable, part: Part, streams: Mapping[str, Tensor], plain: dict[str, Tensor]
    ) -> None:
        """Record a prediction whose result is known, and keep the record if its replay gives the same result."""
        record, why = _recorded(recorder, part, streams, plain)
        if record is None:
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


def _recorded(
    recorder: Recorder, part: Part, streams: Mapping[str, Tensor], plain: Mapping[str, Tensor]
) -> tuple[Record | None, str]:
    """A record of a prediction whose replay gives the plain result; or None, and why there is none."""
    try:
        # zeros, so that the replay shows whether the record reads the inputs of the call
        record = recorder.record(part, map_tensors(torch.zeros_like, streams))
        if _agree(plain, _replayed(record, streams)):
            return record, ""
        return None, "a replayed prediction differs from the plain one"
    except torch.OutOfMemoryError:
        return None, "out of memory while a prediction is recorded"
    except RuntimeError as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        return None, f"a prediction cannot be recorded ({reason})"


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
    """Maps that are being copied to the host.

    Args:
        maps: tensors on the host by name, complete when ``ended`` is reached.
        started, ended: events of the GPU, or times in seconds.
    """

    def __init__(self, maps: Mapping[str, Tensor], started: Any, ended: Any) -> None:
        self._maps, self._started, self._ended = maps, started, ended

    def arrays(self) -> dict[str, np.ndarray]:
        """The maps by name, (B, H, W) each, once they are complete."""
        if isinstance(self._ended, torch.cuda.Event):
            self._ended.synchronize()
        # pinned memory is scarce: it is freed with this object
        return {name: values.numpy().copy() for name, values in self._maps.items()}

    @property
    def seconds(self) -> float:
        """Duration of the prediction and the copies, once they are done."""
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
    """A tensor that is being copied to a device; only copies from pinned memory are asynchronous."""
    if device.type == "cuda" and tensor.device.type == "cpu" and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def one_behind(begun: Iterable[Callable[[], Outcome]]) -> Iterator[Outcome]:
    """Outcomes of tasks that were started, each awaited only after the next one was started."""
    previous = None
    for finish in begun:
        if previous is not None:
            yield previous()
        previous = finish
    if previous is not None:
        yield previous()
