"""ACDC (Sakaridis et al., ICCV 2021): fog, night, rain and snow; the labels of its test split are withheld."""

from __future__ import annotations

from pathlib import Path

from mmseg.datasets.layouts import FolderLayout
from mmseg.preparation.layouts import Selection
from mmseg.preparation.layouts.common import Lines, folder_content
from mmseg.preparation.manifests import ManifestContent

# A split is <condition>/<split>.
LAYOUT = FolderLayout("rgb_anon/{split}", "gt/{split}", "_rgb_anon.png", "_gt_labelTrainIds.png")


def find(root: Path, selection: Selection) -> ManifestContent:
    """Images of conditions and a split, with labels unless they are withheld.

    Raises:
        DataError: a folder is missing, or nothing is left.
    """
    lines = Lines("ACDC", "gt_trainval.zip")
    splits = [f"{condition}/{selection.split}" for condition in selection.condition]
    return folder_content(root, LAYOUT, splits, selection, lines, has_labels=selection.split != "test")
