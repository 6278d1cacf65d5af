"""Checks of a manifest of your own footage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg.checks.findings import Finding, judged, one_line
from mmseg.checks.images import ImageFiles, ImageKind
from mmseg.checks.section import SectionCheck
from mmseg.datasets.frames import FramesDataset
from mmseg.errors import CMDAError

REMEDY = "correct the manifest, or make it again with tools/make_manifest.py (docs/own_data.md)"


class FramesCheck(SectionCheck):
    """Checks of a section of ``FramesDataset``, which checks every line of its manifest itself."""

    def __init__(self, settings: Mapping[str, Any], training: bool) -> None:
        super().__init__(settings, training)
        self.title = f"manifest {settings['manifest']}"
        self.fault, self.found = "", ""
        try:
            # A cache is checked where it is used.
            dataset = FramesDataset(**{**settings, "cache": None})
        except CMDAError as error:
            self.fault = one_line(error)
            return
        self.found = f"{len(dataset):,} images, {len(dataset.recordings)} recordings"
        images = tuple(dict.fromkeys(frame.image for frame in dataset.frames))
        labels = tuple(dict.fromkeys(frame.label for frame in dataset.frames if frame.label))
        files = [ImageFiles(f"{self.title} images", ImageKind.IMAGE, images, REMEDY)]
        if "label" in dataset.outputs:
            files.append(ImageFiles(f"{self.title} labels", ImageKind.LABEL, labels, REMEDY))
        self.files = tuple(files)

    def check(self, subset: bool) -> list[Finding]:
        """See :meth:`.SectionCheck.check`."""
        del subset  # nothing is published
        found = "a fault" if self.fault else self.found
        return [judged(self.title, found, "every line usable", not self.fault, REMEDY, [self.fault])]
