"""Segmentor with one encoder for one image stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmseg.errors import ConfigError
from mmseg.models.backbones.pretrained import load_pretrained_encoders
from mmseg.models.segmentors.base import BaseSegmentor, check_channels, with_channels
from mmseg.registry import BACKBONES, HEADS, SEGMENTORS


@SEGMENTORS.register_module()
class EncoderDecoder(BaseSegmentor):
    """Encoder and decode head on images only.

    Args:
        backbone, decode_head: configs of the components.
        pretrained: file with ImageNet weights of the encoder, or None for random weights.
        train_type, train_cfg: keys of published configs; not used.
        test_cfg: see :class:`BaseSegmentor`.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        decode_head: Mapping[str, Any],
        pretrained: str | None = None,
        train_type: str | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(test_cfg)
        self.backbone = BACKBONES.build(dict(backbone))
        decode_head = with_channels(decode_head, HEADS, self.backbone.channels)
        self.decode_head = HEADS.build(dict(decode_head))
        check_channels("model.backbone", self.backbone.channels, decode_head)
        if pretrained:
            load_pretrained_encoders([self.backbone], pretrained)

    @property
    def image_encoder(self) -> nn.Module:
        """Encoder of the images."""
        return self.backbone

    def encode(self, streams: Mapping[str, Tensor], fusion: str = "none") -> dict[str, list[Tensor]]:
        """Features of the stream ``image``; the only fusion mode is ``none``."""
        if fusion != "none":
            raise ValueError(f"an image-only segmentor cannot fuse, got fusion={fusion!r}")
        return {"image": self.image_encoder(streams["image"])}

    def decode(self, features: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        """Logits of the stream ``image``."""
        return {"image": self.decode_head(features["image"])}

    def required_streams(self, output: str) -> tuple[str, ...]:
        """Input streams of an output; the only one is ``image``.

        Raises:
            ConfigError: any other output.
        """
        if output != "image":
            raise ConfigError(f"output {output!r} was asked of an image-only model; its only output is 'image'")
        return ("image",)

    def output_logits(self, streams: Mapping[str, Tensor], output: str) -> Tensor:
        self.required_streams(output)
        return self.forward(streams).logits["image"]
