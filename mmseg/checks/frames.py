"""Checks of a manifest of your own footage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmseg.checks.findings import NOTE, Finding, all_of, judged, one_line
from mmseg.checks.images import ImageFiles, ImageKind
from mmseg.checks.section import SectionCheck
from mmseg.classes import CITYSCAPES_19, CLASS_SETS, ClassSet
from mmseg.datasets.base import Size
from mmseg.datasets.frames import FramesDataset
from mmseg.datasets.manifest import ManifestFrame, read_manifest
from mmseg.errors import CMDAError, DataError

REMEDY = "correct the manifest, or make it again with tools/make_manifest.py (docs/own_data.md)"
# The size that a check of single lines resizes images to; it reads no pixels.
ANY_SIZE = (1 << 14, 1 << 14)


def image_files(title: str, frames: Iterable[ManifestFrame], with_labels: bool) -> tuple[ImageFiles, ...]:
    """Images and label maps of frames, each once."""
    frames = list(frames)
    images = tuple(dict.fromkeys(frame.image for frame in frames))
    labels = tuple(dict.fromkeys(frame.label for frame in frames if frame.label))
    files = [ImageFiles(f"{title} images", ImageKind.IMAGE, images, REMEDY)]
    if with_labels and labels:
        files.append(ImageFiles(f"{title} labels", ImageKind.LABEL, labels, REMEDY))
    return tuple(files)


def read_windows(title: str, dataset: FramesDataset) -> Finding:
    """Read the events of every frame that has a window."""
    faults, total = [], 0
    for recording in dataset.recordings.values():
        for start, finish in recording.windows:
            total += 1
            try:
                recording.grid(start, finish, 1)
            except DataError as error:
                faults.append(one_line(error))
        recording.close()
    return all_of(f"{title} events: content", total, faults, "readable", "copy the recording again")


class FramesCheck(SectionCheck):
    """Checks of a section of ``FramesDataset``, which checks every line of its manifest itself."""

    def __init__(self, settings: Mapping[str, Any], training: bool, classes: ClassSet = CITYSCAPES_19) -> None:
        super().__init__(settings, training, classes)
        self.title = f"manifest {settings['manifest']}"
        self.fault, self.found = "", ""
        self.dataset: FramesDataset | None = None
        try:
            # A cache is checked where it is used.
            dataset = FramesDataset(**{**settings, "cache": None})
            dataset.classes = classes
        except CMDAError as error:
            self.fault = one_line(error)
            return
        self.dataset = dataset
        self.classes = dataset.stored_classes
        self.found = f"{len(dataset):,} images, {len(dataset.recordings)} recordings"
        self.files = image_files(self.title, dataset.frames, "label" in dataset.outputs)

    def check(self, subset: bool) -> list[Finding]:
        """See :meth:`.SectionCheck.check`."""
        del subset  # nothing is published
        found = "a fault" if self.fault else self.found
        return [judged(self.title, found, "every line usable", not self.fault, REMEDY, [self.fault])]

    def check_events(self) -> list[Finding]:
        """See :meth:`.SectionCheck.check_events`."""
        return [read_windows(self.title, self.dataset)] if self.dataset and self.dataset.recordings else []


class _Lines(FramesDataset):
    """A data set that checks each line for what it names, and collects the faults instead of raising the first."""

    def __init__(self, manifest: Path) -> None:
        self.faults: dict[int, str] = {}
        super().__init__(manifest, ANY_SIZE, ("image", "label", "img_time_res", "events_vg"))

    def _check_files(self) -> list[Size]:
        self.seen: list[Size | None] = [self._collected(frame) for frame in self.frames]
        self.outputs = frozenset({"image", "label", "events_vg"})
        return [size or (0, 0) for size in self.seen]

    def _collected(self, frame: ManifestFrame) -> Size | None:
        named = {
            "label": frame.label,
            "events_vg": frame.events,
            "img_time_res": frame.previous_image or frame.image_change,
        }
        self.outputs = frozenset({"image", *(output for output, file in named.items() if file)})
        try:
            return self._check_frame(frame)
        except DataError as error:
            self.faults[frame.line] = one_line(error)
            return None

    def _open_recordings(self, sizes: list[Size]) -> None:
        """Recording by recording, of the frames without a fault."""
        groups: dict[Path, list[int]] = {}
        for index, frame in enumerate(self.frames):
            if frame.events is not None and self.seen[index]:
                groups.setdefault(frame.events, []).append(index)
        every = self.frames
        for indices in groups.values():
            self.frames = tuple(every[index] for index in indices)
            try:
                super()._open_recordings([sizes[index] for index in indices])
            except DataError as error:
                self.faults[self.frames[0].line] = one_line(error)
        self.frames = every


class ManifestCheck(SectionCheck):
    """Checks of a manifest without a config: all that its lines name must be there and fit.

    Args:
        manifest: the manifest.
        classes: class set that its labels are for; None for that which the manifest names, if it is a built-in one.
    """

    def __init__(self, manifest: Path, classes: ClassSet | None = None) -> None:
        super().__init__({"manifest": str(manifest)}, training=False)
        self.title = f"manifest {manifest}"
        self.unreadable = ""
        self.lines: _Lines | None = None
        try:
            named = CLASS_SETS.get(read_manifest(manifest).class_set)
            lines = _Lines(manifest)
            if classes is not None or named is not None:
                lines.classes = classes or named or CITYSCAPES_19
        except CMDAError as error:
            self.unreadable = one_line(error)
            return
        self.lines = lines
        known = classes is not None or named is not None
        if known:
            self.classes = lines.stored_classes
        self.files = image_files(self.title, lines.frames, known)

    def check(self, subset: bool) -> list[Finding]:
        """See :meth:`.SectionCheck.check`."""
        del subset  # nothing is published
        if self.lines is None:
            return [judged(self.title, "a fault", "a manifest", False, REMEDY, [self.unreadable])]
        lines, faults = self.lines, list(self.lines.faults.values())
        total = len(lines.frames)
        findings = [all_of(self.title, total, faults, "usable", REMEDY)]
        named = {
            "labels": sum(frame.label is not None for frame in lines.frames),
            "events": sum(frame.events is not None for frame in lines.frames),
            "image before": sum(bool(frame.previous_image or frame.image_change) for frame in lines.frames),
        }
        remedy = "give the rest theirs, or split the manifest: a training or a test needs them on all lines"
        for what, number in named.items():
            if number:
                title = f"{self.title}: lines with {what}"
                findings.append(
                    judged(title, f"{number:,} of {total:,}", "all or none", number == total, remedy, (), NOTE)
                )
        sizes = Counter(size for size in lines.seen if size)
        listed = ", ".join(f"{w}x{h} ({count:,})" for (h, w), count in sizes.most_common(3))
        remedy = "nothing, if all have the same shape: images are resized to image_resize_size"
        findings.append(judged(f"{self.title}: sizes", listed or "none", "one", len(sizes) == 1, remedy, (), NOTE))
        if lines.recordings:
            shapes = sorted({f"{width}x{height}" for height, width in (r.size for r in lines.recordings.values())})
            found = f"{len(lines.recordings):,} recordings, {', '.join(shapes)}"
            findings.append(Finding(f"{self.title}: event cameras", found, "any"))
        return findings

    def check_events(self) -> list[Finding]:
        """See :meth:`.SectionCheck.check_events`."""
        return [read_windows(self.title, self.lines)] if self.lines and self.lines.recordings else []
