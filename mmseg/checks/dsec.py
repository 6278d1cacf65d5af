"""Checks of DSEC_Night: frame lists, warped images, labels, event indices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmseg.checks.findings import (
    MAKE_LISTS,
    NOTE,
    WRONG,
    Finding,
    all_of,
    judged,
    one_line,
    published_count,
)
from mmseg.checks.images import ImageFiles, ImageKind, check_headers
from mmseg.checks.section import SectionCheck
from mmseg.classes import CITYSCAPES_19, DSEC_ABSENT_CLASSES, IGNORE_LABEL, ClassSet
from mmseg.datasets.dsec_frames import DSECFrame, describe_folders, read_event_index, read_frame_list
from mmseg.errors import DataError
from mmseg.events.recording import HEIGHT, WIDTH
from mmseg.preparation.dsec_lists import HELD_OUT_FRAMES, PUBLISHED_TEST_FRAMES, PUBLISHED_TRAIN_FRAMES

SIZE = (WIDTH, HEIGHT)
MAKE_WARPED = "run tools/warp_images.py on the DSEC_Night folder, or download warp_images"
GET_LABELS = "download the DSEC Night-Semantic labels"
# A window with less than this fraction of the list's median number of events indicates a gap in the recording.
SPARSE_SHARE = 0.01


class DSECCheck(SectionCheck):
    """Checks of a section of ``DSECDataset``; its frame list is read once.

    Attributes:
        title: ``DSEC train`` or ``DSEC test``.
        frames: empty if the list cannot be read.
        problem: why not.
    """

    def __init__(self, settings: Mapping[str, Any], training: bool, classes: ClassSet = CITYSCAPES_19) -> None:
        super().__init__(settings, training, classes)
        self.title = "DSEC train" if training else "DSEC test"
        self.path = Path(settings["dataset_txt_path"])
        self.problem = ""
        try:
            self.frames = read_frame_list(self.path, settings.get("root_path"))
        except DataError as error:
            self.frames, self.problem = [], one_line(error)
        self.files = tuple(self._files())

    def _files(self) -> list[ImageFiles]:
        outputs, files = self.settings["outputs"], []
        if {"warp_image", "warp_img_self_res"} & set(outputs):
            paths = tuple(frame.warp_image for frame in self.frames)
            files.append(ImageFiles(f"{self.title} warp images", ImageKind.IMAGE, paths, MAKE_WARPED, SIZE))
        if "label" in outputs:
            paths = tuple(frame.label for frame in self.frames)
            files.append(ImageFiles(f"{self.title} labels", ImageKind.LABEL, paths, GET_LABELS, SIZE))
        return files

    def check(self, subset: bool) -> list[Finding]:
        """Check the list, and the names and headers of its files."""
        if self.problem:
            return [Finding(f"{self.title} list", "not readable", "readable", WRONG, MAKE_LISTS, (self.problem,))]
        published = PUBLISHED_TRAIN_FRAMES if self.training else PUBLISHED_TEST_FRAMES
        remedy = f"add the missing sequences, {'warp images' if self.training else 'labels'}, and {MAKE_LISTS}"
        read = describe_folders(self.path, self.frames)
        findings = [
            published_count(f"{self.title} frames", len(self.frames), published, subset, remedy),
            Finding(f"{self.title} folders", read, "any"),
        ]
        if self.training:
            findings.append(self._held_out())
        for files in self.files:
            findings += check_headers(files)[0]
        if "events_vg" in self.settings["outputs"]:
            findings += self._windows()
        return findings

    def check_labels(self, counted: Mapping[Path, Mapping[int, int]], subset: bool) -> list[Finding]:
        """Check which classes the labels of a test have."""
        if self.training:
            return []
        total: Counter[int] = Counter()
        for values in counted.values():
            total.update(values)
        return [_classes_finding(self.title, total, subset, self.classes)]

    def _held_out(self) -> Finding:
        inside = [
            f"{frame.sequence} frame {frame.frame}"
            for frame in self.frames
            if frame.frame in HELD_OUT_FRAMES.get(frame.sequence, ())
        ]
        return all_of(
            f"{self.title}: frames around the test", len(self.frames), inside, "outside the held-out ranges", MAKE_LISTS
        )

    def start(self, frame: DSECFrame, index: np.ndarray) -> int:
        """First event of the window of a frame; -1 if it has none."""
        if self.settings["events_num"]:
            return max(-1, frame.event_index - self.settings["events_num"] + 1)
        earlier = frame.frame - self.settings["image_change_range"]
        return int(index[earlier]) if 0 <= earlier < len(index) else -1

    def _windows(self) -> list[Finding]:
        """Event indices of the list compared with those of the sequences, and events per frame."""
        indices: dict[Path, np.ndarray] = {}
        unreadable, differing, empty = [], [], []
        counts = np.zeros(len(self.frames), np.int64)
        for number, frame in enumerate(self.frames):
            if frame.index_file not in indices:
                try:
                    indices[frame.index_file] = read_event_index(frame.index_file)
                except DataError as error:
                    unreadable.append(one_line(error))
                    indices[frame.index_file] = np.empty(0, np.int64)
            index = indices[frame.index_file]
            if len(index) and (frame.frame >= len(index) or index[frame.frame] != frame.event_index):
                differing.append(f"{frame.sequence} frame {frame.frame}: index {frame.event_index} in the list")
            start = self.start(frame, index)
            if 0 <= start < frame.event_index:
                counts[number] = frame.event_index - start + 1
            elif len(index):
                empty.append(f"{frame.sequence} frame {frame.frame}")
        findings = [
            all_of(f"{self.title}: event index of the sequences", len(indices), unreadable, "readable", MAKE_LISTS),
            all_of(f"{self.title}: event index", len(self.frames), differing, "as next to the images", MAKE_LISTS),
        ]
        remedy = "training skips them" if self.training else "remove them from the list: a test needs events"
        findings.append(
            all_of(
                f"{self.title}: frames with events",
                len(self.frames),
                empty,
                "with events before them",
                remedy,
                NOTE if self.training else WRONG,
            )
        )
        return [*findings, *self._rate(counts)]

    def _rate(self, counts: np.ndarray) -> list[Finding]:
        """Events a window: range and gaps."""
        if not (counts > 0).any():
            return []
        least, median, most = (int(f(counts[counts > 0])) for f in (np.min, np.median, np.max))
        sparse = [
            f"{frame.sequence} frame {frame.frame}: {count:,} events"
            for frame, count in zip(self.frames, counts.tolist(), strict=True)
            if 0 < count < SPARSE_SHARE * median
        ]
        return [
            judged(
                f"{self.title}: events per frame",
                f"{least:,} to {most:,}, median {median:,}",
                f"at least {SPARSE_SHARE:.0%} of the median",
                not sparse,
                "look for gaps in the recording; ignore this if there are none",
                sparse,
                NOTE,
            )
        ]


def _classes_finding(title: str, values: Mapping[int, int], subset: bool, classes: ClassSet) -> Finding:
    """Classes in the labels of a test.

    Args:
        title: of the frame list.
        values: pixels by class over all labels.
        subset: accept any classes, since part of the published data may have any.
        classes: class set of the labels.
    """
    absent = [c for c in range(len(classes)) if not values.get(c)]
    ignored = values.get(IGNORE_LABEL, 0) / max(1, sum(values.values()))
    found = f"without {', '.join(classes.names[c] for c in absent) or 'none'}; {ignored:.0%} ignored"
    usual = classes.absent(DSEC_ABSENT_CLASSES)
    published = f"without {', '.join(classes.names[c] for c in usual) or 'none'}"
    any_is_good = subset or not classes.from_cityscapes
    expected = f"any (published: {published})" if any_is_good else published
    good = any_is_good or tuple(absent) == usual
    return judged(f"{title} labels: classes", found, expected, good, GET_LABELS)
