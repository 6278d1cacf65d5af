"""An encoder, a fusion module, a data set and a training variant, registered without a change to CMDA."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmseg.config.uda import UDASettings
from mmseg.datasets.dark_zurich import DarkZurichICDataset
from mmseg.datasets.layouts import FolderLayout
from mmseg.registry import BACKBONES, DATASETS, FUSION_MODULES
from mmseg.uda.streams import CITYSCAPES, DARK_ZURICH, Passes, StreamPlan, Variant, register_variant


def _stage(inside: int, outside: int, stride: int) -> nn.Sequential:
    """(B, inside, H, W) -> (B, outside, H / stride, W / stride), rounded up."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, 2 * stride - 1, stride, padding=stride - 1),
        nn.GroupNorm(4, outside),
        nn.GELU(),
        nn.Conv2d(outside, outside, 3, padding=1, groups=outside),
        nn.Conv2d(outside, outside, 1),
    )


@BACKBONES.register_module()
class ConvPyramid(nn.Module):
    """A small convolutional encoder: (B, 3, H, W) -> four maps at strides 4, 8, 16 and 32.

    Group norm, not batch norm, as events and content maps are encoded in one batch.

    Args:
        widths: channels of the four maps, each a multiple of 4.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 160, 256)) -> None:
        super().__init__()
        self.channels = tuple(widths)
        inside = (3, *self.channels[:-1])
        strides = (4, 2, 2, 2)
        self.stages = nn.ModuleList(map(_stage, inside, self.channels, strides))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


@FUSION_MODULES.register_module()
class GatedFusion(nn.Module):
    """Image features plus the second stream's, weighted by a gate that sees both.

    Args:
        in_channels: channels of the four maps of each stream.
        start: share of the second stream before training, in (0, 1).
    """

    def __init__(self, in_channels: Sequence[int], start: float = 0.25) -> None:
        super().__init__()
        self.channels = tuple(in_channels)
        self.gates = nn.ModuleList(nn.Conv2d(2 * channels, channels, 1) for channels in in_channels)
        for gate in self.gates:
            nn.init.zeros_(gate.weight)
            nn.init.constant_(gate.bias, torch.logit(torch.tensor(start)).item())

    def forward(self, image: list[Tensor], events: list[Tensor]) -> list[Tensor]:
        fused = []
        for gate, first, second in zip(self.gates, image, events, strict=True):
            share = gate(torch.cat([first, second], dim=1)).sigmoid()
            fused.append(first + share * (second - first))
        return fused


@DATASETS.register_module()
class NightFolder(DarkZurichICDataset):
    """Night images in ``<root>/images/<split>/<drive>/*.png``, label maps in ``<root>/labels/<split>/<drive>``.

    A class derived from a data set of CMDA has all that training, tests and export need. A data set of another kind
    implements the Protocols of ``mmseg.datasets.base``.
    """

    TITLE = "the drives"
    LAYOUT = FolderLayout("images/{split}", "labels/{split}", ".png", ".png")
    # train ids that our labels never contain: the headline score leaves them out
    ABSENT_CLASSES = (14, 15, 16)


def _image_and_content_map(settings: UDASettings) -> StreamPlan:
    """Image and content map, fused; unlike ``cs2dz_image+raw-isr``, the content map alone has no loss."""
    slots = {"image": "image", "events": "img_self_res"}
    weights = {name: settings.loss_weight[name] for name in ("fusion", "image")}
    return StreamPlan(
        source_keys={name: CITYSCAPES[name] for name in DARK_ZURICH},
        target_keys=DARK_ZURICH,
        passes=lambda _: Passes(slots, "events", slots, "events", weights),
        remixed="img_self_res",
    )


register_variant("my_image+content-map", Variant(_image_and_content_map))
