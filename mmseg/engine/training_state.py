"""Checks on the content of a training checkpoint, made before any of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmseg.config.kinds import Number, Whole, shown
from mmseg.errors import CheckpointError
from mmseg.models.weights import check_finite, check_tensors, is_state_dict, report_mismatch

ITERATION = Whole(0, 10**12)
SCALE = Number(0, 2.0**127, above=True)
# State that an optimiser always keeps per parameter.
MOMENTS: dict[type, tuple[str, ...]] = {
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.SGD: (),
}
# Moments that are means of squares.
SQUARES = ("exp_avg_sq", "max_exp_avg_sq")
PARTS = ("meta", "state_dict", "optimizer")


def check_training_state(content: Any, path: Path, method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Refuse checkpoints of another training, and values that would corrupt this one.

    Args:
        content: content of the file.
        path: path of the file, for messages.
        method: the networks that will load it.
        optimizer: their optimiser.

    Raises:
        CheckpointError: the message names the file and the part.
    """
    whole = isinstance(content, Mapping) and all(isinstance(content.get(part), Mapping) for part in PARTS)
    if not whole or "iter" not in content["meta"]:
        raise CheckpointError(f"{path} is not a training checkpoint; to start from its weights, use load_from")
    if not ITERATION.accepts(content["meta"]["iter"]):
        raise CheckpointError(
            f"{path} has the iteration {shown(content['meta']['iter'])}, not {ITERATION.text}; get it again"
        )
    if not is_state_dict(content["state_dict"]):
        raise CheckpointError(f"{path} holds no state dict (names with tensors)")
    check_tensors(content["state_dict"], path)
    message = report_mismatch(method.state_dict(), content["state_dict"])
    if message:
        raise CheckpointError(f"{path} does not fit the model of the config ({message})")
    check_finite(content["state_dict"], path, "take an earlier checkpoint")
    _check_optimizer(content["optimizer"], path, optimizer)
    if "scaler" in content:
        _check_scaler(content["scaler"], path)


def _check_optimizer(saved: Mapping[str, Any], path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Check that groups and parameters match the optimiser, and moments the shapes of the parameters."""
    groups, state = saved.get("param_groups"), saved.get("state")
    if not isinstance(groups, list) or not isinstance(state, Mapping):
        raise _unfit(path, "it has no groups or no state")
    numbers = [group.get("params") if isinstance(group, Mapping) else None for group in groups]
    lists = [n for n in numbers if isinstance(n, list)]
    lengths = [len(n) if isinstance(n, list) else None for n in numbers]
    own = [len(group["params"]) for group in optimizer.param_groups]
    if lengths != own:
        raise _unfit(path, f"it has {shown(lengths)} parameters by group, the config's has {shown(own)}")
    parameters: dict[Any, Tensor] = {}
    for listed, group in zip(lists, optimizer.param_groups, strict=True):
        if not all(isinstance(n, int) for n in listed):
            raise _unfit(path, "its parameters have no numbers")
        parameters |= dict(zip(listed, group["params"], strict=True))
    if len(parameters) != sum(own):
        raise _unfit(path, "it lists a parameter twice")
    for number, moments in state.items():
        if number not in parameters or not isinstance(moments, Mapping):
            raise _unfit(path, f"it has moments of {shown(number)}, which is not a parameter")
        _check_moments(moments, parameters[number], f"moments of parameter {number}", path, type(optimizer))


def _check_moments(moments: Mapping[str, Any], parameter: Tensor, what: str, path: Path, kind: type) -> None:
    missing = [name for name in MOMENTS.get(kind, ()) if name not in moments]
    if missing:
        raise _unfit(path, f"the {what} lack {', '.join(missing)}")
    tensors = {}
    for name, value in moments.items():
        if isinstance(value, Tensor):
            tensors[f"{name} of the {what}"] = value
            wanted = () if name == "step" else tuple(parameter.shape)
            if name == "step" and value.numel() == 1:
                wanted = tuple(value.shape)
            if tuple(value.shape) != wanted:
                raise _unfit(path, f"{name} of the {what} has the shape {tuple(value.shape)} instead of {wanted}")
        elif value is not None and not ITERATION.accepts(value):
            raise _unfit(path, f"{name} of the {what} is {shown(value)}")
    check_tensors(tensors, path)
    check_finite(tensors, path, "take an earlier checkpoint")
    for name in ("step", *SQUARES):
        value = moments.get(name)
        if isinstance(value, Tensor) and value.numel() and value.min() < 0:
            raise _unfit(path, f"{name} of the {what} is negative")


def _check_scaler(saved: Any, path: Path) -> None:
    if not isinstance(saved, Mapping) or (saved and not SCALE.accepts(saved.get("scale"))):
        raise CheckpointError(f"the scaler's state in {path} is {shown(saved)}, without a scale above 0; get it again")


def _unfit(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"the optimiser state in {path} does not fit ({why}); take an earlier checkpoint")
