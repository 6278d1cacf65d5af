"""NightCity (Tan et al., TIP 2021), as its two archives unpack, or with images and labels in folders by split."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mmseg.errors import DataError
from mmseg.io.files import visible
from mmseg.io.png_files import make_png, read_png_header
from mmseg.preparation.cityscapes_labels import map_label_ids
from mmseg.preparation.layouts import Selection
from mmseg.preparation.layouts.common import WITHOUT_LABELS, Lines, thinned
from mmseg.preparation.manifests import ManifestContent

IMAGES = ("NightCity-images/images/{split}", "images/{split}", "{split}")
LABELS = ("NightCity-label/label/{split}", "label/{split}", "labels/{split}", "{split}")
# Names of train id maps; that of an image itself is one only in a folder of labels.
TRAIN_IDS = ("_labelTrainIds.png", "_trainIds.png", ".png")
LABEL_IDS = "_labelIds.png"
# What converted label maps say of themselves.
CONVERTED = "train ids of NightCity's label ids"
SUFFIXES_OF_LABELS = (*TRAIN_IDS[:2], LABEL_IDS, "_color.png", "_instanceIds.png")


def find(root: Path, selection: Selection) -> ManifestContent:
    """Images of a split, with labels. Label ids are converted to train ids, in the folder ``selection.converted``.

    Raises:
        DataError: a folder is missing, a label map is damaged, or nothing is left.
    """
    lines = Lines("NightCity")
    folder = _folder(root, IMAGES, selection, "images")
    labels = _folder(root, LABELS, selection, "labels") if selection.labels else None
    images = [path for path in visible(folder, "*.png") if not path.name.endswith(SUFFIXES_OF_LABELS)]
    for image in thinned(images, selection):
        lines.add(image, _label(image, labels, selection.converted) if labels else None)
    return lines.done()


def _folder(root: Path, patterns: tuple[str, ...], selection: Selection, what: str) -> Path:
    tried = [root / pattern.format(split=selection.split) for pattern in patterns]
    for path in tried:
        if path.is_dir():
            return path
    remedy = f", {WITHOUT_LABELS}" if what == "labels" else ""
    raise DataError(
        f"no folder of NightCity's {what}: none of {', '.join(map(str, tried))} exists; extract them{remedy}"
    )


def _label(image: Path, folder: Path, converted: Path) -> Path:
    """Train id map of an image, which may not exist."""
    named = [folder / f"{image.stem}{suffix}" for suffix in TRAIN_IDS]
    found = next((path for path in named if path.is_file() and path != image), None)
    label_ids = folder / f"{image.stem}{LABEL_IDS}"
    if found is not None or not label_ids.is_file():
        return found or named[0]
    target = converted / f"{image.stem}{TRAIN_IDS[0]}"
    make_png(target, read_png_header(label_ids).size, CONVERTED, (label_ids,), partial(map_label_ids, label_ids))
    return target
