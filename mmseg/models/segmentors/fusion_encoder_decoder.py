"""CMDA's segmentor: an image encoder, an encoder for events and content maps, fusion, one head (section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmseg.errors import ConfigError
from mmseg.models.backbones.pretrained import load_pretrained_encoders
from mmseg.models.concurrency import side_by_side
from mmseg.models.segmentors.base import BaseSegmentor, SegmentorOutput, check_channels, with_channels
from mmseg.registry import BACKBONES, FUSION_MODULES, HEADS, SEGMENTORS

SECOND_STREAMS = ("events", "img_self_res")
FUSION_MODES = ("events", "isr", "all", "none")
OUTPUT_STREAMS: dict[str, tuple[str, ...]] = {
    "fusion": ("image", "events"),
    "image": ("image",),
    "events": ("events",),
    "fusion_isr": ("image", "img_self_res"),
    "fusion_all": ("image", "events", "img_self_res"),
}


@SEGMENTORS.register_module()
class FusionEncoderDecoder(BaseSegmentor):
    """Two encoders, fusion modules and a head for the streams image, events, fusion and img_self_res.

    The content map (``img_self_res``, isr) goes through the encoder of the events.

    Args:
        backbone_image, backbone_events, fusion_module, decode_head: configs of the components.
        fusion_isr_module: config of a second fusion module, for image and isr; None or type '' for none.
        pretrained: file with ImageNet weights for both encoders, or None for random weights.
        backbone, train_type, train_cfg: keys of published configs; not used.
        test_cfg: see :class:`BaseSegmentor`.
    """

    def __init__(
        self,
        backbone_image: Mapping[str, Any],
        backbone_events: Mapping[str, Any],
        fusion_module: Mapping[str, Any],
        decode_head: Mapping[str, Any],
        fusion_isr_module: Mapping[str, Any] | None = None,
        pretrained: str | None = None,
        backbone: Mapping[str, Any] | None = None,
        train_type: str | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(test_cfg)
        self.backbone_image = BACKBONES.build(dict(backbone_image))
        self.backbone_events = BACKBONES.build(dict(backbone_events))
        channels = self.backbone_image.channels
        if decode_head.get("in_channels") is None and tuple(channels) != tuple(self.backbone_events.channels):
            raise ConfigError(
                f"model.backbone_image has the channels {tuple(channels)}, model.backbone_events has "
                f"{tuple(self.backbone_events.channels)}; choose encoders with equal channels"
            )
        decode_head = with_channels(decode_head, HEADS, channels)
        self.fusion_module = FUSION_MODULES.build(with_channels(fusion_module, FUSION_MODULES, channels))
        self.fusion_isr_module: nn.Module | None = None
        if fusion_isr_module and fusion_isr_module["type"]:
            self.fusion_isr_module = FUSION_MODULES.build(with_channels(fusion_isr_module, FUSION_MODULES, channels))
        self.decode_head = HEADS.build(dict(decode_head))
        check_channels("model.backbone_image", self.backbone_image.channels, decode_head)
        check_channels("model.backbone_events", self.backbone_events.channels, decode_head)
        for key in ("fusion_module", "fusion_isr_module"):
            # a module without weights takes any number of channels
            channels = getattr(getattr(self, key), "channels", None)
            if channels is not None:
                check_channels(f"model.{key}", channels, decode_head)
        if pretrained:
            load_pretrained_encoders([self.backbone_image, self.backbone_events], pretrained)

    takes_second_input = True

    @property
    def image_encoder(self) -> nn.Module:
        """Encoder of the images."""
        return self.backbone_image

    def _encode_second(self, streams: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Features of events and isr, in one pass of their encoder unless it has batch norm."""
        present = [name for name in SECOND_STREAMS if name in streams]
        if not present:
            return {}
        if getattr(self.backbone_events, "mixes_samples", False):
            return {name: self.backbone_events(streams[name]) for name in present}
        features = self.backbone_events(torch.cat([streams[name] for name in present]))
        # Not chunk(): an export to any batch size cannot derive its number of parts.
        parts = [stage.unflatten(0, (len(present), -1)) for stage in features]
        return {name: [stage[i] for stage in parts] for i, name in enumerate(present)}

    def _fuse(self, features: Mapping[str, list[Tensor]], mode: str) -> list[Tensor]:
        image = features["image"]
        if mode == "events":
            return self.fusion_module(image, features["events"])
        if self.fusion_isr_module is None:
            raise ValueError(f"fusion mode {mode!r} needs a fusion module for image and isr")
        # The teacher has one second input: if isr was drawn, it fills the slot of the events.
        isr = features["img_self_res"] if "img_self_res" in features else features["events"]
        with_isr = self.fusion_isr_module(image, isr)
        if mode == "isr":
            return with_isr
        with_events = self.fusion_module(image, features["events"])
        return [(a + b) / 2 for a, b in zip(with_events, with_isr, strict=True)]

    def encode(self, streams: Mapping[str, Tensor], fusion: str = "events") -> dict[str, list[Tensor]]:
        """Features of every input stream and of their fusion.

        Args:
            streams: ``image`` and any of ``events``, ``img_self_res``, each (B, 3, H, W).
            fusion: ``events``: fusion module on (image, events); ``isr``: isr fusion module on (image, isr), or on
                (image, events) where there is no isr; ``all``: mean of both; ``none``.
        """
        if fusion not in FUSION_MODES:
            raise ValueError(f"fusion must be one of {FUSION_MODES}, got {fusion!r}")
        image, second = side_by_side(lambda: self.image_encoder(streams["image"]), lambda: self._encode_second(streams))
        features = {"image": image, **second}
        if fusion != "none":
            features["fusion"] = self._fuse(features, fusion)
        # The order in which a shared decoder's batch norm sees the streams is part of the method.
        return {s: features[s] for s in ("image", "events", "fusion", "img_self_res") if s in features}

    def decode(self, features: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        """Logits of the given streams."""
        return self.decode_head(features)

    def forward(self, streams: Mapping[str, Tensor], fusion: str = "events") -> SegmentorOutput:
        return super().forward(streams, fusion)

    def required_streams(self, output: str) -> tuple[str, ...]:
        """Input streams of an output.

        Raises:
            ConfigError: there is no such output.
        """
        if output not in OUTPUT_STREAMS:
            raise ConfigError(f"unknown output {output!r}; known: {', '.join(OUTPUT_STREAMS)}")
        if output in ("fusion_isr", "fusion_all") and self.fusion_isr_module is None:
            raise ConfigError(f"output {output!r} needs model.fusion_isr_module, which this model was trained without")
        untrained = output not in ("image", self.decode_head.tested_output) and self.decode_head.own_classifiers
        if untrained:
            raise ConfigError(
                f"output {output!r} is not trained by the variant of this model; test 'image'"
                + (f" or {self.decode_head.tested_output!r}" if self.decode_head.tested_output else "")
            )
        return OUTPUT_STREAMS[output]

    def output_logits(self, streams: Mapping[str, Tensor], output: str) -> Tensor:
        """Logits of one output: ``image``, ``events``, ``fusion``, ``fusion_isr`` or ``fusion_all``."""
        used = {name: streams[name] for name in self.required_streams(output)}
        if output == "events":
            return self.decode_head(self._encode_second(used))["events"]
        if output == "image":
            return self.decode_head({"image": self.image_encoder(used["image"])})["image"]
        image, second = side_by_side(lambda: self.image_encoder(used["image"]), lambda: self._encode_second(used))
        features = {"image": image, **second}
        mode = {"fusion": "events", "fusion_isr": "isr", "fusion_all": "all"}[output]
        return self.decode_head({"fusion": self._fuse(features, mode)})["fusion"]
