"""Segmentation losses and the accuracy that is logged with them (CMDA, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.errors import ConfigError
from mmseg.registry import LOSSES

IGNORE_INDEX = 255


def resize_logits(logits: Tensor, size: tuple[int, int] | torch.Size, align_corners: bool = False) -> Tensor:
    """Bilinearly resize logits (B, C, h, w) to ``size`` (H, W)."""
    if logits.shape[2:] == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=align_corners)


@LOSSES.register_module()
class CrossEntropyLoss(nn.Module):
    """Per-pixel cross entropy times a pixel weight, averaged over all pixels.

    Ignored pixels count in the average with loss 0, as in the published training.
    """

    def __init__(self, use_sigmoid: bool = False, loss_weight: float = 1.0) -> None:
        super().__init__()
        if use_sigmoid:
            raise ConfigError("loss_decode.use_sigmoid=True is not supported; set it to False")
        self.loss_weight = loss_weight

    def forward(
        self,
        logits: Tensor,
        label: Tensor,
        pixel_weight: Tensor | None = None,
        class_weight: Tensor | None = None,
    ) -> Tensor:
        """Return the scalar loss.

        Args:
            logits: (B, C, h, w); resized to the label.
            label: (B, H, W) int64, 255 is ignored.
            pixel_weight: (B, H, W) in [0, 1], or None for 1 everywhere.
            class_weight: (C,), or None for 1 everywhere.
        """
        logits = resize_logits(logits, label.shape[1:])
        loss = F.cross_entropy(logits, label, class_weight, ignore_index=IGNORE_INDEX, reduction="none")
        if pixel_weight is not None:
            loss = loss * pixel_weight
        return self.loss_weight * loss.mean()


@torch.no_grad()
def pixel_accuracy(logits: Tensor, label: Tensor) -> Tensor:
    """Percentage of all pixels whose class is correct; ignored pixels count as wrong (reference behaviour)."""
    predicted = resize_logits(logits, label.shape[1:]).argmax(dim=1)
    return 100.0 * (predicted == label).float().mean()


def masked_feature_distance(features: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Mean 2-norm over channels between two feature maps where a mask is set (DAFormer, section 3.3).

    Args:
        features, reference: (B, C, h, w).
        mask: (B, 1, h, w) bool.

    Returns:
        Scalar; 0 where the mask is empty (the reference gives NaN there).
    """
    distance = torch.linalg.vector_norm(features - reference, dim=1, keepdim=True)
    # where(), not a product: an infinite distance outside the mask must not turn into NaN.
    return torch.where(mask, distance, 0.0).sum() / mask.sum().clamp(min=1)


def feature_consistency(features: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
    """Sum over the stages of the mean squared difference; no gradient flows into ``reference``."""
    distances = [F.mse_loss(f, r.detach()) for f, r in zip(features, reference, strict=True)]
    return sum(distances[1:], distances[0])


@torch.no_grad()
def edge_label(label: Tensor) -> Tensor:
    """Edges of a label: 1 where the mean of its 3x3 window differs from it, else 0; also 0 next to ignored pixels.

    Args:
        label: (B, H, W) int64, 255 is ignored. The border is replicated, so it is not an edge.

    Returns:
        (B, H, W) int64 of 0 and 1.
    """
    padded = F.pad(label[:, None].float(), (1, 1, 1, 1), mode="replicate")
    # Different means of whole numbers differ by at least a ninth; anything less is rounding.
    differs = (F.avg_pool2d(padded, 3, stride=1) - padded[..., 1:-1, 1:-1])[:, 0].abs() > 0.05
    ignored = F.max_pool2d(padded, 3, stride=1)[:, 0] == IGNORE_INDEX
    return (differs & ~ignored).long()
