"""Prepare the Cityscapes ground truth: train id label maps, class statistics and split lists.

Label maps. ``<gt_dir>/<split>/<city>/<name>_gtFine_labelTrainIds.png`` is written next to its source:
one 8-bit grey channel (PIL mode ``L``), 0..18 for the evaluation classes and 255 for everything else.

Statistics (over the ``train`` split only; 255 is not counted; class keys are strings, as JSON has them):

* ``sample_class_stats.json``: ``[{"<class>": pixels, ..., "file": path}, ...]``
* ``sample_class_stats_dict.json``: ``{path: {"<class>": pixels, ...}, ...}``
* ``samples_with_class.json``: ``{"<class>": [[path, pixels], ...], ...}``, every image that shows the class

Every ``path`` is that of the label map, relative to the Cityscapes root and with forward slashes
(``gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png``). It depends neither on the working directory
nor on how the root was spelt; a reader joins it to its own Cityscapes root.

Split lists. ``train.txt``, ``val.txt`` and ``test.txt`` hold one ``<city>/<name>`` per line.

All entries are sorted by name, and every file appears under its final name only when it is complete. The layout of the
JSON files is the one that rare class sampling reads (Hoyer et al., DAFormer, CVPR 2022, section 3.2).
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from mmseg.classes import CLASSES
from mmseg.config.components import RareClassSampling
from mmseg.datasets.class_statistics import STATISTICS_FILES
from mmseg.errors import DataError
from mmseg.io.file_work import outcomes_of
from mmseg.io.files import atomic_path, write_text
from mmseg.io.image_files import open_label
from mmseg.preparation.cityscapes_labels import count_classes, draw_polygons, map_label_ids
from mmseg.preparation.cityscapes_samples import POLYGONS_SUFFIX, SPLITS, TRAIN_IDS_SUFFIX, Sample, find_samples
from mmseg.system.printing import TextTable

STATISTICS_SPLIT = "train"

# Rare class sampling draws only files with more pixels of the class than this.
RARE_CLASS_MIN_PIXELS = RareClassSampling().min_pixels

EXTRACT_SOURCES = "extract gtFine_trainvaltest.zip, to redraw it from its polygons"

# Samples per message between processes: a sample takes a few ms, little more than a message.
CHUNK = 16


@dataclass
class ConversionReport:
    """What a conversion did.

    Attributes:
        out_dir: folder of the JSON files and split lists.
        files_per_split: number of samples of every split that exists, in the order of ``SPLITS``.
        written: number of label maps written.
        unchanged: number of label maps that were up to date, or had no source and were used as they are.
        class_pixels: pixels of each of the 19 classes over the train split.
        class_images: train images with more than ``RARE_CLASS_MIN_PIXELS`` pixels of each class.
        notes: remarks for the user, one sentence each.
    """

    out_dir: Path
    files_per_split: dict[str, int]
    written: int = 0
    unchanged: int = 0
    class_pixels: list[int] = field(default_factory=lambda: [0] * len(CLASSES))
    class_images: list[int] = field(default_factory=lambda: [0] * len(CLASSES))
    notes: list[str] = field(default_factory=list)


def convert_sample(sample: Sample, source: str = "auto", force: bool = False) -> tuple[bool, dict[int, int]]:
    """Write the train id map of one sample if it is missing or older than its source.

    Args:
        sample: the sample.
        source: see :meth:`.Sample.source_suffix`.
        force: write it even if it is up to date.

    Returns:
        Whether the map was written, and the pixels of each class in it (empty outside the train split).

    Raises:
        DataError: a file cannot be read or written, or the requested source does not exist.
    """
    source_suffix = sample.source_suffix(source)
    target = sample.path(TRAIN_IDS_SUFFIX)
    write = source_suffix != TRAIN_IDS_SUFFIX and (force or _is_outdated(target, sample.path(source_suffix)))
    counted = sample.split == STATISTICS_SPLIT
    if write:
        convert = draw_polygons if source_suffix == POLYGONS_SUFFIX else map_label_ids
        image = convert(sample.path(source_suffix))
        with _naming_unwritable(target), atomic_path(target) as temporary:
            image.save(temporary, format="PNG")
    elif counted:
        image = open_label(target, EXTRACT_SOURCES if source_suffix == TRAIN_IDS_SUFFIX else "use --force to redo it")
    return write, count_classes(image) if counted else {}


def _is_outdated(target: Path, source: Path) -> bool:
    try:
        return target.stat().st_mtime_ns < source.stat().st_mtime_ns
    except FileNotFoundError:
        return True


@contextmanager
def _naming_unwritable(path: Path) -> Iterator[None]:
    """Turn a failure to write ``path`` into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error})") from error


def _write_text(path: Path, text: str) -> None:
    with _naming_unwritable(path):
        write_text(path, text)


def convert_cityscapes(
    cityscapes_path: str | Path,
    gt_dir: str | Path = "gtFine",
    out_dir: str | Path | None = None,
    nproc: int = 1,
    source: str = "auto",
    force: bool = False,
) -> ConversionReport:
    """Write all label maps, the three statistics files and the split lists.

    Args:
        cityscapes_path: the Cityscapes root.
        gt_dir: annotation folder, relative to the root; it must lie inside it (a link may).
        out_dir: folder of the JSON files and split lists, created if missing; the root by default.
        nproc: number of worker processes; 1 runs in this one.
        source: ``auto``, ``polygons`` or ``label_ids``, see :meth:`.Sample.source_suffix`.
        force: also write label maps that are up to date.

    Returns:
        Counts and remarks, for :func:`print_report`.

    Raises:
        DataError: a folder or file is missing or cannot be used. Maps written before that stay; statistics and
            lists are written only if every sample succeeds.
    """
    root = Path(cityscapes_path)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give the Cityscapes root, which holds {gt_dir}")
    # Lexical on purpose: gtFine is often a link to another disk, and its paths must still start at the root.
    gt_relative = Path(os.path.relpath(root / gt_dir, root))
    if ".." in gt_relative.parts:
        raise DataError(f"--gt-dir {gt_dir} lies outside {root}: it must be a folder in the root, or a link")
    samples = find_samples(root / gt_relative)
    out_dir = root if out_dir is None else Path(out_dir)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out_dir} cannot be created ({error.strerror})") from error

    report = ConversionReport(out_dir, {split: len(found) for split, found in samples.items()})
    everything = [sample for split_samples in samples.values() for sample in split_samples]
    work = functools.partial(convert_sample, source=source, force=force)
    statistics: dict[str, dict[int, int]] = {}
    outcomes = outcomes_of(work, everything, nproc, "label maps", chunk=CHUNK)
    for sample, (written, counts) in zip(everything, outcomes, strict=True):
        report.written += written
        report.unchanged += not written
        if sample.split == STATISTICS_SPLIT:
            path = gt_relative / sample.split / (sample.name + TRAIN_IDS_SUFFIX)
            statistics[path.as_posix()] = counts

    for split, split_samples in samples.items():
        _write_text(out_dir / f"{split}.txt", "".join(f"{sample.name}\n" for sample in split_samples))
    if statistics:
        write_statistics(out_dir, statistics)
    _summarise(report, statistics)
    return report


def write_statistics(out_dir: Path, statistics: dict[str, dict[int, int]]) -> None:
    """Write the files that rare class sampling reads: label file -> pixels by train id."""
    per_class: dict[int, list[tuple[str, int]]] = {}
    for path, counts in statistics.items():
        for class_id, pixels in counts.items():
            per_class.setdefault(class_id, []).append((path, pixels))
    contents = {
        STATISTICS_FILES[0]: [{**counts, "file": path} for path, counts in statistics.items()],
        "sample_class_stats_dict.json": statistics,
        STATISTICS_FILES[1]: dict(sorted(per_class.items())),
    }
    for name, content in contents.items():
        _write_text(out_dir / name, json.dumps(content, indent=2) + "\n")


def _summarise(report: ConversionReport, statistics: dict[str, dict[int, int]]) -> None:
    for counts in statistics.values():
        for class_id, pixels in counts.items():
            report.class_pixels[class_id] += pixels
            report.class_images[class_id] += pixels > RARE_CLASS_MIN_PIXELS
    missing = [split for split in SPLITS if split not in report.files_per_split]
    if missing:
        report.notes.append(f"No folder for the split {', '.join(missing)}: skipped, no list written.")
    if not statistics:
        report.notes.append(f"No label map in the split {STATISTICS_SPLIT}: no class statistics written.")


def print_report(report: ConversionReport) -> None:
    """Print the files per split, the class table of the train split and the remarks to stdout."""
    console = Console()
    splits = ", ".join(f"{split} {number}" for split, number in report.files_per_split.items())
    table = TextTable("class", title=f"Classes of the {STATISTICS_SPLIT} split")
    table.add_column("pixels", justify="right")
    table.add_column(f"images with > {RARE_CLASS_MIN_PIXELS} pixels", justify="right")
    for class_id, name in enumerate(CLASSES):
        table.add_row(f"{class_id} {name}", f"{report.class_pixels[class_id]:,}", f"{report.class_images[class_id]:,}")
    if any(report.class_pixels):
        console.print(table)
    # Not by rich, which would take square brackets in a folder's name for markup.
    print(f"Files per split: {splits}")
    print(f"Label maps: {report.written} written, {report.unchanged} up to date")
    for note in report.notes:
        print(note)
    print(f"Statistics and lists: {report.out_dir}")
