"""Checks of Dark Zurich: night images and labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.checks.findings import Finding, published_count, unneeded_count
from mmseg.checks.images import ImageFiles, ImageKind, check_image_files
from mmseg.checks.section import SectionCheck
from mmseg.classes import CITYSCAPES_19, ClassSet
from mmseg.datasets.layouts import DARK_ZURICH, dark_zurich_split

PUBLISHED = {"train": 2416, "val": 50, "test": 151}
SIZE = (1920, 1080)


class DarkZurichCheck(SectionCheck):
    """Checks of a section of ``DarkZurichICDataset``."""

    def __init__(self, settings: Mapping[str, Any], training: bool, classes: ClassSet = CITYSCAPES_19) -> None:
        super().__init__(settings, training, classes)
        self.root = Path(settings["dataset_path"])
        self.split = dark_zurich_split(settings["split"], settings["test_mode"])
        self.files = tuple(self._files())

    def _files(self) -> list[ImageFiles]:
        root, split, names = self.root, self.split, DARK_ZURICH.names(self.root, self.split)
        title = f"Dark Zurich {split}"
        remedy = f"extract the archive of the {split} split into {root}"
        images = tuple(DARK_ZURICH.image(root, split, name) for name in names)
        files = [ImageFiles(f"{title} night images", ImageKind.IMAGE, images, remedy, SIZE)]
        if "label" in self.settings["outputs"] and split != "test":
            labels = tuple(DARK_ZURICH.label(root, split, name) for name in names)
            files.append(ImageFiles(f"{title} night labels", ImageKind.LABEL, labels, remedy))
        return files

    def check(self, subset: bool) -> list[Finding]:
        """See :meth:`.SectionCheck.check`."""
        images = self.files[0]
        findings = [published_count(images.title, len(images.paths), PUBLISHED.get(self.split), subset, images.remedy)]
        if images.paths:
            findings += check_image_files(self.files, subset)
        if self.split == "train":
            number = len(DARK_ZURICH.names(self.root, "test"))
            remedy = "extract the archive of the test split, for predictions only: its evaluation server is closed"
            findings.append(unneeded_count("Dark Zurich test night images", number, PUBLISHED["test"], subset, remedy))
        return findings
