"""What the checks of every data section have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.checks.findings import Finding
from mmseg.checks.images import ImageFiles


class SectionCheck(ABC):
    """Checks of one data section of a config.

    Args:
        settings: arguments of the section's data set, with defaults.
        training: it is the target of a training.

    Attributes:
        files: image files that the outputs of the section need.
    """

    files: tuple[ImageFiles, ...] = ()

    def __init__(self, settings: Mapping[str, Any], training: bool) -> None:
        self.settings = settings
        self.training = training

    @abstractmethod
    def check(self, subset: bool) -> list[Finding]:
        """Check the names and headers of the files.

        Args:
            subset: accept numbers and sizes other than the published ones.
        """

    def check_labels(self, counted: Mapping[Path, Mapping[int, int]], subset: bool) -> list[Finding]:
        """Check the content of all label maps.

        Args:
            counted: label map -> pixels by value.
            subset: as in :meth:`check`.
        """
        return []
