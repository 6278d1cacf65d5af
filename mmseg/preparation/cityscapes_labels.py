"""Prepare the Cityscapes ground truth: train id label maps, class statistics and split lists.

Label maps. ``<gt_dir>/<split>/<city>/<name>_gtFine_labelTrainIds.png`` is written beside its source:
one 8-bit grey channel (PIL mode ``L``), 0..18 for the evaluation classes and 255 for everything else.

Statistics (over the ``train`` split only; 255 is not counted; class keys are strings, as JSON has them):

* ``sample_class_stats.json``: ``[{"<class>": pixels, ..., "file": path}, ...]``
* ``sample_class_stats_dict.json``: ``{path: {"<class>": pixels, ...}, ...}``
* ``samples_with_class.json``: ``{"<class>": [[path, pixels], ...], ...}``, every image that shows the class

Every ``path`` is the label map's, relative to the Cityscapes root and with forward slashes
(``gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png``), whatever the working directory was
and whichever way the root was spelt. A reader joins it to its own Cityscapes root.

Split lists. ``train.txt``, ``val.txt`` and ``test.txt`` hold one ``<city>/<name>`` a line.

All entries are sorted by name, and every file appears under its final name only when it is complete.
The label tables and the drawing rules are those of the public Cityscapes tools; the layout of the JSON files
is the one that rare class sampling reads (Hoyer et al., DAFormer, CVPR 2022, section 3.2).
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from rich.console import Console

from mmseg.classes import CLASSES, IGNORE_LABEL, LABEL_ID_TO_TRAIN_ID, LABEL_NAME_TO_ID
from mmseg.config.kinds import Number, Whole, shown
from mmseg.errors import DataError, did_you_mean
from mmseg.io.file_work import outcomes_of
from mmseg.io.files import atomic_path, visible, write_text
from mmseg.io.image_files import LABEL_IDS, MAX_PIXELS, open_label
from mmseg.io.json_files import read_json
from mmseg.system.printing import TextTable

# pixels of an image, and where its polygons lie
SIDE, COORDINATE = Whole(1, 16384), Number(-1e6, 1e6)

SPLITS = ("train", "val", "test")
STATISTICS_SPLIT = "train"

# Rare class sampling draws only files with more pixels of the class than this.
RARE_CLASS_MIN_PIXELS = 3000

POLYGONS_SUFFIX = "_gtFine_polygons.json"
LABEL_IDS_SUFFIX = "_gtFine_labelIds.png"
TRAIN_IDS_SUFFIX = "_gtFine_labelTrainIds.png"
# The polygons come first: they are what the reference statistics were made from, and drawing them takes no
# longer than decoding a label id image (3 to 15 ms either way at 2048x1024).
SOURCE_SUFFIXES = {"polygons": POLYGONS_SUFFIX, "label_ids": LABEL_IDS_SUFFIX}

EXTRACT = "extract it anew from the archive"
EXTRACT_SOURCES = "extract gtFine_trainvaltest.zip, to draw it anew from its polygons"

# Samples per message between processes: a sample takes a few ms, little more than a message.
CHUNK = 16

# Entry i is the train id of label id i. -1 (license plate) reads as 255 in an 8-bit image and stays ignored.
LABEL_ID_TABLE = [LABEL_ID_TO_TRAIN_ID.get(label_id, IGNORE_LABEL) for label_id in range(256)]


@dataclass(frozen=True)
class Sample:
    """One annotated image.

    Attributes:
        split: ``train``, ``val`` or ``test``: the folder that it lies in.
        name: ``<city>/<city>_<sequence>_<frame>``, as in the split lists.
        folder: the city folder.
        sources: which of the three suffixes exist for this name.
    """

    split: str
    name: str
    folder: Path
    sources: frozenset[str]

    def path(self, suffix: str) -> Path:
        """Return the file of this sample that ends in ``suffix``."""
        return self.folder / (self.name.rpartition("/")[2] + suffix)


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


def draw_polygons(path: Path) -> Image.Image:
    """Rasterise the objects of a ``*_polygons.json`` file, later ones over earlier ones.

    Args:
        path: JSON file with ``imgWidth``, ``imgHeight`` and ``objects``, a list of
            ``{"label": str, "polygon": [[x, y], ...]}`` in pixels.

    Returns:
        Image of mode ``L`` and size (imgWidth, imgHeight) with train ids 0..18 and 255.

    Raises:
        DataError: the file cannot be read, is incomplete or has an unknown label.
    """
    try:
        annotation = read_json(path)
        size = [annotation["imgWidth"], annotation["imgHeight"]]
        if not all(SIDE.accepts(side) for side in size):
            raise ValueError(f"imgWidth and imgHeight are {shown(size)}; each is {SIDE.text}")
        if size[0] * size[1] > MAX_PIXELS:
            raise ValueError(f"{size[0]}x{size[1]} are more than {MAX_PIXELS:,} pixels")
        image = Image.new("L", tuple(size), IGNORE_LABEL)
        objects = [
            (str(item["label"]), [(x, y) for x, y in item["polygon"]])
            for item in annotation["objects"]
            if not item.get("deleted")
        ]
    except DataError as error:
        raise _unreadable(path, ValueError(str(error).removeprefix(f"{path} "))) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise _unreadable(path, error) from error
    drawer = ImageDraw.Draw(image)
    for label, polygon in objects:
        label_id = _label_id(label, path)
        # Negative ids leave what lies beneath: a license plate is part of its car.
        if label_id < 0:
            continue
        try:
            points = [(_coordinate(x), _coordinate(y)) for x, y in polygon]
            drawer.polygon(points, fill=LABEL_ID_TABLE[label_id])
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: the polygon of a {label!r} cannot be drawn ({error})") from error
    return image


def _coordinate(value: Any) -> float:
    if not COORDINATE.accepts(value):
        raise ValueError(f"{shown(value)} is not {COORDINATE.text}")
    return value


def _label_id(label: str, path: Path) -> int:
    name = label
    # A crowd that cannot be told apart ("cargroup") has the class of its members.
    if name not in LABEL_NAME_TO_ID and name.endswith("group"):
        name = name.removesuffix("group")
    if name not in LABEL_NAME_TO_ID:
        hint = did_you_mean(label, LABEL_NAME_TO_ID)
        raise DataError(f"{path}: {label!r} is not a Cityscapes label{hint}")
    return LABEL_NAME_TO_ID[name]


def map_label_ids(path: Path) -> Image.Image:
    """Turn a ``*_labelIds.png`` file (label ids 0..33) into train ids.

    Returns:
        Image of mode ``L`` and the same size with train ids 0..18 and 255.

    Raises:
        DataError: the file cannot be read, has more than one channel or holds an unknown id.
    """
    return open_label(path, EXTRACT, LABEL_IDS).point(LABEL_ID_TABLE)


def count_classes(image: Image.Image) -> dict[int, int]:
    """Return the number of pixels of every class (0..18) that a train id image shows, in class order."""
    return {c: n for c, n in enumerate(image.histogram()[: len(CLASSES)]) if n}


def find_samples(gt_dir: Path) -> dict[str, list[Sample]]:
    """List the samples of every split folder that exists, sorted by name.

    Args:
        gt_dir: folder with ``<split>/<city>/<name>_gtFine_*``.

    Raises:
        DataError: no split folder, or not a single annotation in them.
    """
    if not gt_dir.is_dir():
        raise DataError(f"{gt_dir} is not a folder: extract gtFine_trainvaltest.zip into {gt_dir.parent}")
    samples = {s: _find_split_samples(gt_dir / s, s) for s in SPLITS if (gt_dir / s).is_dir()}
    if not samples:
        raise DataError(
            f"{gt_dir} holds none of the folders {', '.join(SPLITS)}: extract gtFine_trainvaltest.zip "
            f"so that {gt_dir / 'train'} exists, or name the folder above them with --gt-dir"
        )
    if not any(samples.values()):
        raise DataError(
            f"no annotation in {gt_dir}: expected <split>/<city>/*{POLYGONS_SUFFIX}, *{LABEL_IDS_SUFFIX} "
            f"or *{TRAIN_IDS_SUFFIX}"
        )
    return samples


def _find_split_samples(split_dir: Path, split: str) -> list[Sample]:
    samples = []
    for city in visible(split_dir, "*"):
        if not city.is_dir():
            continue
        sources: dict[str, set[str]] = {}
        for file_name in (f.name for f in visible(city, "*")):
            for suffix in (POLYGONS_SUFFIX, LABEL_IDS_SUFFIX, TRAIN_IDS_SUFFIX):
                if file_name.endswith(suffix):
                    sources.setdefault(file_name.removesuffix(suffix), set()).add(suffix)
        samples += [Sample(split, f"{city.name}/{stem}", city, frozenset(s)) for stem, s in sources.items()]
    return sorted(samples, key=lambda sample: sample.name)


def convert_sample(sample: Sample, source: str = "auto", force: bool = False) -> tuple[bool, dict[int, int]]:
    """Write the train id map of one sample if it is missing or older than its source.

    Args:
        sample: the sample.
        source: ``polygons``, ``label_ids``, or ``auto``: the polygons where they exist, else the label ids,
            else the train id map as it is.
        force: write it even if it is up to date.

    Returns:
        Whether the map was written, and the pixels of each class in it (empty outside the train split).

    Raises:
        DataError: a file cannot be read or written, or the asked source does not exist.
    """
    source_suffix = _choose_source(sample, source)
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


def _choose_source(sample: Sample, source: str) -> str:
    if source == "auto":
        order = (*SOURCE_SUFFIXES.values(), TRAIN_IDS_SUFFIX)
        return next(suffix for suffix in order if suffix in sample.sources)
    suffix = SOURCE_SUFFIXES[source]
    if suffix not in sample.sources:
        raise DataError(f"{sample.path(suffix)} does not exist: use --source auto, which takes what is there")
    return suffix


def _is_outdated(target: Path, source: Path) -> bool:
    try:
        return target.stat().st_mtime_ns < source.stat().st_mtime_ns
    except FileNotFoundError:
        return True


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
    return DataError(f"{path} cannot be read ({reason}): {EXTRACT}")


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
        out_dir: folder of the JSON files and split lists; the root if not given. Made if missing.
        nproc: number of worker processes; 1 works in this one.
        source: ``auto``, ``polygons`` or ``label_ids``, see :func:`convert_sample`.
        force: write label maps that are up to date too.

    Returns:
        Counts and remarks, for :func:`print_report`.

    Raises:
        DataError: a folder or file is missing or cannot be used. Maps written before stay; statistics and
            lists are written only when every sample succeeded.
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
        raise DataError(f"{out_dir} cannot be made ({error.strerror})") from error

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
        _write_statistics(out_dir, statistics)
    _summarise(report, statistics)
    return report


def _write_statistics(out_dir: Path, statistics: dict[str, dict[int, int]]) -> None:
    per_class: dict[int, list[tuple[str, int]]] = {}
    for path, counts in statistics.items():
        for class_id, pixels in counts.items():
            per_class.setdefault(class_id, []).append((path, pixels))
    contents = {
        "sample_class_stats.json": [{**counts, "file": path} for path, counts in statistics.items()],
        "sample_class_stats_dict.json": statistics,
        "samples_with_class.json": dict(sorted(per_class.items())),
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
    # Plain lines: rich would take square brackets in a folder's name for markup.
    print(f"Files per split: {splits}")
    print(f"Label maps: {report.written} written, {report.unchanged} up to date")
    for note in report.notes:
        print(note)
    print(f"Statistics and lists: {report.out_dir}")
