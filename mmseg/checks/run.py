"""All checks that a config needs: quick (names and headers), or deep (everything is read)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg.checks.cityscapes import CityscapesCheck
from mmseg.checks.dark_zurich import DarkZurichCheck
from mmseg.checks.dsec import DSECCheck
from mmseg.checks.findings import NOTE, WRONG, Finding, judged
from mmseg.checks.frames import FramesCheck, ManifestCheck
from mmseg.checks.images import ImageContent, ImageKind, ImageTask, content_findings, read_image
from mmseg.checks.recordings import check_recordings, event_findings, read_events
from mmseg.checks.section import SectionCheck
from mmseg.classes import ClassSet
from mmseg.config.arguments import with_defaults
from mmseg.config.class_sets import class_set_of
from mmseg.config.dotted import get_key
from mmseg.config.named_files import named_weights
from mmseg.datasets.labels import in_published_layout
from mmseg.errors import CheckpointError, ConfigError, did_you_mean
from mmseg.io.file_work import run_tasks
from mmseg.registry import DATASETS
from mmseg.weights.kinds import is_weights
from mmseg.weights.store import stored
from mmseg.weights.table import reference_of

CHECKS: dict[str, type[SectionCheck]] = {
    "CityscapesICDataset": CityscapesCheck,
    "DarkZurichICDataset": DarkZurichCheck,
    "DSECDataset": DSECCheck,
    "FramesDataset": FramesCheck,
}
SECTIONS = ("data.train.source", "data.train.target", "data.val", "data.test")
NOT_DOWNLOADED = "not downloaded yet"


def check_data(config: Config, subset: bool = False, deep: bool = False, nproc: int = 1) -> list[Finding]:
    """Check every file that a training with a config needs.

    Args:
        config: as loaded by :func:`mmseg.config.load.load_config`, with paths set.
        subset: accept numbers and sizes other than those of the published data.
        deep: also read all pixels and events.
        nproc: number of processes for that.

    Raises:
        ConfigError: the config has no data set, or an unknown one.
    """
    findings: list[Finding] = []
    checks = _section_checks(config, class_set_of(config))
    for check in checks:
        findings += check.check(subset)
    source = next((check for check in checks if isinstance(check, CityscapesCheck)), None)
    sampling = get_key(config, "data.train.rare_class_sampling")
    if source is not None and sampling:
        findings += source.check_statistics(Path(get_key(config, "data.train.source_json_root") or ""), sampling)
    lists = [check for check in checks if isinstance(check, DSECCheck)]
    frames = [frame for check in lists if "events_vg" in check.settings["outputs"] for frame in check.frames]
    recordings, events = check_recordings(frames, deep) if frames else ([], [])
    findings += [*recordings, *_check_weights(config)]
    if deep:
        findings += _read_images(checks, nproc, subset)
        if events:
            findings += event_findings(list(run_tasks(read_events, events, nproc, "events")))
        findings += [finding for check in checks for finding in check.check_events()]
    return findings


def check_manifest(
    manifest: Path, classes: ClassSet | None = None, deep: bool = False, nproc: int = 1
) -> list[Finding]:
    """Check all that the lines of a manifest name, without a config.

    Args:
        manifest: see :mod:`mmseg.datasets.manifest`.
        classes: class set that its labels are for; None for that which the manifest names.
        deep, nproc: as in :func:`check_data`.
    """
    check = ManifestCheck(manifest, classes)
    findings = check.check(subset=True)
    if deep:
        findings += [*_read_images([check], nproc, subset=True), *check.check_events()]
    return findings


def _section_checks(config: Config, classes: ClassSet) -> list[SectionCheck]:
    """Checks of every data section; equal sections once."""
    found: list[tuple[str, dict[str, Any], bool]] = []
    for name in SECTIONS:
        section = get_key(config, name)
        if not section:
            continue
        kind = section.get("type")
        if kind not in CHECKS:
            known = ", ".join(sorted(CHECKS))
            raise ConfigError(f"{name}.type is {kind!r}{did_you_mean(str(kind), CHECKS)}; known: {known}")
        entry = (kind, with_defaults(DATASETS.get(kind), section, name), name == "data.train.target")
        if entry not in found:
            found.append(entry)
    if not found:
        raise ConfigError("the config has no data section; use one of configs/ as a base")
    stored = in_published_layout(classes)
    return [
        CHECKS[kind](settings, training, classes if CHECKS[kind] is FramesCheck else stored)
        for kind, settings, training in found
    ]


def _check_weights(config: Config) -> list[Finding]:
    """Check that the weight files of a config exist and look like weights. Nothing is downloaded."""
    findings = []
    for key, value, remedy in named_weights(config):
        found, otherwise = _state_of_weights(value), WRONG
        if found == NOT_DOWNLOADED:
            remedy, otherwise = f"python tools/weights.py fetch {value}, or leave it to the training", NOTE
        findings.append(
            judged(f"weights: {key}", found, "a weight file", found == "there", remedy, (value,), otherwise)
        )
    return findings


def _state_of_weights(value: str) -> str:
    """``there``, :data:`NOT_DOWNLOADED`, or what is wrong with weights given by path, address or name."""
    try:
        reference = reference_of(value)
        known = stored(reference) if reference is not None else None
        if reference is not None and known is None:
            return NOT_DOWNLOADED
        with open(known.path if known is not None else value, "rb") as file:
            start = file.read(9)
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "there" if is_weights(start) else f"a file that starts with {start[:4]!r}"


def _read_images(checks: Sequence[SectionCheck], nproc: int, subset: bool) -> list[Finding]:
    """Read all images, those of several sections once, and check their content."""
    findings: list[Finding] = []
    done: set[tuple[ImageKind, tuple[Path, ...]]] = set()
    for check in checks:
        for images in check.files:
            if (images.kind, images.paths) in done:
                continue
            done.add((images.kind, images.paths))
            tasks = [ImageTask(path, images.kind, check.classes) for path in images.paths if path.is_file()]
            outcomes = list(run_tasks(read_image, tasks, nproc, images.title))
            findings += content_findings(images, outcomes, check.classes)
            if images.kind is ImageKind.LABEL:
                counted = {task.path: read.values for task, read in outcomes if isinstance(read, ImageContent)}
                findings += check.check_labels(counted, subset)
    return findings


def summary(config_path: Path, root: Path | None, deep: bool, subset: bool) -> Mapping[str, object]:
    """Description of what was checked, for the JSON file."""
    return {
        "config": config_path.as_posix(),
        "root_path": None if root is None else root.as_posix(),
        "mode": "deep" if deep else "quick",
        "subset": subset,
    }
