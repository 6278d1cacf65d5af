"""Checks of image files: existence, completeness, size and format; in the deep mode, also content."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from rich.console import Console

from mmseg.checks.findings import NOTE, WRONG, Finding, all_of, judged, one_line
from mmseg.classes import CITYSCAPES_19, ClassSet
from mmseg.datasets.labels import open_stored_label, to_classes
from mmseg.errors import DataError
from mmseg.io.image_files import REPLACE, open_image, read_header
from mmseg.io.png_files import ImageHeader
from mmseg.system.printing import track

# Header reads are I/O-bound.
HEADER_THREADS = 16


class ImageKind(Enum):
    """What the pixels of an image file mean."""

    IMAGE = "image"
    LABEL = "label"
    CHANGE = "change"


@dataclass(frozen=True)
class ImageFiles:
    """Image files of one kind.

    Attributes:
        title: their name in the table.
        kind: what their pixels mean.
        paths: the files, in order.
        remedy: what to do if one is missing or damaged.
        size: (width, height) that all must have; None for any.
    """

    title: str
    kind: ImageKind
    paths: tuple[Path, ...]
    remedy: str
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class ImageTask:
    """One image file to read completely."""

    path: Path
    kind: ImageKind
    classes: ClassSet = CITYSCAPES_19


@dataclass(frozen=True)
class ImageContent:
    """Content of an image: pixels by class (labels only), and whether all have the same value."""

    values: dict[int, int]
    uniform: bool


Headers = dict[Path, ImageHeader]


def check_headers(files: ImageFiles, subset: bool = False) -> tuple[list[Finding], Headers]:
    """Check that image files exist, are complete, and have the right size and format.

    Args:
        files: the files.
        subset: only note other sizes of images, since training resizes them.

    Returns:
        Findings, and the headers of the readable files.
    """
    headers: Headers = {}
    damaged, missing = [], []
    for path, header in _read_headers(files):
        if isinstance(header, ImageHeader):
            headers[path] = header
        elif path.exists():
            damaged.append(one_line(header))
        else:
            missing.append(path)
    total = len(files.paths)
    findings = [all_of(f"{files.title}: files", total, missing, "there", files.remedy)]
    if damaged:
        remedy = f"remove the damaged files, then {files.remedy}"
        findings.append(all_of(f"{files.title}: whole", total, damaged, "whole", remedy))
    if headers and files.size is not None:
        findings.append(_size(files, files.size, headers, NOTE if subset and files.kind is ImageKind.IMAGE else WRONG))
    if headers:
        findings += _format(files, headers)
    return findings, headers


def _format(files: ImageFiles, headers: Headers) -> list[Finding]:
    """Colour type and depth that :func:`.open_label` and :func:`.open_image` accept."""
    is_label = files.kind is ImageKind.LABEL

    def is_good(header: ImageHeader) -> bool:
        return header.color in ("grey", "palette") if is_label else header.bits <= 8

    strange = [f"{path}: {header.bits}-bit {header.color}" for path, header in headers.items() if not is_good(header)]
    if not strange and not is_label:
        return []
    expected = "grey or palette indices" if is_label else "8 bits per value"
    remedy = f"remove these files, then {files.remedy}" if is_label else "convert these files to 8 bits"
    return [all_of(f"{files.title}: format", len(headers), strange, expected, remedy)]


def _read_headers(files: ImageFiles) -> Iterator[tuple[Path, ImageHeader | DataError]]:
    with ThreadPoolExecutor(HEADER_THREADS) as executor:
        yield from track(
            zip(files.paths, executor.map(_header, files.paths), strict=True),
            files.title,
            total=len(files.paths),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )


def _header(path: Path) -> ImageHeader | DataError:
    try:
        return read_header(path)
    except DataError as error:
        return error


def _size(files: ImageFiles, expected: tuple[int, int], headers: Headers, otherwise: str) -> Finding:
    sizes = Counter(f"{h.width}x{h.height}" for h in headers.values())
    other = [f"{p}: {h.width}x{h.height}" for p, h in headers.items() if h.size != expected]
    found = ", ".join(f"{size} ({count:,})" if len(sizes) > 1 else size for size, count in sizes.most_common(3))
    wanted = "x".join(map(str, expected))
    remedy = f"nothing, if this size is intended; else {files.remedy}" if otherwise == NOTE else files.remedy
    return judged(f"{files.title}: size", found, wanted, not other, remedy, other, otherwise)


def check_image_files(files: Sequence[ImageFiles], subset: bool) -> list[Finding]:
    """Check images, ``files[0]``, and the files that belong to each of them, such as labels."""
    findings, of_images = check_headers(files[0], subset)
    for companions in files[1:]:
        own, headers = check_headers(companions, subset)
        findings += [*own, check_same_size(companions, headers, files[0], of_images)]
    return findings


def check_same_size(files: ImageFiles, headers: Headers, images: ImageFiles, of_images: Headers) -> Finding:
    """Check that files have the same size as their images; unreadable ones were counted before."""
    pairs = [
        (image, path)
        for image, path in zip(images.paths, files.paths, strict=True)
        if image in of_images and path in headers
    ]
    other = []
    for image, path in pairs:
        own, wanted = headers[path], of_images[image]
        if own.size != wanted.size:
            other.append(f"{path}: {own.width}x{own.height}, its image {wanted.width}x{wanted.height}")
    remedy = f"remove these files, then {files.remedy}"
    return all_of(f"{files.title}: size", len(pairs), other, "of the same size as their image", remedy)


def read_image(task: ImageTask) -> ImageContent:
    """Read an image file completely.

    Raises:
        DataError: see :func:`.open_image`, or :func:`.open_label` for a label.
    """
    if task.kind is ImageKind.LABEL:
        stored = open_stored_label(task.path, REPLACE, task.classes)
        image = to_classes(stored, task.classes, task.path)
    else:
        image = open_image(task.path, "RGB" if task.kind is ImageKind.IMAGE else "L")
    extrema = image.getextrema()
    ranges = extrema if isinstance(extrema[0], tuple) else (extrema,)
    values = {}
    if task.kind is ImageKind.LABEL:
        values = {value: count for value, count in enumerate(image.histogram()) if count}
    return ImageContent(values, all(low == high for low, high in ranges))


def content_findings(
    files: ImageFiles, outcomes: Sequence[tuple[ImageTask, ImageContent | DataError]], classes: ClassSet = CITYSCAPES_19
) -> list[Finding]:
    """Findings from the outcomes of :func:`read_image`; ``classes`` are those of the tasks."""
    bad = [one_line(outcome) for _, outcome in outcomes if isinstance(outcome, DataError)]
    expected = "readable"
    if files.kind is ImageKind.LABEL:
        expected += ", " + ("values 0..18 and 255" if classes.from_cityscapes else f"label ids of {classes.name!r}")
    findings = [all_of(f"{files.title}: content", len(outcomes), bad, expected, files.remedy)]
    uniform = [t.path for t, outcome in outcomes if isinstance(outcome, ImageContent) and outcome.uniform]
    if uniform:
        remedy = "look at them: nothing can be learned from an image of one value"
        findings.append(all_of(f"{files.title}: variety", len(outcomes), uniform, "of several values", remedy, NOTE))
    return findings
