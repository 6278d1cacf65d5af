"""Dark Zurich test predictions in the form of the public evaluation server, checked before they are packed.

The server wants every prediction under the name of its image and at its full size: as train ids in ``labelTrainIds``
and ``labelTrainIds_invalid``, and its 16-bit confidence in ``confidence``. As in the published method no pixel is said
to be invalid, so the first two are alike and the confidence is full.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from mmseg.classes import CLASSES
from mmseg.errors import DataError
from mmseg.io.files import atomic_path, visible
from mmseg.io.image_files import decode, open_label
from mmseg.io.read_errors import READ_ERRORS, cause

LABELS, INVALID, CONFIDENCE = "labelTrainIds", "labelTrainIds_invalid", "confidence"
FOLDERS = (LABELS, INVALID, CONFIDENCE)
# (width, height) of the images.
SIZE = (1920, 1080)
FULL_CONFIDENCE = 65535
ARCHIVE = "submission.zip"
# Images of the whole test split.
TEST_IMAGES = 151
LISTED_FILES = 10


def write_submission(
    predictions: Mapping[str, Path],
    folder: str | Path,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Path:
    """Write the folder of a submission, check it, and pack ``submission.zip`` beside it.

    Args:
        predictions: image file name -> file of train ids (H, W), any size; it is resized to 1920x1080 (nearest).
        folder: where the three folders go; created if absent.
        progress: wraps the predictions, e.g. with a progress bar.

    Returns:
        The archive. It holds what the check passed; an earlier one is removed first.

    Raises:
        DataError: the check failed, e.g. by files of another run in the folder; nothing is packed.
    """
    folder = Path(folder)
    archive = folder.parent / ARCHIVE
    archive.unlink(missing_ok=True)
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    confidence = Image.fromarray(np.full(SIZE[::-1], FULL_CONFIDENCE, np.uint16))
    for name, path in progress(predictions.items()):
        resized = open_label(path, "test the run again").resize(SIZE, Image.Resampling.NEAREST)
        for where, image in ((LABELS, resized), (INVALID, resized), (CONFIDENCE, confidence)):
            with atomic_path(folder / where / name) as temporary:
                image.save(temporary, format="PNG")
    check_submission(folder, predictions)
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as packed:
        for where in FOLDERS:
            for name in sorted(predictions):
                packed.write(folder / where / name, f"{where}/{name}")
    return archive


def check_submission(path: str | Path, names: Collection[str] | None = None) -> int:
    """Check a folder or an archive: count, names, size, kind and values of its files.

    Args:
        path: folder that holds the three folders, or a ``.zip`` of them.
        names: file names of the test images; None compares the three folders with one another alone.

    Returns:
        Number of predictions.

    Raises:
        DataError: naming every fault and the files that have it.
    """
    path = Path(path)
    if path.is_dir():
        files = {p.relative_to(path).as_posix(): p.read_bytes for p in visible(path, "**/*") if p.is_file()}
        return _check(path, files, names)
    if not path.is_file():
        raise DataError(f"{path} does not exist; give the folder of a submission, or its archive")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [name for name in archive.namelist() if not name.endswith("/")]
            # Some packers put "./" before every name.
            files = {PurePosixPath(name).as_posix(): lambda name=name: archive.read(name) for name in entries}
            return _check(path, files, names)
    except READ_ERRORS as error:
        raise DataError(f"{path} is not a readable zip archive ({cause(error)}); pack the submission again") from error


def _check(path: Path, files: Mapping[str, Callable[[], bytes]], names: Collection[str] | None) -> int:
    by_folder: dict[str, set[str]] = {folder: set() for folder in FOLDERS}
    faults: dict[str, list[str]] = {}
    for file in files:
        folder, name = PurePosixPath(file).parent.as_posix(), PurePosixPath(file).name
        if folder in by_folder and name.endswith(".png"):
            by_folder[folder].add(name)
        else:
            faults.setdefault(f"not <folder>/<name>.png in {', '.join(FOLDERS)}", []).append(file)
    expected = set(names) if names is not None else set.union(*by_folder.values())
    if not expected:
        raise DataError(f"{path} holds no prediction; it needs {', '.join(f'{folder}/*.png' for folder in FOLDERS)}")
    for folder, found in by_folder.items():
        for fault, odd in (("missing", expected - found), ("not the name of a test image", found - expected)):
            faults.setdefault(fault, []).extend(f"{folder}/{name}" for name in sorted(odd))
        for name in sorted(found & expected):
            fault = _image_fault(files[f"{folder}/{name}"](), folder)
            if fault:
                faults.setdefault(fault, []).append(f"{folder}/{name}")
    faults = {fault: odd for fault, odd in faults.items() if odd}
    if faults:
        listed = "; ".join(f"{fault}: {_listed(odd)}" for fault, odd in faults.items())
        raise DataError(
            f"{path} is no submission for {len(expected)} images; {listed}. Remove, add or replace these files, or "
            "test again into an empty folder"
        )
    return len(expected)


def _image_fault(data: bytes, folder: str) -> str | None:
    """What is wrong with one file, or None."""
    try:
        image, header = decode(BytesIO(data), folder, formats=("PNG",))
    except DataError:
        return "not a readable PNG"
    kind = f"{header.bits}-bit {header.color}"
    if image.size != SIZE:
        return f"{image.width}x{image.height} pixels, not {SIZE[0]}x{SIZE[1]}"
    if folder == CONFIDENCE:
        return None if kind == "16-bit grey" else f"{kind}, not 16-bit grey"
    if kind != "8-bit grey":
        return f"{kind}, not 8-bit grey"
    highest = image.getextrema()[1]
    return f"values up to {highest}, not 0..{len(CLASSES) - 1}" if highest >= len(CLASSES) else None


def _listed(files: list[str]) -> str:
    more = len(files) - LISTED_FILES
    return ", ".join(files[:LISTED_FILES]) + (f" and {more} more" if more > 0 else "")
