"""DAFormer decode head (Hoyer et al., CVPR 2022) for one stream, and CMDA's head for up to four streams."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.classes import CLASSES
from mmseg.config.components import DecoderParams
from mmseg.config.fields import parse
from mmseg.models.backbones.mit import to_map, to_tokens
from mmseg.models.kernels import BatchNormReLU, DilatedConv2d, enlarge
from mmseg.registry import HEADS, LOSSES

DECODERS = ("image", "events", "fusion")
# The image's content map (isr) shares encoder and decoder with the events.
DECODER_OF_STREAM = {"image": "image", "events": "events", "fusion": "fusion", "img_self_res": "events"}

EDGE_CLASSES = 2


class ConvBNReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, **conv: Any) -> None:
        super().__init__()
        kind = DilatedConv2d if conv.get("groups", 1) == in_channels else nn.Conv2d
        self.conv = kind(in_channels, out_channels, kernel, bias=False, **conv)
        self.bn = BatchNormReLU(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        # replaces BatchNormReLU in distributed training, without its ReLU
        return F.relu(x) if isinstance(self.bn, nn.SyncBatchNorm) else x


class SeparableConv(nn.Module):
    """Dilated depth-wise 3x3 convolution, then a point-wise one, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvBNReLU(
            in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=in_channels
        )
        self.pointwise_conv = ConvBNReLU(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class SeparableASPP(nn.Module):
    """Atrous spatial pyramid without pooling branch: (B, in_channels, H, W) -> (B, channels, H, W)."""

    def __init__(self, in_channels: int, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.aspp_modules = nn.ModuleList(
            ConvBNReLU(in_channels, channels, 1) if dilation == 1 else SeparableConv(in_channels, channels, dilation)
            for dilation in dilations
        )
        self.bottleneck = ConvBNReLU(len(dilations) * channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            # once, not in each of the modules
            x = x.to(torch.get_autocast_dtype(x.device.type))
        return self.bottleneck(torch.cat([module(x) for module in self.aspp_modules], dim=1))


class LinearEmbed(nn.Module):
    """Point-wise linear layer: (B, in_channels, H, W) -> (B, channels, H, W)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return to_map(self.proj(to_tokens(x)), *x.shape[2:]).contiguous()


def _classifier(channels: int, num_classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class _BaseDAFormerHead(nn.Module):
    """What both heads share: embed each stage, upsample to stride 4, concatenate, fuse, classify."""

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        decoder_params: Mapping[str, Any],
        num_classes: int | None = None,
        in_index: Sequence[int] = (0, 1, 2, 3),
        dropout_ratio: float = 0.1,
        align_corners: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
        loss_decode: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes or len(CLASSES)
        self.in_index = tuple(in_index)
        self.align_corners = align_corners
        self.in_channels = tuple(in_channels)
        self.channels = channels
        self.decoder_params = parse(DecoderParams, "model.decode_head.decoder_params", decoder_params)
        self.loss = LOSSES.build(dict(loss_decode or {"type": "CrossEntropyLoss"}))
        self.dropout = nn.Dropout2d(dropout_ratio)
        self.conv_seg = _classifier(channels, self.num_classes)

    def _make_embed_layers(self) -> nn.ModuleDict:
        dims = self.decoder_params.embed_dims
        return nn.ModuleDict(
            {str(i): LinearEmbed(c, dims) for i, c in zip(self.in_index, self.in_channels, strict=True)}
        )

    def _make_fuse_layer(self) -> nn.Module:
        width = self.decoder_params.embed_dims * len(self.in_index)
        return SeparableASPP(width, self.channels, self.decoder_params.fusion_cfg.dilations)

    def _decode(self, features: Sequence[Tensor], embed_layers: nn.ModuleDict, fuse_layer: nn.Module) -> Tensor:
        size = features[self.in_index[0]].shape[2:]
        embedded = [embed_layers[str(i)](features[i]) for i in self.in_index]
        resized = [x if x.shape[2:] == size else enlarge(x, size, self.align_corners) for x in embedded]
        return fuse_layer(torch.cat(resized, dim=1))


@HEADS.register_module()
class DAFormerHead(_BaseDAFormerHead):
    """Head for one stream: four feature maps -> logits (B, num_classes, H/4, W/4)."""

    def __init__(self, **head: Any) -> None:
        super().__init__(**head)
        self.embed_layers = self._make_embed_layers()
        self.fuse_layer = self._make_fuse_layer()

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.conv_seg(self.dropout(self._decode(features, self.embed_layers, self.fuse_layer)))


@HEADS.register_module()
class DAFormerHeadFusion(_BaseDAFormerHead):
    """Head for the streams image, events, fusion and img_self_res.

    ``decoder_params.share_decoder`` uses one decoder for all streams, ``half_share_decoder`` shares only the
    fuse layer, neither gives each its own. Names in the state dict are the same in all three modes.
    Dropout acts only on the image stream, as in the published training, unless :meth:`separate_classifiers` is called.

    Attributes:
        own_classifiers: whether events and fusion have their own classifiers.
        tested_output: output to test if it is not the usual one: that of the content maps, in the slot of the events.
    """

    def __init__(self, **head: Any) -> None:
        super().__init__(**head)
        share, half = self.decoder_params.share_decoder, self.decoder_params.half_share_decoder
        for decoder in DECODERS:
            first = decoder == DECODERS[0]
            embed = self._make_embed_layers() if first or not share else self.embed_layers_image
            fuse = self._make_fuse_layer() if first or not (share or half) else self.fuse_layer_image
            setattr(self, f"embed_layers_{decoder}", embed)
            setattr(self, f"fuse_layer_{decoder}", fuse)
        self.own_classifiers = False
        self.tested_output: str | None = None

    def separate_classifiers(self, edge_outputs: Collection[str] = ()) -> None:
        """Give the outputs of events and fusion their own classifiers and dropouts.

        Args:
            edge_outputs: outputs that separate edges from the rest, in place of the classes.
        """
        self.own_classifiers = True
        for decoder in ("events", "fusion"):
            classes = EDGE_CLASSES if decoder in edge_outputs else self.num_classes
            setattr(self, f"conv_seg_{decoder}", _classifier(self.channels, classes))
            setattr(self, f"dropout_{decoder}", nn.Dropout2d(self.dropout.p))
        self.tested_output = None if "events" in edge_outputs else "events"

    def _classify(self, decoder: str, decoded: Tensor) -> Tensor:
        if decoder == "image":
            return self.conv_seg(self.dropout(decoded))
        if self.own_classifiers:
            return getattr(self, f"conv_seg_{decoder}")(getattr(self, f"dropout_{decoder}")(decoded))
        return self.conv_seg(decoded)

    def forward(self, features: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        """Map ``{stream: four feature maps}`` to ``{stream: logits (B, num_classes, H/4, W/4)}``."""
        logits = {}
        for stream, maps in features.items():
            decoder = DECODER_OF_STREAM[stream]
            decoded = self._decode(
                maps, getattr(self, f"embed_layers_{decoder}"), getattr(self, f"fuse_layer_{decoder}")
            )
            logits[stream] = self._classify(decoder, decoded)
        return logits
