"""Files of the toy city, in the formats of the real data sets."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from mmseg.classes import LABEL_ID_TO_TRAIN_ID
from mmseg.errors import DataError
from mmseg.toy.events import EventArrays
from mmseg.visualization.panels import save_picture

FRAME_TIME = 50_000  # µs
CHUNK = 1 << 16
EGO_VEHICLE = 1  # Cityscapes label id

_LABEL_IDS = np.full(256, EGO_VEHICLE, np.uint8)
for _label_id, _train_id in LABEL_ID_TO_TRAIN_ID.items():
    _LABEL_IDS[_train_id] = _label_id


def label_ids(train_ids: np.ndarray) -> np.ndarray:
    """(H, W) train ids -> Cityscapes label ids; ignored pixels become ego vehicle."""
    return _LABEL_IDS[train_ids]


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) RGB or (H, W) uint8; missing folders are created.

    Raises:
        DataError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_picture(path, picture)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}): free space or choose another OUT"
        ) from None


def write_cityscapes(
    root: Path, split: str, name: str, image: np.ndarray, train_ids: np.ndarray, change: np.ndarray | None
) -> None:
    """Write one labelled day image of ``<city>_<sequence>_<frame>``, and its image change if given."""
    city = name.split("_")[0]
    write_png(day_files(root, split, name)[0], image)
    write_png(root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", label_ids(train_ids))
    if change is not None:
        write_png(root / "leftImg8bit_IC1" / split / city / f"{name}_leftImg8bit.png", change)


def day_files(root: Path, split: str, name: str) -> tuple[Path, Path]:
    """Image of ``<city>_<sequence>_<frame>``, and its label map of train ids, which the conversion writes."""
    city = name.split("_")[0]
    image = root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
    return image, root / "gtFine" / split / city / f"{name}_gtFine_labelTrainIds.png"


def write_night_frame(sequence: Path, frame: int, image: np.ndarray, train_ids: np.ndarray | None) -> None:
    """Write one image in the event camera's view of a night sequence, and its label if given."""
    write_png(night_image(sequence, frame), image)
    if train_ids is not None:
        write_png(night_label(sequence, frame), train_ids)


def night_image(sequence: Path, frame: int) -> Path:
    """Image of a night sequence."""
    return sequence / "warp_images" / f"{frame:06d}.png"


def night_label(sequence: Path, frame: int) -> Path:
    """Label map of a night sequence."""
    return sequence / "labels" / f"{sequence.name}_{frame:06d}_grey_gtFine_labelTrainIds.png"


def events_file(sequence: Path) -> Path:
    """Recording of a night sequence."""
    return sequence / "events" / "left" / "events.h5"


def rectify_map_file(sequence: Path) -> Path:
    """Rectify map of a night sequence."""
    return sequence / "events" / "left" / "rectify_map.h5"


def write_recording(
    sequence: Path, events: EventArrays, start: int, frames: int, clock: int, mapping: np.ndarray
) -> None:
    """Write events, rectify map and image timestamps of a night sequence.

    Args:
        sequence: its folder.
        events: times in µs since ``start``.
        start: µs from frame 0 to the start of the recording.
        frames: number of lines of ``timestamps.txt``.
        clock: µs of frame 0 on the clock of the recording.
        mapping: (height, width, 2) float32.

    Raises:
        DataError: a file cannot be written.
    """
    try:
        events_file(sequence).parent.mkdir(parents=True, exist_ok=True)
        (sequence / "images").mkdir(parents=True, exist_ok=True)
        # libver and track_times: without timestamps in the file, equal data give equal bytes
        with h5py.File(events_file(sequence), "w", libver="v110") as file:
            group = file.create_group("events", track_order=False)
            kinds = {"p": np.uint8, "t": np.uint32, "x": np.uint16, "y": np.uint16}
            for key, kind in kinds.items():
                _dataset(group, key, getattr(events, key).astype(kind))
            milliseconds = np.arange(int(events.t[-1]) // 1000 + 1, dtype=np.int64) * 1000
            _dataset(file, "ms_to_idx", np.searchsorted(events.t, milliseconds, side="left").astype(np.uint64))
            file.create_dataset("t_offset", data=np.int64(clock + start), track_times=False)
        with h5py.File(rectify_map_file(sequence), "w", libver="v110") as file:
            _dataset(file, "rectify_map", mapping.astype(np.float32))
        times = "".join(f"{clock + FRAME_TIME * frame}\n" for frame in range(frames))
        (sequence / "images" / "timestamps.txt").write_text(times, encoding="utf-8", newline="")
    except OSError as error:
        raise DataError(f"{sequence} cannot be written ({error}): free space or choose another OUT") from None


def _dataset(parent: h5py.Group, name: str, data: np.ndarray) -> None:
    chunks = (min(CHUNK, len(data)),) if data.ndim == 1 else data.shape
    parent.create_dataset(
        name, data=data, chunks=chunks, track_times=False, **hdf5plugin.Blosc(cname="zstd", clevel=3, shuffle=1)
    )


def write_dark_zurich(
    root: Path, split: str, sequence: str, frame: int, image: np.ndarray, train_ids: np.ndarray | None
) -> None:
    """Write one night image of Dark Zurich, and its label if given."""
    name = f"{sequence}_frame_{frame:06d}"
    write_png(root / "rgb_anon" / split / "night" / sequence / f"{name}_rgb_anon.png", image)
    if train_ids is not None:
        write_png(root / "gt" / split / "night" / sequence / f"{name}_gt_labelTrainIds.png", train_ids)
