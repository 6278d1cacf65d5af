"""Checks of Cityscapes: images, label maps, image changes, class statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmseg.checks.findings import NOTE, WRONG, Finding, all_of, judged, one_line, published_count, unneeded_count
from mmseg.checks.images import ImageFiles, ImageKind, check_image_files
from mmseg.checks.section import SectionCheck
from mmseg.classes import CITYSCAPES_19, IGNORE_LABEL, ClassSet
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


class CityscapesCheck(SectionCheck):
    """Checks of a section of ``CityscapesICDataset``.

    Attributes:
        statistics: folder of the checked class statistics, to compare label maps with; None before a check.
    """

    def __init__(self, settings: Mapping[str, Any], training: bool, classes: ClassSet = CITYSCAPES_19) -> None:
        super().__init__(settings, training, classes)
        self.statistics: Path | None = None
        self.root, self.split = Path(settings["dataset_path"]), settings["split"]
        self.names = sorted(CITYSCAPES.names(self.root, self.split))
        self.files = tuple(self._files())

    def _files(self) -> list[ImageFiles]:
        root, split, names, outputs = self.root, self.split, self.names, self.settings["outputs"]
        title = f"Cityscapes {split}"
        extract = f"extract leftImg8bit_trainvaltest.zip into {root}"
        images = tuple(CITYSCAPES.image(root, split, name) for name in names)
        files = [ImageFiles(f"{title} images", ImageKind.IMAGE, images, extract, SIZE)]
        if "label" in outputs:
            labels = tuple(CITYSCAPES.label(root, split, name) for name in names)
            files.append(ImageFiles(f"{title} labels", ImageKind.LABEL, labels, CONVERT))
        if "img_time_res" in outputs and self.settings["return_GI_or_IC"] == "image_change":
            folder = root / MOTION_FOLDERS["image_change"] / split
            changes = tuple(folder / (name + CITYSCAPES.image_suffix) for name in names)
            remedy = f"run tools/make_image_change.py {root}, or download leftImg8bit_IC1"
            files.append(ImageFiles(f"{title} image changes", ImageKind.CHANGE, changes, remedy))
        return files

    def check(self, subset: bool) -> list[Finding]:
        """See :meth:`.SectionCheck.check`."""
        images = self.files[0]
        findings = [published_count(images.title, len(images.paths), PUBLISHED.get(self.split), subset, images.remedy)]
        if not images.paths:
            return findings
        findings += check_image_files(self.files, subset)
        if self.split == "train":
            number = len(CITYSCAPES.names(self.root, "val"))
            findings.append(unneeded_count("Cityscapes val images", number, PUBLISHED["val"], subset, images.remedy))
        return findings

    def check_statistics(self, root: Path, sampling: Mapping[str, Any]) -> list[Finding]:
        """Check the class statistics of rare class sampling against the images.

        Args:
            root: folder of the statistics, ``data.train.source_json_root``.
            sampling: ``data.train.rare_class_sampling``.
        """
        self.statistics = root
        findings: list[Finding] = []
        try:
            entries = read_class_pixels(root, self.classes)
        except DataError as error:
            findings.append(_unusable(STATISTICS_FILES[0], error))
        try:
            files_by_class = read_files_by_class(root, self.classes)
        except DataError as error:
            findings.append(_unusable(STATISTICS_FILES[1], error))
        if findings:
            return findings
        known = {file_key(entry["file"]) for entry in entries}
        names = {file_key(CITYSCAPES.label(self.root, self.split, name)) for name in self.names}
        expected = f"the {len(names):,} of the split"
        cases = sorted(known ^ names)
        images = judged("class statistics: images", f"{len(known):,}", expected, known == names, CONVERT, cases)
        least = parse(RareClassSampling, "data.train.rare_class_sampling", sampling).min_pixels
        return [images, *_class_findings(files_by_class, least, self.classes.names)]

    def check_labels(self, counted: Mapping[Path, Mapping[int, int]], subset: bool) -> list[Finding]:
        """Compare the class statistics with the label maps."""
        if self.statistics is None:
            return []
        try:
            entries = read_class_pixels(self.statistics, self.classes)
        except DataError:
            return []  # reported by check_statistics
        stored = {file_key(e["file"]): {int(c): n for c, n in e.items() if c != "file"} for e in entries}
        different = []
        for path, values in counted.items():
            pixels = {value: number for value, number in values.items() if value != IGNORE_LABEL}
            if file_key(path) in stored and stored[file_key(path)] != pixels:
                different.append(path)
        return [all_of("class statistics: pixels", len(counted), different, "as in the label maps", CONVERT)]


def _unusable(name: str, error: DataError) -> Finding:
    case = one_line(error).split(f"; {REMEDY}")[0]
    return Finding(f"class statistics: {name}", "not usable", "usable", WRONG, CONVERT, (case,))


def _class_findings(
    files_by_class: Mapping[int, Sequence[tuple[str, int]]], least: int, names: Sequence[str]
) -> list[Finding]:
    """Classes that no image shows, or none with more than ``least`` pixels."""
    present = [c for c in range(len(names)) if files_by_class.get(c)]
    lacking = [names[c] for c in present if not any(pixels > least for _, pixels in files_by_class[c])]
    remedy = "lower data.train.rare_class_sampling.min_pixels"
    title = f"class statistics: classes with an image of over {least:,} pixels"
    findings = [all_of(title, len(present), lacking, "that occur", remedy)]
    absent = [names[c] for c in range(len(names)) if c not in present]
    if absent:
        remedy = "the source cannot teach these classes; the published Cityscapes has all of them"
        findings.append(all_of("class statistics: classes", len(names), absent, "present", remedy, NOTE))
    return findings
