"""Dark Zurich test predictions in the format of the public evaluation server, checked before they are packed.

The server expects every prediction under the name of its image and at full size: as train ids in ``labelTrainIds`` and
``labelTrainIds_invalid``, and its 16-bit confidence in ``confidence``. As in the published method, no pixel is marked
invalid, so the first two are equal and the confidence is the maximum.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from mmseg.classes import CITYSCAPES_19, CLASSES, ClassSet
from mmseg.errors import ConfigError, DataError
from mmseg.io.files import atomic_path, visible
from mmseg.io.image_files import decode, open_label
from mmseg.io.read_errors import READ_ERRORS, cause
from mmseg.work_dir.layout import TestFolder

LABELS, INVALID, CONFIDENCE = "labelTrainIds", "labelTrainIds_invalid", "confidence"
FOLDERS = (LABELS, INVALID, CONFIDENCE)
# (width, height) of the images.
SIZE = (1920, 1080)
FULL_CONFIDENCE = 65535
# Images of the whole test split.
TEST_IMAGES = 151
LISTED_FILES = 10
SERVER_CLOSED = (
    "the evaluation server of Dark Zurich has taken no submissions since January 2026, so this one cannot be scored "
    "there; for scores, test on other night images (docs/test.md#other-night-images)"
)
VAL_IS_HARDER = (
    "the validation images of Dark Zurich are harder than its test images: scores lie far below those that papers "
    "report for the test split"
)


def check_classes(classes: ClassSet) -> None:
    """Refuse predictions in other classes than the server's.

    Raises:
        ConfigError: naming the class set.
    """
    if classes != CITYSCAPES_19:
        raise ConfigError(
            "the predictions of Dark Zurich's test split are packed for its server, which takes the 19 Cityscapes "
            f"classes, and the config has those of {classes.name!r}; test another split"
        )


def write_submission(
    predictions: Mapping[str, Path],
    folder: str | Path,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Path:
    """Write the folder of a submission, check it, and pack it into ``submission.zip`` next to it.

    Args:
        predictions: image file name -> file of train ids (H, W), any size; it is resized to 1920x1080 (nearest).
        folder: parent of the three folders; created if missing.
        progress: wraps the predictions, e.g. with a progress bar.

    Returns:
        The archive. An earlier one is removed before the check.

    Raises:
        DataError: the check failed, e.g. because of files of another run in the folder; nothing is packed.
    """
    folder = Path(folder)
    archive = TestFolder(folder.parent).archive
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
    """Check count, names, size, format and values of the files in a folder or an archive.

    Args:
        path: parent of the three folders, or a ``.zip`` of them.
        names: file names of the test images; None only compares the three folders with one another.

    Returns:
        Number of predictions.

    Raises:
        DataError: names every fault and the affected files.
    """
    path = Path(path)
    if path.is_dir():
        found = (file for file in visible(path, "**/*") if file.is_file())
        return _check(path, {file.relative_to(path).as_posix(): file.read_bytes for file in found}, names)
    if not path.is_file():
        raise DataError(f"{path} does not exist; give the folder of a submission or its archive")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [name for name in archive.namelist() if not name.endswith("/")]
            # some packers put "./" before every name
            files = {PurePosixPath(name).as_posix(): partial(archive.read, name) for name in entries}
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
        raise DataError(
            f"{path} contains no predictions; it needs {', '.join(f'{folder}/*.png' for folder in FOLDERS)}"
        )
    for folder, found in by_folder.items():
        for fault, odd in (("missing", expected - found), ("not the name of a test image", found - expected)):
            faults.setdefault(fault, []).extend(f"{folder}/{name}" for name in sorted(odd))
        for name in sorted(found & expected):
            wrong = _image_fault(files[f"{folder}/{name}"](), folder)
            if wrong:
                faults.setdefault(wrong, []).append(f"{folder}/{name}")
    faults = {fault: odd for fault, odd in faults.items() if odd}
    if faults:
        listed = "; ".join(f"{fault}: {_listed(odd)}" for fault, odd in faults.items())
        raise DataError(
            f"{path} is not a submission for {len(expected)} images; {listed}. Remove, add or replace these files, or "
            "test again into an empty folder"
        )
    return len(expected)


def _image_fault(data: bytes, folder: str) -> str | None:
    """What is wrong with a file, if anything."""
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
    highest = int(np.asarray(image).max())
    return f"values up to {highest}, not 0..{len(CLASSES) - 1}" if highest >= len(CLASSES) else None


def _listed(files: list[str]) -> str:
    more = len(files) - LISTED_FILES
    return ", ".join(files[:LISTED_FILES]) + (f" and {more} more" if more > 0 else "")
