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
from mmseg.datasets.frame_events import SHAPE_TOLERANCE, FrameRecording, PositionMaps
from mmseg.datasets.frame_files import by_recording, check_frame, open_recording
from mmseg.datasets.frames import FramesDataset
from mmseg.datasets.labels import stored_class_set
from mmseg.datasets.manifest import Manifest, ManifestFrame, read_manifest
from mmseg.errors import CMDAError, DataError
from mmseg.io.image_files import read_header

REMEDY = "correct the manifest, or make it again with tools/make_manifest.py (docs/own_data.md)"


def image_files(title: str, frames: Iterable[ManifestFrame], with_labels: bool) -> tuple[ImageFiles, ...]:
    """Images and label maps of frames, each once."""
    frames = list(frames)
    images = tuple(dict.fromkeys(frame.image for frame in frames))
    labels = tuple(dict.fromkeys(frame.label for frame in frames if frame.label))
    files = [ImageFiles(f"{title} images", ImageKind.IMAGE, images, REMEDY)]
    if with_labels and labels:
        files.append(ImageFiles(f"{title} labels", ImageKind.LABEL, labels, REMEDY))
    return tuple(files)


def read_windows(title: str, recordings: Iterable[FrameRecording]) -> list[Finding]:
    """Read the events of every frame; no finding without recordings."""
    faults, total = [], 0
    for recording in recordings:
        for start, finish in recording.windows:
            total += 1
            try:
                recording.grid(start, finish, 1)
            except DataError as error:
                faults.append(one_line(error))
        recording.close()
    remedy = "copy the recording again, or give the size of its sensor"
    return [all_of(f"{title} events: content", total, faults, "readable", remedy)] if total else []


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
        findings = [judged(self.title, found, "every line usable", not self.fault, REMEDY, [self.fault])]
        if self.dataset is not None:
            findings.append(self._shapes(self.dataset))
        return findings

    def _shapes(self, dataset: FramesDataset) -> Finding:
        """Images whose shape differs from that to which all are resized."""
        height, width = dataset.size
        bent = []
        for frame in dataset.frames:
            size = read_header(frame.image).size
            if abs(size[0] * height / (size[1] * width) - 1) > SHAPE_TOLERANCE:
                bent.append(f"{dataset.manifest.where(frame)}: {frame.image} is {size[0]}x{size[1]}")
        remedy = "crop these images, or set image_resize_size to their shape: resizing distorts them"
        return all_of(f"{self.title}: shape", len(dataset), bent, f"as {width}x{height}", remedy, NOTE)

    def check_events(self) -> list[Finding]:
        """See :meth:`.SectionCheck.check_events`."""
        return read_windows(self.title, self.dataset.recordings.values() if self.dataset else ())


class ManifestCheck(SectionCheck):
    """Checks of a manifest without a config: all that its lines name must be there and fit.

    Args:
        manifest: the manifest.
        classes: class set that its labels are for; None for that which the manifest names, if it is a built-in one.

    Attributes:
        faults: line -> what is wrong with it.
        sizes: (height, width) of the image of every sound line, in their order; None for the others.
        recordings: those of the sound lines.
    """

    def __init__(self, manifest: Path, classes: ClassSet | None = None) -> None:
        super().__init__({"manifest": str(manifest)}, training=False)
        self.title = f"manifest {manifest}"
        self.unreadable = ""
        self.faults: dict[int, str] = {}
        self.sizes: list[Size | None] = []
        self.recordings: list[FrameRecording] = []
        self.manifest: Manifest | None = None
        try:
            read = read_manifest(manifest)
            chosen = classes or CLASS_SETS.get(read.class_set)
            if chosen is not None:
                self.classes = stored_class_set(read.class_set, chosen, read.path)
        except CMDAError as error:
            self.unreadable = one_line(error)
            return
        self.manifest = read
        self.sizes = [self._size(read, frame) for frame in read.frames]
        self._open_recordings(read)
        self.files = image_files(self.title, read.frames, with_labels=chosen is not None)

    def _size(self, manifest: Manifest, frame: ManifestFrame) -> Size | None:
        """Size of the image of a line; None if anything that the line names is wrong."""
        named = {
            "label": frame.label,
            "events_vg": frame.events,
            "img_time_res": frame.previous_image or frame.image_change,
        }
        try:
            return check_frame(manifest, frame, [output for output, file in named.items() if file])
        except DataError as error:
            self.faults[frame.line] = one_line(error)
            return None

    def _open_recordings(self, manifest: Manifest) -> None:
        """Open the recordings of the sound lines; of each, the first fault is reported."""
        sound = [(frame, size) for frame, size in zip(manifest.frames, self.sizes, strict=True) if size is not None]
        maps = PositionMaps()
        for indices in by_recording([frame for frame, _ in sound]).values():
            frames, sizes = zip(*(sound[index] for index in indices), strict=True)
            try:
                self.recordings.append(open_recording(manifest, frames, sizes, maps))
            except DataError as error:
                self.faults[frames[0].line] = one_line(error)

    def check(self, subset: bool) -> list[Finding]:
        """See :meth:`.SectionCheck.check`."""
        del subset  # nothing is published
        if self.manifest is None:
            return [judged(self.title, "a fault", "a manifest", False, REMEDY, [self.unreadable])]
        frames = self.manifest.frames
        findings = [all_of(self.title, len(frames), list(self.faults.values()), "usable", REMEDY)]
        named = {
            "labels": sum(frame.label is not None for frame in frames),
            "events": sum(frame.events is not None for frame in frames),
            "image before": sum(bool(frame.previous_image or frame.image_change) for frame in frames),
        }
        remedy = "give the rest theirs, or split the manifest: a training or a test needs them on all lines"
        for what, number in named.items():
            if number:
                title, found = f"{self.title}: lines with {what}", f"{number:,} of {len(frames):,}"
                findings.append(judged(title, found, "all or none", number == len(frames), remedy, (), NOTE))
        sizes = Counter(size for size in self.sizes if size)
        found = ", ".join(f"{width}x{height} ({count:,})" for (height, width), count in sizes.most_common(3))
        remedy = "nothing, if all have the same shape: images are resized to image_resize_size"
        findings.append(judged(f"{self.title}: sizes", found or "none", "one", len(sizes) == 1, remedy, (), NOTE))
        if self.recordings:
            shapes = sorted({f"{width}x{height}" for height, width in (each.size for each in self.recordings)})
            found = f"{len(self.recordings):,} recordings, {', '.join(shapes)}"
            findings.append(Finding(f"{self.title}: event cameras", found, "any"))
        return findings

    def check_events(self) -> list[Finding]:
        """See :meth:`.SectionCheck.check_events`."""
        return read_windows(self.title, self.recordings)
