"""Annotated images of Cityscapes: which files exist for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmseg.datasets.layouts import CITYSCAPES
from mmseg.errors import DataError
from mmseg.io.files import visible

SPLITS = ("train", "val", "test")

POLYGONS_SUFFIX = "_gtFine_polygons.json"
LABEL_IDS_SUFFIX = "_gtFine_labelIds.png"
TRAIN_IDS_SUFFIX = CITYSCAPES.label_suffix
# Polygons come first: the reference statistics were made from them, and drawing them takes no longer than decoding a
# label id image (3 to 15 ms either way at 2048x1024).
SOURCE_SUFFIXES = {"polygons": POLYGONS_SUFFIX, "label_ids": LABEL_IDS_SUFFIX}


@dataclass(frozen=True)
class Sample:
    """One annotated image.

    Attributes:
        split: ``train``, ``val`` or ``test``: the folder that it lies in.
        name: ``<city>/<city>_<sequence>_<frame>``, as in the split lists.
        folder: the city folder.
        sources: which of the three suffixes exist for this name.
    """

    split: str
    name: str
    folder: Path
    sources: frozenset[str]

    def path(self, suffix: str) -> Path:
        """Return the file of this sample that ends in ``suffix``."""
        return self.folder / (self.name.rpartition("/")[2] + suffix)

    def source_suffix(self, source: str) -> str:
        """Return the suffix of the file that the train id map is made from.

        Args:
            source: ``polygons``, ``label_ids``, or ``auto``: polygons if they exist, else label ids, else the train id
                map itself.

        Raises:
            DataError: the requested file does not exist.
        """
        if source == "auto":
            order = (*SOURCE_SUFFIXES.values(), TRAIN_IDS_SUFFIX)
            return next(suffix for suffix in order if suffix in self.sources)
        suffix = SOURCE_SUFFIXES[source]
        if suffix not in self.sources:
            raise DataError(f"{self.path(suffix)} does not exist: use --source auto, which takes what is there")
        return suffix


def find_samples(gt_dir: Path) -> dict[str, list[Sample]]:
    """List the samples of every split folder that exists, sorted by name.

    Args:
        gt_dir: folder with ``<split>/<city>/<name>_gtFine_*``.

    Raises:
        DataError: no split folder, or no annotation in any of them.
    """
    if not gt_dir.is_dir():
        raise DataError(f"{gt_dir} is not a folder: extract gtFine_trainvaltest.zip into {gt_dir.parent}")
    samples = {s: _find_split_samples(gt_dir / s, s) for s in SPLITS if (gt_dir / s).is_dir()}
    if not samples:
        raise DataError(
            f"{gt_dir} holds none of the folders {', '.join(SPLITS)}: extract gtFine_trainvaltest.zip "
            f"so that {gt_dir / 'train'} exists, or name the folder above them with --gt-dir"
        )
    if not any(samples.values()):
        raise DataError(
            f"no annotation in {gt_dir}: expected <split>/<city>/*{POLYGONS_SUFFIX}, *{LABEL_IDS_SUFFIX} "
            f"or *{TRAIN_IDS_SUFFIX}"
        )
    return samples


def _find_split_samples(split_dir: Path, split: str) -> list[Sample]:
    samples = []
    for city in visible(split_dir, "*"):
        if not city.is_dir():
            continue
        sources: dict[str, set[str]] = {}
        for file_name in (f.name for f in visible(city, "*")):
            for suffix in (POLYGONS_SUFFIX, LABEL_IDS_SUFFIX, TRAIN_IDS_SUFFIX):
                if file_name.endswith(suffix):
                    sources.setdefault(file_name.removesuffix(suffix), set()).add(suffix)
        samples += [Sample(split, f"{city.name}/{stem}", city, frozenset(s)) for stem, s in sources.items()]
    return sorted(samples, key=lambda sample: sample.name)
