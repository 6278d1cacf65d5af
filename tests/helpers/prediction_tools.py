"""Stand-in for what records predictions on a GPU, and a small network."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.uda.parts import flatten


@dataclass
class RunRecord:
    """Runs its part on inputs and outputs at fixed addresses, as a CUDA graph does."""

    part: Any
    inputs: dict
    outputs: dict

    def replay(self):
        for fixed, value in zip(flatten(self.outputs), flatten(self.part(self.inputs)), strict=True):
            fixed.copy_(value)


@dataclass
class BrokenRecord(RunRecord):
    """Replays what it was recorded with, whatever the inputs are."""

    def replay(self):
        pass


class StandIn:
    """Recorder for a CPU.

    Args:
        error: raised by every recording.
        record: class of the records.
    """

    def __init__(self, error=None, record=RunRecord):
        self.error, self.record_class = error, record
        self.warmed_up = 0
        self.records = []

    def warm_up(self, part, inputs):
        self.warmed_up += 1
        return part(inputs)

    def record(self, part, inputs):
        if self.error is not None:
            raise self.error
        record = self.record_class(part, inputs, part(inputs))
        self.records.append(record)
        return record


class TinySegmentor(BaseSegmentor):
    """Two streams, one convolution each; counts its calls. Only predictions are tested."""

    encode = decode = image_encoder = None

    def __init__(self, **test_cfg):
        super().__init__(test_cfg or None)
        torch.manual_seed(0)
        self.image, self.events = (nn.Conv2d(3, 19, 4, 4) for _ in range(2))
        self.calls = 0

    def required_streams(self, output):
        return ("image",) if output == "image" else ("image", "events")

    def output_logits(self, streams, output):
        self.calls += 1
        logits = self.image(streams["image"])
        return logits if output == "image" else logits + self.events(streams["events"])
