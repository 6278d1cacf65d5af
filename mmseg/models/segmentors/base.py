"""Base class of segmentors: the result of a forward pass, and whole-image or sliding-window inference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.registry import Registry
from torch import Tensor, nn

from mmseg.config.arguments import arguments_of
from mmseg.config.components import PredictionMode
from mmseg.config.fields import parse
from mmseg.errors import ConfigError
from mmseg.models.losses import resize_logits


@dataclass
class SegmentorOutput:
    """Logits (B, classes, H/4, W/4) and the four feature maps of each stream that was computed."""

    logits: dict[str, Tensor]
    features: dict[str, list[Tensor]]


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Start of every window so that windows of ``window`` pixels at ``stride`` cover ``length`` pixels."""
    if window >= length:
        return [0]
    starts = list(range(0, length - window, stride))
    return [*starts, length - window]


def with_channels(section: Mapping[str, Any], registry: Registry, channels: Sequence[int]) -> dict[str, Any]:
    """Config of a component; where it leaves ``in_channels`` open and the component has them, those of the encoder.

    Args:
        section: config of the component, with its ``type``.
        registry: that of the component.
        channels: channels of the encoder's four maps.
    """
    section = dict(section)
    component = registry.get(section["type"])
    if component is not None and "in_channels" in arguments_of(component) and section.get("in_channels") is None:
        section["in_channels"] = tuple(channels)
    return section


def check_channels(key: str, channels: Sequence[int], decode_head: Mapping[str, Any]) -> None:
    """Check that the channels of a component are those that the head expects.

    Raises:
        ConfigError: naming both keys.
    """
    if "in_channels" not in decode_head:
        raise ConfigError("model.decode_head has no in_channels; give the channels of the encoder's four feature maps")
    given, wanted = tuple(channels), tuple(decode_head["in_channels"])
    if given != wanted:
        raise ConfigError(
            f"{key} has the channels {given}, model.decode_head.in_channels is {wanted}; set them to the same "
            "values (and in_channels of the fusion modules)"
        )


class BaseSegmentor(nn.Module, ABC):
    """A network that maps input streams to the logits of its outputs.

    Args:
        test_cfg: fields of :class:`PredictionMode`, as in the config.

    Attributes:
        decode_head: maps features to logits, and holds the loss.
        image_encoder: encoder of the images.
        takes_second_input: whether there is an encoder for events or content maps.
    """

    decode_head: Any
    takes_second_input = False

    @property
    @abstractmethod
    def image_encoder(self) -> nn.Module: ...

    def __init__(self, test_cfg: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.test_cfg = parse(PredictionMode, "model.test_cfg", test_cfg or {})

    @abstractmethod
    def encode(self, streams: Mapping[str, Tensor], fusion: str) -> dict[str, list[Tensor]]:
        """Four feature maps of every stream, in the order in which they are to be decoded."""

    @abstractmethod
    def decode(self, features: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        """Logits (B, classes, H/4, W/4) of every stream."""

    def forward(self, streams: Mapping[str, Tensor], fusion: str = "none") -> SegmentorOutput:
        """Logits and features of every input stream, and of their fusion if there is one.

        Args:
            streams: inputs by stream name, each (B, 3, H, W).
            fusion: how the segmentor fuses them, see its ``encode``.
        """
        features = self.encode(streams, fusion)
        return SegmentorOutput(self.decode(features), features)

    @abstractmethod
    def required_streams(self, output: str) -> tuple[str, ...]:
        """Names of the input streams that an output needs."""

    @abstractmethod
    def output_logits(self, streams: Mapping[str, Tensor], output: str) -> Tensor:
        """Logits (B, classes, H/4, W/4) of one output for the input streams."""

    def predict_logits(self, streams: Mapping[str, Tensor], output: str) -> Tensor:
        """Logits (B, classes, H, W) at the size of the input, whole or by sliding window."""
        if not (self.test_cfg.mode == "slide" and self.test_cfg.crop_size and self.test_cfg.stride):
            return self._resized_logits(streams, output)
        height, width = next(iter(streams.values())).shape[2:]
        crop_h, crop_w = self.test_cfg.crop_size
        stride_h, stride_w = self.test_cfg.stride
        total: Tensor | None = None
        count = torch.zeros(height, width, device=next(iter(streams.values())).device)
        for y in window_starts(height, crop_h, stride_h):
            for x in window_starts(width, crop_w, stride_w):
                window = {k: v[:, :, y : y + crop_h, x : x + crop_w] for k, v in streams.items()}
                logits = self._resized_logits(window, output)
                if total is None:
                    total = logits.new_zeros(*logits.shape[:2], height, width)
                total[:, :, y : y + crop_h, x : x + crop_w] += logits
                count[y : y + crop_h, x : x + crop_w] += 1
        if total is None:
            raise ValueError(f"an image of {height} x {width} pixels has no window")
        return total / count

    def _resized_logits(self, streams: Mapping[str, Tensor], output: str) -> Tensor:
        # 32 bits, whatever format the network computes in
        logits = self.output_logits(streams, output).float()
        return resize_logits(logits, next(iter(streams.values())).shape[2:])

    def _logits_of_size(self, streams: Mapping[str, Tensor], output: str, size: tuple[int, int] | None) -> Tensor:
        logits = self.predict_logits(streams, output)
        return logits if size is None else resize_logits(logits, size)

    # Not inference_mode: values cached for later calls may also be used in training.
    @torch.no_grad()
    def predict(self, streams: Mapping[str, Tensor], output: str, size: tuple[int, int] | None = None) -> Tensor:
        """Class of every pixel, (B, H, W) int64, of one output.

        Args:
            streams: inputs by stream name, each (B, 3, H, W).
            output: name of the output, e.g. ``fusion``.
            size: (H, W) of the result if it differs from the input's; the logits are resized to it.
        """
        return self._logits_of_size(streams, output, size).argmax(dim=1)

    @torch.no_grad()
    def predict_with_confidence(
        self, streams: Mapping[str, Tensor], output: str, size: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Class of every pixel, (B, H, W) int64, and its softmax probability, (B, H, W) float32.

        Args:
            streams, output, size: see :meth:`predict`.
        """
        logits = self._logits_of_size(streams, output, size)
        largest, label = logits.max(dim=1)
        return label, (largest - logits.logsumexp(dim=1)).exp()
