"""Make the pictures that train the style-transfer generator (CMDA, section 3.2).

Domain A, image change: crops of ``leftImg8bit_IC1`` resized to 1024x512, as the training of CMDA sees it. Domain B,
night events: crops of normalised voxel grids of one bin, from the frames of a DSEC_Night list. Both as 8-bit levels.

The last tenth of the source files of each domain, in their order, gives only the held-out pictures.
"""

from __future__ import annotations

import functools
import json
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.crops import CropDraw
from mmseg.datasets.dsec_night import DSECDataset, DSECDraw
from mmseg.datasets.layouts import MOTION_FOLDERS
from mmseg.errors import ConfigError, DataError
from mmseg.events.recording import HEIGHT, WIDTH
from mmseg.io.file_work import write_files
from mmseg.io.files import atomic_path, is_bare, write_text
from mmseg.io.json_files import read_json
from mmseg.style_transfer.pictures import DOMAINS, MANIFEST, to_levels

# Cityscapes as a training of CMDA resizes it: width, height
DAY_SIZE = (1024, 512)
HELD_OUT_SHARE = 10
# separates the random stream of these crops from those of training
PICTURE_KEY = 2


@dataclass(frozen=True)
class PictureSettings:
    """Settings of the pictures; equal settings and sources give equal bytes.

    Attributes:
        count, held_out: pictures per domain, for training and held out.
        width, height: of a picture, in pixels.
        seed: 0 or more.
        day_size, night_size: (width, height) that image changes and event frames are resized to before they are
            cropped: the scale in the training of CMDA.
    """

    count: int
    held_out: int
    width: int
    height: int
    seed: int
    day_size: tuple[int, int] = DAY_SIZE
    night_size: tuple[int, int] = (WIDTH, HEIGHT)

    @property
    def event_crop(self) -> tuple[int, int]:
        """(width, height) of the part of an event frame that makes a picture, before it is resized."""
        width, height = self.night_size
        return round(self.width * WIDTH / width), round(self.height * HEIGHT / height)


@dataclass(frozen=True)
class PictureTask:
    """One picture: a crop of source file ``index`` of a domain, and its path."""

    domain: str
    index: int
    draw: CropDraw
    path: Path


@dataclass(frozen=True)
class Sources:
    """The data sets that the pictures are cut from."""

    change: CityscapesICDataset
    events: DSECDataset

    def names(self, domain: str) -> list[str]:
        """Name of every source file, in order."""
        if domain == "change":
            return [name.rpartition("/")[2] for name in self.change.names]
        return [f"{frame.sequence}_{frame.frame:06d}" for frame in self.events.frames]

    def levels(self, task: PictureTask) -> np.ndarray:
        """(H, W) uint8 of a task."""
        if task.domain == "change":
            sample = self.change.sample(task.index, task.draw)["img_time_res"]
        else:
            sample = self.events.sample(task.index, DSECDraw(task.draw, None))["events_vg"]
        return to_levels(sample[0])


def open_sources(cityscapes: str | Path, dsec_list: str | Path, settings: PictureSettings) -> Sources:
    """Open both data sets and check that the crop fits and all files exist.

    Raises:
        DataError: a folder or file is missing.
        ConfigError: a crop larger than the pictures.
    """
    crop = (settings.width, settings.height)
    for (width, height), what in ((settings.day_size, "image changes"), (settings.night_size, "event frames")):
        if crop[0] > width or crop[1] > height:
            raise ConfigError(f"--size {crop[1]}x{crop[0]} does not fit into the resized {what}, {height}x{width}")
    for folder in ("leftImg8bit", MOTION_FOLDERS["image_change"]):
        if not (Path(cityscapes) / folder / "train").is_dir():
            raise DataError(
                f"{Path(cityscapes) / folder / 'train'} does not exist; put it there (see data/README.md) or name "
                "another folder with --cityscapes"
            )
    if not Path(dsec_list).is_file():
        raise DataError(
            f"{dsec_list} does not exist; create it with create_dsec_dataset_txt.py or name another with --dsec-list"
        )
    return Sources(
        CityscapesICDataset(str(cityscapes), settings.day_size, crop, outputs=("img_time_res",)),
        DSECDataset(str(dsec_list), ("events_vg",), settings.event_crop[::-1], crop[::-1]),
    )


def picture_tasks(sources: Sources, settings: PictureSettings, out: Path) -> list[PictureTask]:
    """Every picture, in order of domain, part and number.

    All files of a part are used equally often. If a file has room for one crop only, it is used once, and there may be
    fewer pictures than requested.

    Raises:
        DataError: a domain has too few files to hold some out.
    """
    tasks = []
    for d, (domain, letter) in enumerate(DOMAINS.items()):
        names = sources.names(domain)
        (width, height), crop = settings.day_size, (settings.width, settings.height)
        if domain == "events":
            (width, height), crop = (WIDTH, HEIGHT), settings.event_crop
        held_out = max(1, len(names) // HELD_OUT_SHARE) if settings.held_out else 0
        if len(names) <= held_out:
            raise DataError(f"domain {letter} ({domain}) has {len(names)} source file; at least two are needed")
        whole = (width, height) == crop
        split = len(names) - held_out
        parts = (("train", range(split), settings.count), ("test", range(split, len(names)), settings.held_out))
        for p, (part, files, count) in enumerate(parts):
            for k in range(min(count, len(files)) if whole else count):
                turn, place = divmod(k, len(files))
                order = np.random.default_rng([PICTURE_KEY, settings.seed, d, p, turn]).permutation(len(files))
                rng = np.random.default_rng([PICTURE_KEY, settings.seed, d, p, turn, place])
                draw = CropDraw.make(rng, width, height, *crop)
                index = files[int(order[place])]
                path = out / f"{part}{letter}" / f"{k:06d}_{names[index]}.png"
                # Flips are drawn in training.
                tasks.append(PictureTask(domain, index, replace(draw, flip=False), path))
    return tasks


def _write(sources: Sources, task: PictureTask) -> str:
    """Write one picture unless it exists; a file with its final name is complete."""
    if task.path.is_file():
        return "kept"
    levels = sources.levels(task)
    try:
        with atomic_path(task.path) as temporary:
            Image.fromarray(levels).save(temporary, format="PNG")
    except OSError as error:
        raise DataError(f"{task.path} cannot be written ({error.strerror or error})") from error
    return "written"


def make_pictures(
    cityscapes: str | Path, dsec_list: str | Path, out: str | Path, settings: PictureSettings, nproc: int = 1
) -> dict:
    """Write both domains; existing pictures are kept.

    Args:
        cityscapes: root with ``leftImg8bit`` (it names the files) and ``leftImg8bit_IC1``.
        dsec_list: list of frames written by ``create_dsec_dataset_txt.py``.
        out: folder; empty, absent, or from an interrupted run with equal settings and sources.
        nproc: number of processes; the result does not depend on it.

    Returns:
        ``pictures`` (number by folder), ``written`` and ``left_out`` (a note on skipped frames, or '').

    Raises:
        DataError: missing or damaged sources, or ``out`` holds other pictures or cannot be written.
        ConfigError: a size does not fit.
    """
    out = Path(out)
    sources = open_sources(cityscapes, dsec_list, settings)
    tasks = picture_tasks(sources, settings, out)
    names = [name for domain in DOMAINS for name in sources.names(domain)]
    sizes = {"day_size": list(settings.day_size), "night_size": list(settings.night_size)}
    made_of = {**asdict(settings), **sizes, "files": len(names), "names_crc32": zlib.crc32("\n".join(names).encode())}
    _check_out(out, made_of)
    pictures: dict[str, int] = {}
    for task in tasks:
        pictures[task.path.parent.name] = pictures.get(task.path.parent.name, 0) + 1
    try:
        for folder in pictures:
            (out / folder).mkdir(parents=True, exist_ok=True)
        _write_manifest(out, made_of, pictures, complete=False)
        report = write_files(functools.partial(_write, sources), tasks, nproc, "pictures", stop_at_first=True)
        _write_manifest(out, made_of, pictures, complete=True)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror or error}): free space or choose another") from error
    return {"pictures": pictures, "written": report.written, "left_out": sources.events.left_out}


def _write_manifest(out: Path, made_of: dict, pictures: dict[str, int], complete: bool) -> None:
    content = {"complete": complete, "made_of": made_of, "pictures": pictures}
    write_text(out / MANIFEST, json.dumps(content, indent=1) + "\n")


def _check_out(out: Path, made_of: dict) -> None:
    """Check that a folder has no other content."""
    if not out.exists() or is_bare(out):
        return
    try:
        earlier = read_json(out / MANIFEST).get("made_of")
    except DataError:
        earlier = None
    if not isinstance(earlier, dict):
        raise DataError(f"{out} is not empty and holds no {MANIFEST} of such a folder: give another folder")
    differ = [f"{key} {earlier.get(key)}, now {value}" for key, value in made_of.items() if earlier.get(key) != value]
    if differ:
        raise DataError(f"{out} was made of something else ({'; '.join(differ)}): give another folder or remove it")
