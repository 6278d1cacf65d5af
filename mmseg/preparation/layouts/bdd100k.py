"""BDD100K (Yu et al., CVPR 2020): labelled images of a list, such as the night images that papers test on."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from mmseg.errors import DataError
from mmseg.io.files import read_text
from mmseg.preparation.layouts import Selection
from mmseg.preparation.layouts.common import Lines, marked_root, thinned
from mmseg.preparation.manifests import ManifestContent

IMAGES, LABELS = "images/10k", "labels/sem_seg/masks"
SPLITS = ("train", "val", "test")
LINE = "a line is [.../<train, val or test>/]<name>.jpg"


def find(root: Path, selection: Selection) -> ManifestContent:
    """Images that a list names, with labels.

    Raises:
        DataError: the list cannot be used, a folder is missing, or nothing is left.
    """
    marked_root(root, IMAGES, "BDD100K")
    lines = Lines("BDD100K", "bdd100k_sem_seg_labels_trainval.zip")
    assert selection.names is not None, "the option is required"
    for split, name in thinned(_read_names(selection.names), selection):
        image = root / IMAGES / (split or _split_of(root, name)) / f"{name}.jpg"
        label = root / LABELS / image.parent.name / f"{name}.png" if selection.labels else None
        lines.add(image, label, name=name)
    return lines.done()


def _read_names(path: Path) -> list[tuple[str, str]]:
    """Split, '' if a line names none, and name of the image of every line."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"--names {path} cannot be read ({reason}); give a text file, {LINE}") from error
    found: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        entry = PurePosixPath(line.strip().replace("\\", "/"))
        if not entry.name:
            continue
        split = entry.parent.name
        if entry.suffix not in ("", ".jpg", ".png") or not entry.stem.isprintable() or split not in ("", *SPLITS):
            raise DataError(f"{path}, line {number}: {line.strip()[:80]!r} does not name an image; {LINE}")
        found.setdefault(entry.stem, (split, entry.stem))
    if not found:
        raise DataError(f"--names {path} names no images; {LINE}")
    return list(found.values())


def _split_of(root: Path, name: str) -> str:
    """Split that has an image; the first one if none has."""
    return next((split for split in SPLITS if (root / IMAGES / split / f"{name}.jpg").is_file()), SPLITS[0])
