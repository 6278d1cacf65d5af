"""Checkpoints: writing them atomically, restoring a training, and loading the student or teacher."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmseg.classes import CITYSCAPES_19, CLASS_SETS, ClassSet
from mmseg.config.kinds import is_number, is_whole
from mmseg.engine.training_state import check_training_state
from mmseg.errors import CheckpointError, DataError, first_line
from mmseg.io.files import atomic_path, write_text
from mmseg.io.json_files import read_json
from mmseg.models.weights import check_finite, has_right_checksums, load_file, report_mismatch, state_dict_in
from mmseg.work_dir.identity import RunIdentity, read_identity
from mmseg.work_dir.layout import PUBLISHED_ITERATION, WorkDir, iteration_of

# Prefixes in the state dict of the training method, as in published checkpoints.
STUDENT, TEACHER = "model.", "ema_model."
COMPANIONS = {
    "model.": "student",
    "ema_model.": "teacher",
    "imnet_model.": "ImageNet encoder",
    "cyclegan_itrd2en.": "style-transfer generator",
}


def save_checkpoint(
    path: Path,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    iteration: int,
    meta: Mapping[str, Any],
    keep: int | None = None,
    scaler: torch.amp.GradScaler | None = None,
    is_own: Callable[[Path], bool] = lambda path: True,
    counts: Callable[[int], bool] = lambda iteration: True,
) -> None:
    """Write a checkpoint of tensors and plain data, then remove the oldest ones beyond ``keep``.

    It contains no random states: every draw of a training is keyed by (seed, iteration, sample).

    Args:
        path: see :meth:`mmseg.work_dir.layout.WorkDir.checkpoint`.
        iteration: number of finished iterations.
        meta: plain data about the run.
        keep: number of checkpoints kept; None keeps all.
        is_own: whether a checkpoint belongs to this run; others are never removed.
        counts: whether the checkpoint of an iteration is one of ``keep``; the next one replaces all others, such as
            those written before an evaluation.

    Raises:
        CheckpointError: the file cannot be written; what was there before is untouched.
    """
    content = {
        "meta": {**meta, "iter": iteration},
        "state_dict": method.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    if scaler is not None:
        content["scaler"] = scaler.state_dict()
    write_checkpoint(path, content)
    if keep and keep > 0:
        earlier = [p for p in WorkDir(path.parent).checkpoints() if iteration_of(p) < iteration and is_own(p)]
        counted = [p for p in earlier if counts(iteration_of(p))]
        room = keep - counts(iteration)
        remove_checkpoints({*earlier} - {*counted[max(0, len(counted) - room) :]})


def remove_checkpoints(paths: Iterable[Path]) -> None:
    """Remove earlier checkpoints; a failure is ignored rather than losing the training."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain data.

    Raises:
        CheckpointError: the file cannot be written; what was there before is untouched.
    """
    try:
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
    # torch's writer only reports that it failed
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or _shortage(path, content) or first_line(error)
        raise CheckpointError(
            f"{path} cannot be written ({why}); free space there. Checkpoints written before are untouched"
        ) from error


def checkpoint_meta(path: Path) -> dict[str, Any] | None:
    """``meta`` of a training checkpoint, without reading its tensors; None if it cannot be read."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        meta = content["meta"]
    except Exception:  # a damaged file can raise anything in torch's reader
        return None
    sound = isinstance(meta, dict) and type(meta.get("iter")) is int and meta["iter"] >= 0
    return meta if sound else None


def _shortage(path: Path, content: Mapping[str, Any]) -> str:
    """Message that the disk has no room for a checkpoint; '' if it has."""
    needed, free = _size(content), shutil.disk_usage(path.parent).free
    return f"it takes {needed / 2**20:.0f} MiB, and {free / 2**20:.0f} MiB are free" if free < needed else ""


def _size(content: Any) -> int:
    """Bytes of the tensors in nested containers."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, (list, tuple)) else ()
    return sum(map(_size, parts))


def save_best(
    work_dir: Path,
    method: nn.Module,
    iteration: int,
    meta: Mapping[str, Any],
    name: str,
    score: float,
    owns: Callable[[Mapping[str, Any]], bool] = lambda meta: True,
) -> bool:
    """Keep student and teacher of an iteration in ``best_<name>_iter_<n>.pth`` if its score is the best so far.

    ``best.json`` records the iteration and its score; the file of the previous best is removed.

    Args:
        name: name of the score, such as ``mIoU``.
        score: in [0, 1], higher is better; NaN is never the best.
        owns: whether a checkpoint belongs to this run, by its ``meta``; others neither compete nor are removed.

    Returns:
        Whether it was kept.

    Raises:
        CheckpointError: the file cannot be written.
    """
    run = WorkDir(work_dir)
    before = _best_before(run)
    if before and not owns({"iter": before["iter"], "run": {"id": before.get("run")}}):
        before = None
    # an iteration that is repeated after a resume only competes with earlier ones
    beaten = before["score"] if before and before["iter"] < iteration and before["name"] == name else -math.inf
    if not score > beaten:
        return False
    path = run.best_checkpoint(name, iteration)
    write_checkpoint(path, {"meta": {**meta, "iter": iteration, name: score}, "state_dict": method.state_dict()})
    known = {"name": name, "score": score, "iter": iteration, "file": path.name}
    known |= {"run": meta["run"]["id"]} if "run" in meta else {}
    try:
        write_text(run.best_record, json.dumps(known) + "\n")
    except OSError as error:
        raise CheckpointError(f"{run.best_record} cannot be written ({error.strerror}); free space there") from error
    others = [old for old in run.best_checkpoints() if old != path]
    remove_checkpoints(old for old in others if (found := checkpoint_meta(old)) is not None and owns(found))
    return True


def _best_before(run: WorkDir) -> dict[str, Any] | None:
    """Record of the best so far; None if there is no valid one."""
    try:
        record = read_json(run.best_record)
    except DataError:
        return None
    usable = is_number(record.get("score")) and is_whole(record.get("iter")) and isinstance(record.get("name"), str)
    return record if usable else None


def checkpoint_to_test(work_dir: str | Path) -> Path:
    """``iter_40000.pth``, or the newest ``iter_*.pth`` if there is none, of the run that the folder belongs to.

    Raises:
        CheckpointError: the folder holds none.
    """
    run = WorkDir(work_dir)
    checkpoints = run.checkpoints()
    if not checkpoints:
        raise CheckpointError(f"{work_dir} holds no checkpoint iter_<n>.pth")
    identity = read_identity(run.path)
    own = [path for path in checkpoints if identity is None or _belongs_to(identity, path)]
    if identity is not None and not own:
        raise CheckpointError(
            f"{work_dir} was started anew at {identity.started} and holds checkpoints of an earlier run only, the "
            f"newest is {checkpoints[-1].name}; test that by name with tools/test.py CONFIG CHECKPOINT"
        )
    return next((path for path in own if iteration_of(path) == PUBLISHED_ITERATION), own[-1])


def _belongs_to(identity: RunIdentity, path: Path) -> bool:
    """Whether a checkpoint belongs to a run. One that cannot be read counts as such: its reader will refuse it."""
    meta = checkpoint_meta(path)
    return meta is None or identity.owns(meta)


@dataclass(frozen=True)
class SegmentorWeights:
    """Weights of one segmentor from a checkpoint, and the number of other weights by the network they belong to."""

    state_dict: dict[str, Tensor]
    left_out: dict[str, int]


def check_class_set(content: Any, path: str | Path, classes: ClassSet) -> None:
    """Refuse a checkpoint of another class set. One that does not name its classes has the 19 of Cityscapes.

    Args:
        content: content of the file.

    Raises:
        CheckpointError: naming the file and both sets.
    """
    meta = content.get("meta") if isinstance(content, Mapping) else None
    names = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        names = CITYSCAPES_19.names
    if tuple(names) == classes.names:
        return
    known = next((repr(known.name) for known in CLASS_SETS.values() if known.names == tuple(names)), "another set")
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    raise CheckpointError(
        f"{path} was trained on the {len(names)} classes of {known} ({listed}), and the config has the {len(classes)} "
        f"of {classes.name!r} ({', '.join(classes.names[:3])}, ...); set 'classes' to the set of the checkpoint, or "
        "take another checkpoint"
    )


def check_classes_of(path: str | Path, classes: ClassSet) -> None:
    """:func:`check_class_set` of a file, without reading its tensors; one that cannot be read is left to the loading.

    Raises:
        CheckpointError: as there.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged file can raise anything in torch's reader
        return
    check_class_set(content, path, classes)


def segmentor_weights(path: str | Path, which: str = "student", classes: ClassSet = CITYSCAPES_19) -> SegmentorWeights:
    """Extract the student or the teacher from a checkpoint of the training method.

    A bare state dict of a segmentor counts as the student.

    Args:
        which: ``student`` or ``teacher``.
        classes: class set that it must have.

    Raises:
        CheckpointError: the file is unreadable, does not contain that model, or has another class set.
    """
    content = load_file(path)
    state = {k.removeprefix("module."): v for k, v in state_dict_in(content, path).items()}
    check_class_set(content, path, classes)
    prefix = TEACHER if which == "teacher" else STUDENT
    if not any(k.startswith(STUDENT) for k in state):
        if which == "teacher":
            raise CheckpointError(f"{path} contains no teacher (no {TEACHER}* names); test the student instead")
        return SegmentorWeights(state, {})
    chosen = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not chosen:
        raise CheckpointError(f"{path} contains no {which} (no {prefix}* names)")
    left_out: dict[str, int] = {}
    for key in state:
        if not key.startswith(prefix):
            name = next((n for p, n in COMPANIONS.items() if key.startswith(p)), key.split(".")[0])
            left_out[name] = left_out.get(name, 0) + 1
    return SegmentorWeights(chosen, left_out)


def load_segmentor(
    model: nn.Module, path: str | Path, which: str = "student", classes: ClassSet = CITYSCAPES_19
) -> SegmentorWeights:
    """Load student or teacher into a segmentor; all names, and the class set, must match.

    Raises:
        CheckpointError: missing or unexpected names, or wrong shapes; the message names the first.
    """
    weights = segmentor_weights(path, which, classes)
    message = report_mismatch(model.state_dict(), weights.state_dict)
    if message:
        raise CheckpointError(
            f"the {which} in {path} does not fit the model of the config ({message}); use the config that the "
            "checkpoint was trained with"
        )
    check_finite(weights.state_dict, path, "take another checkpoint")
    model.load_state_dict(weights.state_dict)
    return weights


def _one_before(path: Path) -> str:
    """Message that names the checkpoint to use in place of an unreadable one; '' if there is none."""
    earlier = [p for p in WorkDir(path.parent).checkpoints() if iteration_of(p) < iteration_of(path)]
    sound = next((p for p in reversed(earlier) if has_right_checksums(p)), None)
    return f"the one before is {sound}" if sound else ""


def _with_settings_of(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Optimiser state of a checkpoint with the settings of the current optimiser.

    Rates and decays come from the config, the choice of kernels from the device: with ``capturable`` or ``fused`` set,
    torch moves the number of updates to the GPU.
    """
    groups = [
        {**group, **{k: v for k, v in own.items() if k != "params"}, "initial_lr": own["lr"]}
        for group, own in zip(saved["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**saved, "param_groups": groups}


def load_training(
    path: str | Path,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
    classes: ClassSet = CITYSCAPES_19,
) -> dict[str, Any]:
    """Restore student, teacher, optimiser and scaler.

    Returns:
        ``meta`` of the checkpoint; ``iter`` in it is the number of finished iterations.

    Raises:
        CheckpointError: the checkpoint is damaged, belongs to another model or class set, or has no optimiser state.
    """
    content = load_file(path, _one_before(Path(path)))
    check_class_set(content, path, classes)
    check_training_state(content, Path(path), method, optimizer)
    try:
        optimizer.load_state_dict(_with_settings_of(optimizer, content["optimizer"]))
        if scaler is not None and "scaler" in content:
            scaler.load_state_dict(content["scaler"])
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"the optimiser state in {path} does not fit ({first_line(error)})") from error
    method.load_state_dict(content["state_dict"])
    return content["meta"]
