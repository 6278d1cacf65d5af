"""Fusion of image features with event (or content) features (CMDA, section 3.4).

Every module maps two lists of four feature maps (B, C_i, H_i, W_i) to one list of the same shapes. In a segmentor,
``in_channels`` is by default that of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.models.backbones.mit import (
    SR_RATIOS,
    Block,
    MixFFN,
    closed,
    draw_paths,
    init_transformer_weights,
    to_map,
    to_tokens,
)
from mmseg.registry import FUSION_MODULES

STAGE_CHANNELS = (64, 128, 320, 512)
FUSION_DROP_PATH = 0.05


def _attention_block(channels: int, stage: int) -> Block:
    return Block(channels, num_heads=1, sr_ratio=SR_RATIOS[stage], drop_path=FUSION_DROP_PATH)


class ResidualBlock(nn.Module):
    """Basic block of ResNet: two 3x3 convolutions with batch norm around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(x + residual)


def _paired_blocks(make_block: Callable[[int, int], nn.Module], channels: Sequence[int]) -> nn.ModuleList:
    """Two blocks per stage: index 2i for the image, 2i+1 for the events."""
    return nn.ModuleList(make_block(c, i) for i, c in enumerate(channels) for _ in range(2))


def _blocks(modules: nn.ModuleList) -> list[Block]:
    return [module for module in modules if isinstance(module, Block)]


@FUSION_MODULES.register_module()
class AttentionAvgFusion(nn.Module):
    """One transformer block per modality, then their mean (the published choice for DSEC)."""

    def __init__(self, in_channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.channels = in_channels = tuple(in_channels or STAGE_CHANNELS)
        self.basic_block = _paired_blocks(_attention_block, in_channels)
        self.apply(init_transformer_weights)

    def forward(self, image: list[Tensor], events: list[Tensor]) -> list[Tensor]:
        fused = []
        kept = draw_paths(_blocks(self.basic_block), image[0])
        for i, pair in enumerate(zip(image, events, strict=True)):
            height, width = pair[0].shape[2:]
            tokens = [
                closed(self.basic_block[2 * i + j](to_tokens(feature), None, height, width, kept[2 * i + j]))
                for j, feature in enumerate(pair)
            ]
            fused.append(to_map((tokens[0] + tokens[1]) / 2, height, width).contiguous())
        return fused


@FUSION_MODULES.register_module()
class AttentionFusion(nn.Module):
    """A transformer block over the concatenated channels, then a Mix-FFN back to C channels."""

    def __init__(self, in_channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.channels = in_channels = tuple(in_channels or STAGE_CHANNELS)
        self.basic_block = nn.ModuleList(_attention_block(2 * c, i) for i, c in enumerate(in_channels))
        self.linear_block = nn.ModuleList(MixFFN(2 * c, c, c) for c in in_channels)
        self.apply(init_transformer_weights)

    def forward(self, image: list[Tensor], events: list[Tensor]) -> list[Tensor]:
        fused = []
        kept = draw_paths(_blocks(self.basic_block), image[0])
        for i, pair in enumerate(zip(image, events, strict=True)):
            height, width = pair[0].shape[2:]
            tokens = to_tokens(torch.cat(pair, dim=1))
            tokens = closed(self.basic_block[i](tokens, None, height, width, kept[i]))
            fused.append(to_map(self.linear_block[i](tokens, height, width), height, width).contiguous())
        return fused


@FUSION_MODULES.register_module()
class AverageFusion(nn.Module):
    """Mean of the two features; without parameters, so for any channels."""

    def forward(self, image: list[Tensor], events: list[Tensor]) -> list[Tensor]:
        return [(a + b) / 2 for a, b in zip(image, events, strict=True)]


@FUSION_MODULES.register_module()
class ConvertAvgFusion(nn.Module):
    """One residual convolution block per modality, then their mean."""

    def __init__(self, in_channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.channels = in_channels = tuple(in_channels or STAGE_CHANNELS)
        self.basic_block = _paired_blocks(lambda channels, _: ResidualBlock(channels), in_channels)

    def forward(self, image: list[Tensor], events: list[Tensor]) -> list[Tensor]:
        pairs = enumerate(zip(image, events, strict=True))
        return [(self.basic_block[2 * i](a) + self.basic_block[2 * i + 1](b)) / 2 for i, (a, b) in pairs]


@FUSION_MODULES.register_module()
class ConcatenateFusion(nn.Module):
    """A 3x3 convolution over the concatenated channels."""

    def __init__(self, in_channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.channels = in_channels = tuple(in_channels or STAGE_CHANNELS)
        self.conv = nn.ModuleList(nn.Conv2d(2 * c, c, 3, padding=1) for c in in_channels)

    def forward(self, image: list[Tensor], events: list[Tensor]) -> list[Tensor]:
        pairs = zip(self.conv, image, events, strict=True)
        return [conv(torch.cat((a, b), dim=1)) for conv, a, b in pairs]


@FUSION_MODULES.register_module()
class FeaturesSplit(nn.Module):
    """Difference of two residual convolution blocks on the image features; the events are not used."""

    def __init__(self, in_channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.channels = in_channels = tuple(in_channels or STAGE_CHANNELS)
        self.basic_block = _paired_blocks(lambda channels, _: ResidualBlock(channels), in_channels)

    def forward(self, image: list[Tensor], events: list[Tensor] | None = None) -> list[Tensor]:
        return [self.basic_block[2 * i](x) - self.basic_block[2 * i + 1](x) for i, x in enumerate(image)]
