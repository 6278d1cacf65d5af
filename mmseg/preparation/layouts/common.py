"""What the layouts share: files that must lie in the data set, and images with labels next to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from mmseg.datasets.layouts import FolderLayout
from mmseg.errors import DataError
from mmseg.io.files import visible
from mmseg.preparation.layouts import Selection
from mmseg.preparation.manifests import NO_IMAGE, NO_LABEL, ManifestContent

Item = TypeVar("Item")
WITHOUT_LABELS = "or give --without-labels, since a target needs none"


def marked_root(root: Path, marker: str, title: str) -> Path:
    """A file or folder that every copy of a data set has.

    Raises:
        DataError: it is missing; the message names a folder nearby that has it.
    """
    path = root / marker
    if path.exists():
        return path
    near = [parent for parent in (*root.resolve().parents[:2], *visible(root, "*")) if (parent / marker).exists()]
    hint = f"; {near[0]} has it" if near else ""
    raise DataError(f"{path} does not exist; give the folder of {title} that holds {marker}{hint}")


def inside(root: Path, relative: str, where: str) -> Path:
    """A path that a file of a data set names.

    Raises:
        DataError: it leads out of the data set.
    """
    path = PurePosixPath(relative.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in relative:
        raise DataError(f"{where} is {relative!r}, which is not a path in the data set; download the file again")
    return root.joinpath(*path.parts)


def thinned(items: Sequence[Item], selection: Selection) -> Sequence[Item]:
    """Items of one sequence without those that ``--skip`` and ``--every`` leave out."""
    return items[selection.skip :: selection.every]


class Lines:
    """Collects the lines of a manifest, and leaves out images whose files are not there.

    Args:
        title: name of the data set, for messages.
        labels_from: what to download for labels.
    """

    def __init__(self, title: str, labels_from: str = "") -> None:
        self.content = ManifestContent()
        self.title, self.labels_from = title, labels_from
        self._missing: dict[str, Path] = {}

    def add(self, image: Path, label: Path | None = None, **keys: Any) -> None:
        """Add an image, if its files are there.

        Args:
            image: image file.
            label: its label map; None for none.
            keys: further keys of the line; None for those that it does not have.
        """
        for path, reason in ((image, NO_IMAGE), (label, NO_LABEL)):
            if path is not None and not path.is_file():
                self.content.left_out[reason] += 1
                self._missing.setdefault(reason, path)
                return
        self.content.lines.append({"image": image, "label": label, **keys})

    def done(self) -> ManifestContent:
        """The collected lines.

        Raises:
            DataError: there are none; the message names a file that was looked for.
        """
        if self.content.lines:
            return self.content
        remedies = {
            NO_IMAGE: "download the images, or give the folder that holds them",
            NO_LABEL: f"download {self.labels_from or 'the labels'}, {WITHOUT_LABELS}",
        }
        for reason, path in self._missing.items():
            raise DataError(
                f"{self.title}: no image is left; {self.content.summary()}. {path} does not exist; {remedies[reason]}"
            )
        raise DataError(f"{self.title}: no image is left; {self.content.summary()}")


def folder_content(
    root: Path, layout: FolderLayout, splits: Iterable[str], selection: Selection, lines: Lines, has_labels: bool
) -> ManifestContent:
    """Lines of images that lie in folders by split and sequence.

    Args:
        root: folder of the data set.
        layout: where files lie.
        splits: splits of the layout.
        selection: what to take.
        lines: collects them.
        has_labels: whether the labels of these splits are public.

    Raises:
        DataError: a folder is missing, or nothing is left.
    """
    for split in splits:
        folder = marked_root(root, layout.image_folder(Path(), split).as_posix(), lines.title)
        names = layout.names(root, split)
        if not names:
            raise DataError(f"{folder} holds no <sequence>/*{layout.image_suffix}; extract the images of {lines.title}")
        by_sequence: dict[str, list[str]] = {}
        for name in names:
            by_sequence.setdefault(name.split("/")[0], []).append(name)
        for sequence, found in by_sequence.items():
            for name in thinned(found, selection):
                label = layout.label(root, split, name) if has_labels and selection.labels else None
                image = layout.image(root, split, name)
                lines.add(image, label, name=name.split("/")[1], sequence=sequence)
    return lines.done()
