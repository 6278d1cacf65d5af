"""Loading of ImageNet weights into an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from mmseg.errors import CheckpointError, ConfigError
from mmseg.models.backbones.conversion import convert_encoder
from mmseg.models.backbones.mit import MixVisionTransformer
from mmseg.models.backbones.timm_encoder import TimmEncoder
from mmseg.models.weights import check_finite, load_weights_file, report_mismatch


def load_pretrained_encoder(encoder: nn.Module, path: str | Path) -> None:
    """Load an ImageNet file into ``encoder``: its own state dict, as that of the SegFormer authors (``mit_b*.pth``).

    A classifier (``head.*``) is left out; every other key must fit. A MiT encoder also takes the other layouts of
    :mod:`mmseg.models.backbones.conversion`, such as that of Hugging Face.

    Args:
        encoder: the encoder.
        path: path, address or name, see :func:`mmseg.weights.store.local_file`.

    Raises:
        CheckpointError: the file is missing, unreadable or for another encoder.
    """
    weights = load_weights_file(path, hint="docs/weights.md says where to get it")
    weights = {k: v for k, v in weights.items() if not k.startswith("head.")}
    expected = encoder.state_dict()
    if expected.keys().isdisjoint(weights) and isinstance(encoder, MixVisionTransformer):
        weights = _converted(weights, path)
    message = report_mismatch(expected, weights)
    if message:
        raise CheckpointError(
            f"{path} does not fit the encoder {type(encoder).__name__} ({message}); give model.pretrained the "
            f"file of that encoder, or None for random weights"
        )
    check_finite(weights, path, "get the file again")
    encoder.load_state_dict(weights)


def _converted(weights: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    try:
        return convert_encoder(weights).state_dict
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}; give model.pretrained the file of a MiT encoder") from error


def load_pretrained_encoders(encoders: Sequence[nn.Module], path: str | Path) -> None:
    """Load an ImageNet file into the encoders that do not name their own weights, see :func:`load_pretrained_encoder`.

    Raises:
        ConfigError: all encoders name their own.
        CheckpointError: the file cannot be used.
    """
    named_here = [encoder for encoder in encoders if not isinstance(encoder, TimmEncoder)]
    if not named_here:
        raise ConfigError(
            f"model.pretrained is {path}, but encoders of type TimmEncoder read their key weights; set "
            "model.pretrained=None"
        )
    for encoder in named_here:
        load_pretrained_encoder(encoder, path)
