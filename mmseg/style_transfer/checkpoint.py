"""Checkpoints of a style-transfer training, and the file of the trained generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmseg.engine.training_state import check_training_state
from mmseg.errors import CheckpointError, ConfigError, first_line
from mmseg.io.files import atomic_path
from mmseg.models.resnet_generator import ResnetGenerator
from mmseg.models.weights import check_finite, check_tensors, load_file, report_mismatch
from mmseg.style_transfer.settings import PUBLISHED_FILTERS, StyleTransferSettings

PUBLISHED_NAME = "cityscapes_ICD_to_dsec_EN.pth"
# Names of the discriminators in a module and in checkpoints.
_IN_MODULE, _IN_FILE = "_discriminator.", "_critic."


@dataclass(frozen=True)
class CheckedState:
    """Content of a checkpoint that fits.

    Attributes:
        iteration: number of finished iterations.
        weights: state dict of all networks.
        pools: earlier translations by domain, (N, 1, crop, crop) in [-1, 1].
    """

    iteration: int
    weights: dict[str, Tensor]
    pools: dict[str, Tensor | None]


def saved_weights(model: nn.Module) -> dict[str, Tensor]:
    """State dict of the networks under the names of checkpoints."""
    return {name.replace(_IN_MODULE, _IN_FILE): tensor for name, tensor in model.state_dict().items()}


def checked_state(
    path: Path,
    settings: StyleTransferSettings,
    counts: Mapping[str, int],
    model: nn.Module,
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> CheckedState:
    """Read a checkpoint, restore the optimisers and return the rest.

    Args:
        settings: those of the training now.
        counts: number of training pictures by domain now.

    Raises:
        CheckpointError: it is not of such a training, or damaged.
        ConfigError: settings or pictures have changed, or no iteration is left.
    """
    content = load_file(path)
    parts = ("meta", "state_dict", "optimizer", "pools")
    if not isinstance(content, Mapping) or not all(isinstance(content.get(part), Mapping) for part in parts):
        raise CheckpointError(f"{path} is not a checkpoint of a style-transfer training")
    meta = content["meta"]
    _check_same_training(path, meta, settings, counts)
    weights = {str(name).replace(_IN_FILE, _IN_MODULE): tensor for name, tensor in content["state_dict"].items()}
    for name, optimizer in optimizers.items():
        part = {"meta": meta, "state_dict": weights, "optimizer": content["optimizer"].get(name)}
        check_training_state(part, path, model, optimizer)
    if meta["iter"] >= settings.iterations:
        raise ConfigError(f"{path} is of iteration {meta['iter']}: nothing is left of {settings.iterations}")
    try:
        pools = {name: _checked_pool(content["pools"][name], settings) for name in counts}
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(content["optimizer"][name])
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit ({first_line(error)})") from error
    return CheckedState(meta["iter"], weights, pools)


def _check_same_training(
    path: Path, meta: Mapping[str, Any], settings: StyleTransferSettings, counts: Mapping[str, int]
) -> None:
    earlier, before = (meta[key] if isinstance(meta.get(key), Mapping) else {} for key in ("settings", "pictures"))
    changes = settings.changes(earlier)
    changes += [f"{k} pictures were {before.get(k)}, now {n}" for k, n in counts.items() if before.get(k) != n]
    if changes:
        raise ConfigError(f"{path} is of another training: {'; '.join(changes)}; give another --work-dir")


def _checked_pool(state: Any, settings: StyleTransferSettings) -> Tensor | None:
    """Stored pictures of a checkpoint.

    Raises:
        ValueError: they are not of such a training.
    """
    if state is None:
        return None
    shape = (1, settings.crop, settings.crop)
    if not isinstance(state, Tensor) or tuple(state.shape[1:]) != shape or len(state) > settings.pool:
        raise ValueError("its pools hold no pictures of this training")
    check_tensors({"pool": state}, "the checkpoint")
    check_finite({"pool": state}, "the checkpoint", "start a new run")
    return state


def generator_path(work_dir: Path, filters: int) -> Path:
    """File of the trained generator; only one of the published size gets the published name."""
    return work_dir / (PUBLISHED_NAME if filters == PUBLISHED_FILTERS else f"generator_{filters}_filters.pth")


def save_generator(generator: ResnetGenerator, path: Path) -> None:
    """Write the weights of the generator, under the names and shapes of the published file.

    Raises:
        CheckpointError: ``path`` has the published name, and the generator is not of that size.
    """
    weights = {name: tensor.detach().cpu().clone() for name, tensor in generator.state_dict().items()}
    if path.name == PUBLISHED_NAME:
        with torch.device("meta"):
            message = report_mismatch(ResnetGenerator().state_dict(), weights)
        if message:
            raise CheckpointError(f"{path} must hold the generator of {PUBLISHED_FILTERS} filters ({message})")
    with atomic_path(path) as temporary:
        torch.save(weights, temporary)
