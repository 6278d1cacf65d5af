"""All checks that a config asks for, quick (names and headers) or deep (everything is read)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg.checks.cityscapes import check_cityscapes, check_statistics, cityscapes_files, compare_statistics
from mmseg.checks.dark_zurich import check_dark_zurich, dark_zurich_files
from mmseg.checks.dsec import FrameList, check_test_classes
from mmseg.checks.findings import Finding, judged
from mmseg.checks.images import ImageContent, ImageFiles, ImageTask, content_findings, read_image
from mmseg.checks.recordings import EventTask, check_recordings, event_findings, read_events
from mmseg.config.arguments import with_defaults
from mmseg.config.dotted import get_key
from mmseg.config.named_files import named_weights
from mmseg.errors import ConfigError, did_you_mean
from mmseg.io.file_work import run_tasks
from mmseg.registry import DATASETS

SECTIONS = ("data.train.source", "data.train.target", "data.val", "data.test")
# The first bytes of what torch.save writes: a zip archive, or a pickle of older versions.
WEIGHT_STARTS = (b"PK\x03\x04", b"\x80")


def check_data(config: Config, subset: bool = False, deep: bool = False, nproc: int = 1) -> list[Finding]:
    """Check every file that a training with a config needs.

    Args:
        config: as loaded by :func:`mmseg.config.load.load_config`, paths set.
        subset: numbers and sizes other than those of the published data are meant.
        deep: read all pixels and events too.
        nproc: number of processes for that.

    Raises:
        ConfigError: the config names no data set, or one that there is none of.
    """
    findings: list[Finding] = []
    files: dict[str, ImageFiles] = {}
    lists: list[FrameList] = []
    sections = _sections(config)
    for kind, settings, training in sections:
        if kind == "DSECDataset":
            lists.append(FrameList(settings, training))
            findings += lists[-1].check(subset)
            own = lists[-1].image_files()
        else:
            find, check = {
                "CityscapesICDataset": (cityscapes_files, check_cityscapes),
                "DarkZurichICDataset": (dark_zurich_files, check_dark_zurich),
            }[kind]
            own = find(settings)
            findings += check(settings, own, subset)
        files |= {images.title: images for images in own}
    source = next((settings for kind, settings, _ in sections if kind == "CityscapesICDataset"), None)
    sampling = get_key(config, "data.train.rare_class_sampling") if source else None
    statistics = Path(get_key(config, "data.train.source_json_root") or "")
    if sampling:
        findings += check_statistics(statistics, source, sampling)
    frames = [frame for a in lists if "events_vg" in a.settings["outputs"] for frame in a.frames]
    recordings, events = check_recordings(frames, deep) if frames else ([], [])
    findings += [*recordings, *_check_weights(config)]
    if deep:
        findings += _read_everything(list(files.values()), events, nproc, statistics if sampling else None, subset)
    return findings


def _sections(config: Config) -> list[tuple[str, dict[str, Any], bool]]:
    """Type, settings with their defaults, and whether it trains, of every data section; equal ones once."""
    found: list[tuple[str, dict[str, Any], bool]] = []
    for name in SECTIONS:
        section = get_key(config, name)
        if not section:
            continue
        kind = section.get("type")
        component = DATASETS.get(kind) if kind else None
        if component is None or kind == "UDADataset":
            known = sorted(set(DATASETS.module_dict) - {"UDADataset"})
            raise ConfigError(f"{name}.type is {kind!r}{did_you_mean(str(kind), known)}; known: {', '.join(known)}")
        entry = (kind, with_defaults(component, section, name), name == SECTIONS[1])
        if entry not in found:
            found.append(entry)
    if not found:
        raise ConfigError("the config has no data section; take one of configs/ as a base")
    return found


def _check_weights(config: Config) -> list[Finding]:
    """Check that the weight files of a config are there and look like weights."""
    findings = []
    for key, value, remedy in named_weights(config):
        try:
            with open(value, "rb") as file:
                start = file.read(4)
            found = "there" if start.startswith(WEIGHT_STARTS) else f"a file that starts with {start!r}"
        except OSError as error:
            found = (error.strerror or str(error)).lower()
        findings.append(judged(f"weights: {key}", found, "a weight file", found == "there", remedy, (value,)))
    return findings


def _read_everything(
    files: Sequence[ImageFiles], events: Sequence[EventTask], nproc: int, statistics: Path | None, subset: bool
) -> list[Finding]:
    """Read all images and events, and compare the class statistics with the label maps."""
    findings: list[Finding] = []
    for images in files:
        tasks = [ImageTask(path, images.kind) for path in images.paths if path.is_file()]
        outcomes = list(run_tasks(read_image, tasks, nproc, images.title))
        findings += content_findings(images, outcomes)
        read = {task.path: content.values for task, content in outcomes if isinstance(content, ImageContent)}
        if images.title.startswith("Cityscapes") and images.kind == "label" and statistics is not None:
            findings += compare_statistics(statistics, read)
        if images.title == "DSEC test labels":
            total: Counter[int] = Counter()
            for values in read.values():
                total.update(values)
            findings.append(check_test_classes("DSEC test", total, subset))
    if events:
        findings += event_findings(list(run_tasks(read_events, events, nproc, "events")))
    return findings


def summary(config_path: Path, root: Path | None, deep: bool, subset: bool) -> Mapping[str, object]:
    """What was checked, for the JSON file."""
    return {
        "config": config_path.as_posix(),
        "root_path": None if root is None else root.as_posix(),
        "mode": "deep" if deep else "quick",
        "subset": subset,
    }
