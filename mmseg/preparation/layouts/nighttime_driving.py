"""Nighttime Driving (Dai and Van Gool, ITSC 2018): 50 labelled test images."""

from __future__ import annotations

from pathlib import Path

from mmseg.datasets.layouts import FolderLayout
from mmseg.preparation.layouts import Selection
from mmseg.preparation.layouts.common import Lines, folder_content
from mmseg.preparation.manifests import ManifestContent

# The only folder of the split, "night", takes the place of a sequence.
LAYOUT = FolderLayout(
    "leftImg8bit/{split}",
    "gtCoarse_daytime_trainvaltest/{split}",
    "_leftImg8bit.png",
    "_gtCoarse_labelTrainIds.png",
)


def find(root: Path, selection: Selection) -> ManifestContent:
    """The test images, with labels.

    Raises:
        DataError: a folder is missing, or nothing is left.
    """
    lines = Lines("Nighttime Driving", "gtCoarse_daytime_trainvaltest")
    return folder_content(root, LAYOUT, ["test"], selection, lines, has_labels=True)
