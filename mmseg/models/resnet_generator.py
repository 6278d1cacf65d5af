"""Generator that turns a day image change into night-like events (CMDA, section 3.2).

The ResNet generator of CycleGAN (Zhu et al., ICCV 2017) with nine residual blocks. Layers stand in one flat
``nn.Sequential`` because the published weights are named by their position in it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mmseg.errors import CheckpointError
from mmseg.models.weights import check_finite, load_weights_file, report_mismatch

PUBLISHED_WIDTH = 64
LARGEST_WIDTH = 1024


class ResidualBlock(nn.Module):
    """Two reflection-padded 3x3 convolutions with instance norm around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class ResnetGenerator(nn.Module):
    """(B, in_channels, H, W) in [-1, 1] -> (B, out_channels, H, W) in [-1, 1].

    Sides of the output are rounded up to multiples of 4.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 1, width: int = PUBLISHED_WIDTH, blocks: int = 9
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, width, 7),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        for scale in (1, 2):
            layers += [
                nn.Conv2d(width * scale, width * scale * 2, 3, stride=2, padding=1),
                nn.InstanceNorm2d(width * scale * 2),
                nn.ReLU(inplace=True),
            ]
        layers += [ResidualBlock(width * 4) for _ in range(blocks)]
        for scale in (4, 2):
            layers += [
                nn.ConvTranspose2d(width * scale, width * scale // 2, 3, stride=2, padding=1, output_padding=1),
                nn.InstanceNorm2d(width * scale // 2),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    @torch.no_grad()
    def day_events(self, image_change: Tensor) -> Tensor:
        """Event-like map of a day image change, both (B, 3, H, W) in [-1, 1] with equal channels."""
        height, width = image_change.shape[2:]
        events = self(image_change.mean(dim=1, keepdim=True))[:, :, :height, :width]
        return events.repeat(1, 3, 1, 1)


def load_generator(path: str | Path) -> ResnetGenerator:
    """Build the frozen generator from its weights; the published ones are 64 channels wide.

    Args:
        path: path, address or name, see :func:`mmseg.weights.store.local_file`.

    Raises:
        CheckpointError: the file is missing or does not fit.
    """
    weights = load_weights_file(
        path, hint="see docs/weights.md, or set uda.cyclegan_itrd2en_path='' to train without it"
    )
    first = weights.get("model.1.weight")
    width = len(first) if first is not None and first.dim() == 4 else PUBLISHED_WIDTH
    if not 0 < width <= LARGEST_WIDTH:
        raise CheckpointError(f"{path} is not a style-transfer generator of CMDA: it is {width} channels wide")
    generator = ResnetGenerator(width=width)
    message = report_mismatch(generator.state_dict(), weights)
    if message:
        raise CheckpointError(f"{path} is not a style-transfer generator of CMDA ({message})")
    check_finite(weights, path, "get the file again")
    generator.load_state_dict(weights)
    return generator.eval().requires_grad_(False)
