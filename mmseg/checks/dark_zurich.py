"""Checks of Dark Zurich: night images and labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.checks.findings import Finding, published_count, unneeded_count
from mmseg.checks.images import ImageFiles, check_image_files
from mmseg.datasets.layouts import DARK_ZURICH, dark_zurich_split

PUBLISHED = {"train": 2416, "val": 50, "test": 151}
SIZE = (1920, 1080)


def _split(settings: Mapping[str, Any]) -> str:
    return dark_zurich_split(settings["split"], settings["test_mode"])


def night_images(root: Path, split: str) -> tuple[Path, ...]:
    """Night images of a split, in order of sequence and name."""
    return tuple(DARK_ZURICH.image(root, split, name) for name in DARK_ZURICH.names(root, split))


def dark_zurich_files(settings: Mapping[str, Any]) -> list[ImageFiles]:
    """Files that the outputs of a section need: images and, where they are asked for, labels."""
    root = Path(settings["dataset_path"])
    split = _split(settings)
    title, images = f"Dark Zurich {split}", night_images(root, split)
    remedy = f"extract the archive of the {split} split into {root}"
    files = [ImageFiles(f"{title} night images", "image", images, remedy, SIZE)]
    if "label" in settings["outputs"] and split != "test":
        labels = tuple(DARK_ZURICH.label(root, split, name) for name in DARK_ZURICH.names(root, split))
        files.append(ImageFiles(f"{title} night labels", "label", labels, remedy))
    return files


def check_dark_zurich(settings: Mapping[str, Any], files: list[ImageFiles], subset: bool) -> list[Finding]:
    """Check names and headers of a section; arguments as in :func:`.check_cityscapes`."""
    images = files[0]
    split = _split(settings)
    findings = [published_count(images.title, len(images.paths), PUBLISHED.get(split), subset, images.remedy)]
    if images.paths:
        findings += check_image_files(files, subset)
    if split == "train":
        number = len(night_images(Path(settings["dataset_path"]), "test"))
        remedy = "extract the archive of the test split; a submission to the evaluation server needs it"
        findings.append(unneeded_count("Dark Zurich test night images", number, PUBLISHED["test"], subset, remedy))
    return findings
