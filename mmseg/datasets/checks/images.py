"""Checks of image files: there, whole, of the right size; and, when everything is read, of the right content."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console

from mmseg.datasets.checks.findings import NOTE, WRONG, Finding, all_of, judged, one_line
from mmseg.datasets.cityscapes_conversion import KNOWN_TRAIN_IDS
from mmseg.datasets.png_files import PngHeader, read_png_header
from mmseg.errors import DataError
from mmseg.printing import track

# Reading a header is waiting for the disk.
HEADER_THREADS = 16


@dataclass(frozen=True)
class ImageFiles:
    """Image files of one kind.

    Attributes:
        title: how the table calls them.
        kind: ``image``, ``label`` or ``change``.
        paths: the files, with their order.
        remedy: what to do where one is missing or damaged.
        size: (width, height) that all must have; None where any will do.
    """

    title: str
    kind: str
    paths: tuple[Path, ...]
    remedy: str
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class ImageTask:
    """One image file to read whole."""

    path: Path
    kind: str


@dataclass(frozen=True)
class ImageContent:
    """What an image shows: pixels by value (labels only), and whether it is all of one value."""

    values: dict[int, int]
    uniform: bool


Headers = dict[Path, PngHeader]


def check_headers(files: ImageFiles, subset: bool = False) -> tuple[list[Finding], Headers]:
    """Check that image files are there, whole, and of the right size and format.

    Args:
        files: the files.
        subset: note other sizes of images, in place of calling them wrong: training resizes what it reads.

    Returns:
        Findings, and the headers of the files that have one.
    """
    headers: Headers = {}
    damaged, missing = [], []
    for path, header in _read_headers(files):
        if isinstance(header, PngHeader):
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
        findings.append(_size(files, headers, NOTE if subset and files.kind == "image" else WRONG))
    if headers and files.kind == "label":
        strange = [f"{p}: {h.bits}-bit {h.color}" for p, h in headers.items() if (h.bits, h.color) != (8, "grey")]
        findings.append(all_of(f"{files.title}: format", len(headers), strange, "8-bit grey", files.remedy))
    return findings, headers


def _read_headers(files: ImageFiles) -> Iterator[tuple[Path, PngHeader | DataError]]:
    with ThreadPoolExecutor(HEADER_THREADS) as executor:
        yield from track(
            zip(files.paths, executor.map(_header, files.paths), strict=True),
            files.title,
            total=len(files.paths),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )


def _header(path: Path) -> PngHeader | DataError:
    try:
        return read_png_header(path)
    except DataError as error:
        return error


def _size(files: ImageFiles, headers: Headers, otherwise: str) -> Finding:
    sizes = Counter(f"{h.width}x{h.height}" for h in headers.values())
    other = [f"{p}: {h.width}x{h.height}" for p, h in headers.items() if h.size != files.size]
    found = ", ".join(f"{size} ({count:,})" if len(sizes) > 1 else size for size, count in sizes.most_common(3))
    wanted = "x".join(map(str, files.size))
    remedy = f"nothing, if this size is meant; else {files.remedy}" if otherwise == NOTE else files.remedy
    return judged(f"{files.title}: size", found, wanted, not other, remedy, other, otherwise)


def check_image_files(files: Sequence[ImageFiles], subset: bool) -> list[Finding]:
    """Check images, and what belongs to them one by one: ``files[0]`` are the images."""
    findings, of_images = check_headers(files[0], subset)
    for kind in files[1:]:
        own, headers = check_headers(kind, subset)
        findings += [*own, check_same_size(kind, headers, files[0], of_images)]
    return findings


def check_same_size(files: ImageFiles, headers: Headers, images: ImageFiles, of_images: Headers) -> Finding:
    """Check that files have the size of the images at the same places; what has no header was counted before."""
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
    return all_of(f"{files.title}: size", len(pairs), other, "of the size of their image", remedy)


def read_image(task: ImageTask) -> ImageContent:
    """Read an image file whole.

    Raises:
        DataError: it is missing, damaged, or a label with values that are no train ids.
    """
    try:
        with Image.open(task.path) as opened:
            image = opened.convert("L") if task.kind != "image" and opened.mode != "L" else opened.copy()
    except FileNotFoundError:
        raise DataError(f"{task.path} does not exist") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{task.path} cannot be read ({error})") from None
    extrema = image.getextrema()
    ranges = extrema if isinstance(extrema[0], tuple) else (extrema,)
    values = {}
    if task.kind == "label":
        values = {value: count for value, count in enumerate(image.histogram()) if count}
        unknown = sorted(set(values) - KNOWN_TRAIN_IDS)
        if unknown:
            raise DataError(f"{task.path} holds the values {unknown[:5]}, which are no train ids")
    return ImageContent(values, all(low == high for low, high in ranges))


def content_findings(
    files: ImageFiles, outcomes: Sequence[tuple[ImageTask, ImageContent | DataError]]
) -> list[Finding]:
    """Findings about files that :func:`read_image` has read."""
    bad = [one_line(outcome) for _, outcome in outcomes if isinstance(outcome, DataError)]
    expected = "readable, values 0..18 and 255" if files.kind == "label" else "readable"
    findings = [all_of(f"{files.title}: content", len(outcomes), bad, expected, files.remedy)]
    uniform = [t.path for t, outcome in outcomes if isinstance(outcome, ImageContent) and outcome.uniform]
    if uniform:
        remedy = "look at them: nothing can be learned from a picture of one value"
        findings.append(all_of(f"{files.title}: variety", len(outcomes), uniform, "of several values", remedy, NOTE))
    return findings
