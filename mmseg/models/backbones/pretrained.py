"""Loading of ImageNet weights into an encoder."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from mmseg.errors import CheckpointError
from mmseg.models.weights import check_finite, load_weights_file, report_mismatch


def load_pretrained_encoder(encoder: nn.Module, path: str | Path) -> None:
    """Load an ImageNet file of the SegFormer authors (``mit_b*.pth``) into ``encoder``.

    Its classifier (``head.*``) is left out; every other key must fit.

    Raises:
        CheckpointError: the file is missing, unreadable or for another encoder.
    """
    weights = load_weights_file(path, hint="see pretrained/README.md for where to get it")
    weights = {k: v for k, v in weights.items() if not k.startswith("head.")}
    message = report_mismatch(encoder.state_dict(), weights)
    if message:
        raise CheckpointError(
            f"{path} does not fit the encoder {type(encoder).__name__} ({message}); give model.pretrained the "
            f"file of that encoder, or None for random weights"
        )
    check_finite(weights, path, "get the file again")
    encoder.load_state_dict(weights)
