"""What the checks of every data section have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.checks.findings import Finding
from mmseg.checks.images import ImageFiles
from mmseg.classes import CITYSCAPES_19, ClassSet


class SectionCheck(ABC):
    """Checks of one data section of a config.

    Args:
        settings: arguments of the section's data set, with defaults.
        training: it is the target of a training.
        classes: class set of the config, with the label ids that label maps in a published layout hold.

    Attributes:
        files: image files that the outputs of the section need.
    """

    files: tuple[ImageFiles, ...] = ()

    def __init__(self, settings: Mapping[str, Any], training: bool, classes: ClassSet = CITYSCAPES_19) -> None:
        self.settings = settings
        self.training = training
        self.classes = classes

    @abstractmethod
    def check(self, subset: bool) -> list[Finding]:
        """Check the names and headers of the files.

        Args:
            subset: accept numbers and sizes other than the published ones.
        """

    def check_labels(self, counted: Mapping[Path, Mapping[int, int]], subset: bool) -> list[Finding]:
        """Check the content of all label maps.

        Args:
            counted: label map -> pixels by class; by 255 those that are ignored.
            subset: as in :meth:`check`.
        """
        return []

    def check_events(self) -> list[Finding]:
        """Read all events of the section, unless the recordings of all sections are read together."""
        return []
