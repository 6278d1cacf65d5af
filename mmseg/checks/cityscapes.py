"""Checks of Cityscapes: images, label maps, image changes, class statistics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.checks.findings import NOTE, Finding, all_of, judged, published_count, unneeded_count
from mmseg.checks.images import ImageFiles, check_image_files
from mmseg.classes import CLASSES, IGNORE_LABEL
from mmseg.config.components import RareClassSampling
from mmseg.config.fields import parse
from mmseg.datasets.class_statistics import (
    REMEDY,
    STATISTICS_FILES,
    file_key,
    read_class_pixels,
    read_files_by_class,
)
from mmseg.datasets.layouts import CITYSCAPES, MOTION_FOLDERS
from mmseg.errors import DataError

PUBLISHED = {"train": 2975, "val": 500}
SIZE = (2048, 1024)
CONVERT = "run tools/convert_datasets/cityscapes.py on the Cityscapes folder"


def cityscapes_files(settings: Mapping[str, Any]) -> list[ImageFiles]:
    """Files that the outputs of a source section need."""
    root, split = Path(settings["dataset_path"]), settings["split"]
    title, names = f"Cityscapes {split}", sorted(CITYSCAPES.names(root, split))
    extract = f"extract leftImg8bit_trainvaltest.zip into {root}"
    images = tuple(CITYSCAPES.image(root, split, name) for name in names)
    files = [ImageFiles(f"{title} images", "image", images, extract, SIZE)]
    if "label" in settings["outputs"]:
        labels = tuple(CITYSCAPES.label(root, split, name) for name in names)
        files.append(ImageFiles(f"{title} labels", "label", labels, CONVERT))
    if "img_time_res" in settings["outputs"] and settings["return_GI_or_IC"] == "image_change":
        folder = root / MOTION_FOLDERS["image_change"] / split
        changes = tuple(folder / (name + CITYSCAPES.image_suffix) for name in names)
        remedy = f"run tools/make_image_change.py {root}, or download leftImg8bit_IC1"
        files.append(ImageFiles(f"{title} image changes", "change", changes, remedy))
    return files


def check_cityscapes(settings: Mapping[str, Any], files: list[ImageFiles], subset: bool) -> list[Finding]:
    """Check names and headers of a source section.

    Args:
        settings: arguments of ``CityscapesICDataset``.
        files: of :func:`cityscapes_files`; the first are the images.
        subset: numbers and sizes other than the published are meant.
    """
    images, root, split = files[0], Path(settings["dataset_path"]), settings["split"]
    findings = [published_count(images.title, len(images.paths), PUBLISHED.get(split), subset, images.remedy)]
    if not images.paths:
        return findings
    findings += check_image_files(files, subset)
    if split == "train":
        number = len(CITYSCAPES.names(root, "val"))
        findings.append(unneeded_count("Cityscapes val images", number, PUBLISHED["val"], subset, images.remedy))
    return findings


def check_statistics(root: Path, settings: Mapping[str, Any], sampling: Mapping[str, Any]) -> list[Finding]:
    """Check the class statistics of rare class sampling against the images.

    Args:
        root: folder of the statistics, ``data.train.source_json_root``.
        settings: arguments of ``CityscapesICDataset``.
        sampling: ``data.train.rare_class_sampling``.
    """
    findings, contents = [], []
    for name, read in zip(STATISTICS_FILES, (read_class_pixels, read_files_by_class), strict=True):
        try:
            contents.append(read(root))
        except DataError as error:
            case = str(error).split(f"; {REMEDY}")[0]
            findings.append(Finding(f"class statistics: {name}", "not usable", "usable", "wrong", CONVERT, (case,)))
    if findings:
        return findings
    entries, files_by_class = contents
    known = {file_key(entry["file"]) for entry in entries}
    by_class = {train_id: [(file_key(f), n) for f, n in files] for train_id, files in files_by_class.items()}
    split = settings["split"]
    root_of_images = Path(settings["dataset_path"])
    names = {file_key(CITYSCAPES.label(root_of_images, split, n)) for n in CITYSCAPES.names(root_of_images, split)}
    findings.append(
        judged(
            "class statistics: images",
            f"{len(known):,}",
            f"the {len(names):,} of the split",
            known == names,
            CONVERT,
            sorted(known ^ names),
        )
    )
    least = parse(RareClassSampling, "data.train.rare_class_sampling", sampling).min_pixels
    present = [c for c in range(len(CLASSES)) if by_class.get(c)]
    lacking = [CLASSES[c] for c in present if not any(n > least for _, n in by_class[c])]
    remedy = "lower data.train.rare_class_sampling.min_pixels"
    title = f"class statistics: classes with an image of over {least:,} pixels"
    findings.append(all_of(title, len(present), lacking, "that occur", remedy))
    absent = [CLASSES[c] for c in range(len(CLASSES)) if c not in present]
    if absent:
        remedy = "the source cannot teach these classes; Cityscapes as published has all"
        findings.append(all_of("class statistics: classes", len(CLASSES), absent, "present", remedy, NOTE))
    return findings


def compare_statistics(root: Path, counted: Mapping[Path, Mapping[int, int]]) -> list[Finding]:
    """Hold the statistics against label maps that were counted.

    Args:
        root: folder of the statistics.
        counted: label map -> pixels by value.
    """
    try:
        entries = read_class_pixels(root)
    except DataError:
        return []  # the quick check has said so
    stored = {file_key(e["file"]): {int(c): n for c, n in e.items() if c != "file"} for e in entries}
    different = []
    for path, values in counted.items():
        pixels = {value: number for value, number in values.items() if value != IGNORE_LABEL}
        if file_key(path) in stored and stored[file_key(path)] != pixels:
            different.append(path)
    return [all_of("class statistics: pixels", len(counted), different, "as in the label maps", CONVERT)]
