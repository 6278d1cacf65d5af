"""What the parts of a network must have; components from outside are checked against these when they are built.

B is the batch size, H and W the height and width of the input. Every component is also a ``torch.nn.Module``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from mmseg.config.components import PredictionMode
from mmseg.models.segmentors.base import SegmentorOutput


class Encoder(Protocol):
    """An encoder of images, events or content maps (registry ``BACKBONES``)."""

    @property
    def channels(self) -> Sequence[int]:
        """C1..C4, channels of the four feature maps; ``model.decode_head.in_channels`` must be the same."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) float to four maps (B, Ci, H / s, W / s), strides s = 4, 8, 16, 32, rounded up.

        No layer may mix the samples of a batch: events and content maps are encoded in one batch.
        """


class FusionModule(Protocol):
    """Fuses the features of two streams (registry ``FUSION_MODULES``).

    An optional attribute ``channels``, as of an encoder, is compared with the head's.
    """

    def forward(self, image: list[Tensor], events: list[Tensor]) -> list[Tensor]:
        """Map two lists of four maps (B, Ci, Hi, Wi) to one list of the same shapes."""


class Loss(Protocol):
    """A loss of a decode head (registry ``LOSSES``)."""

    def forward(
        self, logits: Tensor, label: Tensor, pixel_weight: Tensor | None = None, class_weight: Tensor | None = None
    ) -> Tensor:
        """Scalar loss of logits (B, classes, h, w) and labels (B, H, W) int64, where 255 is ignored.

        Args:
            pixel_weight: (B, H, W) in [0, 1], or None for 1 everywhere.
            class_weight: (classes,), or None for 1 everywhere.
        """


class DecodeHead(Protocol):
    """Maps features to logits (registry ``HEADS``). Its config has ``in_channels`` and usually ``loss_decode``.

    A head of ``FusionEncoderDecoder`` also has ``own_classifiers`` (bool) and ``tested_output`` (str or None) and, for
    variants with ``own_classifiers``, the method ``separate_classifiers``, see :class:`.DAFormerHeadFusion`.
    """

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def loss(self) -> Any:
        """A :class:`Loss`."""

    def forward(self, features: Any) -> Any:
        """``EncoderDecoder``: four maps -> logits (B, classes, h, w), by default at a quarter of the input's size.

        ``FusionEncoderDecoder``: {stream: four maps} -> {stream: logits}. Called with one stream at a time in training.
        """


class Segmentor(Protocol):
    """A whole network (registry ``SEGMENTORS``); derive it from :class:`.BaseSegmentor`, which predicts and slides."""

    takes_second_input: bool
    decode_head: Any
    test_cfg: PredictionMode

    @property
    def image_encoder(self) -> nn.Module:
        """Encoder of the images."""

    def encode(self, streams: Mapping[str, Tensor], fusion: str) -> dict[str, list[Tensor]]:
        """Four feature maps of every stream (B, 3, H, W), in the order in which they are decoded."""

    def decode(self, features: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        """Logits (B, classes, h, w) of every stream."""

    def forward(self, streams: Mapping[str, Tensor], fusion: str = "none") -> SegmentorOutput:
        """Logits and features of every stream and of their fusion."""

    def required_streams(self, output: str) -> tuple[str, ...]:
        """Names of the input streams that an output needs."""

    def output_logits(self, streams: Mapping[str, Tensor], output: str) -> Tensor:
        """Logits of one output."""

    def predict(self, streams: Mapping[str, Tensor], output: str, size: tuple[int, int] | None = None) -> Tensor:
        """Class of every pixel, (B, H, W) int64."""
