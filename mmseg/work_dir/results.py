"""Where the results of a test go without overwriting those of another test."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmseg.config.load import plain
from mmseg.errors import ConfigError, DataError
from mmseg.io.files import visible, write_text
from mmseg.io.json_files import read_json
from mmseg.work_dir.layout import TestFolder, WorkDir

# Entries of metrics.json that say what was tested, in addition to the name of the checkpoint.
SETTINGS = ("model", "options", "mode", "windows", "precision", "test_set", "tta", "without", "checkpoint_sha256")

# Entries of metrics.json and of a record of pseudo-labels that only name files.
PATHS = ("checkpoint", "config")


@dataclass(frozen=True)
class TestChoices:
    """What a user chooses for a test.

    Attributes:
        model: ``student`` or ``teacher``.
        output: output of the model; None for the default of model and test set.
        split: ``val`` or ``test`` of Dark Zurich, ``train`` for the target of the training; None leaves it to the
            config.
        image_isr: test image and content map, fused (Dark Zurich).
        train_isr_parms: extract content maps as the training did. By default, as in the published tests, they have
            their own parameters.
        cfg_options: dotted key -> value.
        precision: of the network, see :func:`mmseg.engine.numerics.set_precision`.
        manifest: manifest of images to test on; None leaves the test set to the config.
        tta: test-time augmentation by its :attr:`.TestTimeAugmentation.name`; '' for none.
        pseudo_labels: write pseudo-labels, without scores.
        without: modality that zeros replace, ``events`` or ``image``; '' for none.
    """

    __test__ = False  # pytest would collect it by its name

    model: str = "student"
    output: str | None = None
    split: str | None = None
    image_isr: bool = False
    train_isr_parms: bool = False
    cfg_options: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    manifest: str | None = None
    tta: str = ""
    without: str = ""
    pseudo_labels: bool = False


def results_folder(parent: str | Path, choices: TestChoices) -> Path:
    """Default folder for the results of a test: ``preds``, followed by what was chosen.

    Config options are named by a hash; ``metrics.json`` in the folder spells them out.

    Args:
        parent: folder of the checkpoint.
    """
    text = json.dumps(plain(dict(choices.cfg_options)), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:6]
    names = [
        "teacher" if choices.model == "teacher" else None,
        choices.output,
        "image_isr" if choices.image_isr else None,
        "train_isr_parms" if choices.train_isr_parms else None,
        choices.split,
        Path(choices.manifest).stem if choices.manifest else None,
        f"without_{choices.without}" if choices.without else None,
        f"tta_{choices.tta.replace(',', '_')}" if choices.tta else None,
        choices.precision if choices.precision != "fp32" else None,
        "pseudo_labels" if choices.pseudo_labels else None,
        f"options_{digest}" if choices.cfg_options else None,
    ]
    return WorkDir(parent).predictions(tuple(filter(None, names))).path


def is_result_of(folder: str | Path, tested: Mapping[str, Any], output: str) -> bool:
    """Whether a folder holds the complete results of a test; arguments as of :func:`set_aside`."""
    try:
        before, now = read_json(TestFolder(folder).metrics), {**plain(dict(tested)), "output": output}
        # All published runs name their checkpoint iter_40000.pth.
        return _identity(before) == _identity(now) and all(before.get(key) == now.get(key) for key in PATHS)
    except (DataError, ValueError, AttributeError):
        return False


def set_aside(out_dir: str | Path, tested: Mapping[str, Any], output: str) -> Path | None:
    """Rename a folder with the results of another test: another checkpoint, other options or other data.

    Args:
        out_dir: folder for the new results.
        tested: what is tested, as in ``metrics.json``.
        output: tested output.

    Returns:
        The new name of the old results; None if there is nothing to keep.

    Raises:
        ConfigError: the folder also contains other files, or cannot be renamed.
    """
    results = TestFolder(os.path.abspath(out_dir))
    if results.record.is_file():
        return _renamed(results, read_record(results).get("checkpoint"))
    try:
        before = read_json(results.metrics)
        old, new = _identity(before), _identity({**plain(dict(tested)), "output": output})
    except (DataError, ValueError, AttributeError):
        return None
    return None if old == new else _renamed(results, old["checkpoint"])


def set_aside_pseudo_labels(out_dir: str | Path, record: Mapping[str, Any]) -> Path | None:
    """Rename a folder unless it is empty or holds pseudo-labels of the same record; then write the record.

    Args:
        out_dir: folder for the pseudo-labels, created if missing.
        record: what is predicted, as plain data: checkpoint, settings, images.

    Returns:
        The new name of the old results; None if there is nothing to keep.

    Raises:
        ConfigError: the folder also contains other files, or cannot be renamed.
    """
    results = TestFolder(os.path.abspath(out_dir))
    before = read_record(results)
    wanted = json.loads(json.dumps(plain(dict(record)), default=str))
    # One checkpoint may be named by several paths; its content is among the rest.
    if before and all(before.get(key) == value for key, value in wanted.items() if key not in PATHS):
        return None
    kept = None
    if results.path.is_dir() and visible(results.path, "*"):
        kept = _renamed(results, before.get("checkpoint"))
    results.path.mkdir(parents=True, exist_ok=True)
    write_text(results.record, json.dumps(wanted, indent=1) + "\n")
    return kept


def read_record(results: TestFolder) -> dict[str, Any]:
    """Record of the pseudo-labels in a folder; empty if there is none that can be read."""
    try:
        return read_json(results.record)
    except (DataError, ValueError):
        return {}


def _renamed(results: TestFolder, checkpoint: Any) -> Path:
    """Rename a folder of results after their checkpoint.

    Raises:
        ConfigError: it also contains other files, or cannot be renamed.
    """
    out_dir = results.path
    foreign = [path.name for path in visible(out_dir, "*") if not results.holds_result(path)]
    if foreign:
        raise ConfigError(
            f"{out_dir} holds the results of another test, and {foreign[0]}; choose another folder to keep them"
        )
    aside = f"{out_dir.name}_{Path(str(checkpoint or '')).stem or 'before'}"
    names = (out_dir.with_name(f"{aside}{number}") for number in ("", *(f"_{n}" for n in range(2, 10_000))))
    kept = next(path for path in names if not path.exists())
    try:
        out_dir.rename(kept)
    except OSError as error:
        raise ConfigError(f"{out_dir} cannot be renamed ({error.strerror}); choose another folder") from error
    return kept


def _identity(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What was tested, from ``metrics.json``; earlier versions wrote only some of it."""
    known = {key: metrics.get(key) for key in (*SETTINGS, "output")}
    known["options"] = known["options"] or {}
    known["mode"] = known["mode"] or "whole"
    known["precision"] = known["precision"] or "fp32"
    known["tta"] = known["tta"] or ""
    known["without"] = known["without"] or ""
    return json.loads(json.dumps({**known, "checkpoint": Path(str(metrics.get("checkpoint") or "")).name}, default=str))
