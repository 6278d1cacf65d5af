"""ImageNet feature distance (DAFormer, Hoyer et al., CVPR 2022, section 3.3)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.classes import CLASSES
from mmseg.models.losses import IGNORE_INDEX, masked_feature_distance


class ImageNetEncoder(nn.Module):
    """Frozen copy of the image encoder as it was before training, with its ImageNet weights."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(encoder).eval().requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.backbone(image)


def downscale_label(label: Tensor, factor: int, min_ratio: float, num_classes: int = len(CLASSES)) -> Tensor:
    """Majority class of every ``factor`` x ``factor`` cell.

    Args:
        label: (B, 1, H, W) int64, 255 ignored.
        factor: side of a cell; a remainder at the border is dropped.
        min_ratio: smallest share of a cell that its majority needs; otherwise the cell is ignored.
        num_classes: number of classes.

    Returns:
        (B, 1, H // factor, W // factor) int64; the lowest class wins a tie.
    """
    slots = label.masked_fill(label == IGNORE_INDEX, num_classes).squeeze(1)
    shares = F.avg_pool2d(F.one_hot(slots, num_classes + 1).permute(0, 3, 1, 2).float(), factor)
    ratio, majority = shares.max(dim=1, keepdim=True)
    unclear = (majority == num_classes) | (ratio < min_ratio)
    return majority.masked_fill(unclear, IGNORE_INDEX)


@lru_cache(maxsize=8)
def _chosen(classes: tuple[int, ...], device: torch.device) -> Tensor:
    """(256,) bool by class. Cached, since a copy to a GPU would stall the step."""
    table = torch.zeros(256, dtype=torch.bool)
    table[list(classes)] = True
    return table.to(device)


def feature_distance(
    features: Tensor,
    imagenet_features: Tensor,
    label: Tensor,
    classes: Sequence[int] | None,
    min_ratio: float | None,
    num_classes: int,
) -> Tensor:
    """Distance of the student's last features to those of the frozen ImageNet encoder.

    Args:
        features, imagenet_features: (B, C, h, w).
        label: (B, H, W) int64 source label.
        classes: indices of the classes on which the distance is taken; None takes every position.
        min_ratio, num_classes: see :func:`downscale_label`.
    """
    if classes is None:
        mask = torch.ones_like(features[:, :1], dtype=torch.bool)
    else:
        factor = label.shape[1] // features.shape[2]
        cells = downscale_label(label[:, None], factor, min_ratio or 0.0, num_classes)
        mask = _chosen(tuple(classes), cells.device)[cells]
    return masked_feature_distance(features, imagenet_features, mask)
