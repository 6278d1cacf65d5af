"""File layouts of Cityscapes and Dark Zurich. Imports no torch, since checks of a data root use them too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmseg.io.files import visible


@dataclass(frozen=True)
class FolderLayout:
    """Layout of a data set: ``<root>/<folder of the split>/<sequence>/<name><suffix>``.

    Attributes:
        images, labels: folder of a split below the root, with ``{split}`` in it.
        image_suffix, label_suffix: end of a file name, extension included.
    """

    images: str
    labels: str
    image_suffix: str
    label_suffix: str

    def image_folder(self, root: Path, split: str) -> Path:
        """Folder that holds the sequences of a split."""
        return root / self.images.format(split=split)

    def names(self, root: Path, split: str) -> list[str]:
        """Names ``<sequence>/<name>`` of the images of a split, sorted by sequence and file name."""
        found = visible(self.image_folder(root, split), f"*/*{self.image_suffix}")
        return [f"{path.parent.name}/{path.name.removesuffix(self.image_suffix)}" for path in found]

    def image(self, root: Path, split: str, name: str) -> Path:
        """Image file of a name."""
        return self.image_folder(root, split) / f"{name}{self.image_suffix}"

    def label(self, root: Path, split: str, name: str) -> Path:
        """Train id map of a name."""
        return root / self.labels.format(split=split) / f"{name}{self.label_suffix}"


CITYSCAPES = FolderLayout("leftImg8bit/{split}", "gtFine/{split}", "_leftImg8bit.png", "_gtFine_labelTrainIds.png")
# Input of the Image Motion-Extractor in Cityscapes: return_GI_or_IC -> folder that takes the place of leftImg8bit.
MOTION_FOLDERS = {"image_change": "leftImg8bit_IC1", "gray_image": "leftImg8bit"}

DARK_ZURICH = FolderLayout("rgb_anon/{split}/night", "gt/{split}/night", "_rgb_anon.png", "_gt_labelTrainIds.png")
DARK_ZURICH_SPLITS = ("train", "val", "test")


def dark_zurich_split(split: str | None, test_mode: bool) -> str:
    """Split of a Dark Zurich section: the one it names, else ``val`` for a test and ``train`` for a training."""
    return split or ("val" if test_mode else "train")
