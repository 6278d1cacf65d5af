"""Discriminator that trains the style-transfer generator (CMDA, section 3.2; not part of the published weights).

The 70x70 PatchGAN of pix2pix and CycleGAN (Isola et al., CVPR 2017; Zhu et al., ICCV 2017).
"""

from __future__ import annotations

from torch import Tensor, nn

# Strides of the five 4x4 convolutions: one output sees 70x70 pixels.
STRIDES = (2, 2, 2, 1, 1)
SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """(B, in_channels, H, W) in [-1, 1] -> (B, 1, about H/8 - 2, about W/8 - 2), near 1 where a patch looks real.

    Sides must have at least 24 pixels. :class:`CycleGAN` initialises the weights.
    """

    def __init__(self, in_channels: int = 1, width: int = 64) -> None:
        super().__init__()
        channels = (in_channels, width, width * 2, width * 4, width * 8, 1)
        layers: list[nn.Module] = []
        for i, stride in enumerate(STRIDES):
            layers.append(nn.Conv2d(channels[i], channels[i + 1], 4, stride=stride, padding=1))
            last = i == len(STRIDES) - 1
            if i > 0 and not last:
                layers.append(nn.InstanceNorm2d(channels[i + 1]))
            if not last:
                layers.append(nn.LeakyReLU(SLOPE, inplace=True))
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)
