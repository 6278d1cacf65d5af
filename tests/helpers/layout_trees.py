"""Small trees in the layouts of published data sets."""

import json
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

# Values that occur in every label map.
LABELS = {19: (0, 2, 10, 13, 255), 11: (0, 1, 5, 10, 255)}


@lru_cache
def _encoded(size, seed, suffix) -> bytes:
    """An image file of coarse noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 16, 3)).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(noise).resize(size).save(file, format={".png": "PNG", ".jpg": "JPEG"}[suffix])
    return file.getvalue()


@lru_cache
def _encoded_labels(size, values) -> bytes:
    """A label map of vertical stripes."""
    columns = np.array(values, np.uint8)[np.arange(size[0]) * len(values) // size[0]]
    file = BytesIO()
    Image.fromarray(np.tile(columns, (size[1], 1))).save(file, format="PNG")
    return file.getvalue()


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def picture(path: Path, size=(96, 54), seed=0) -> Path:
    return _write(path, _encoded(size, seed % 2, path.suffix))


def label_map(path: Path, size=(96, 54), values=LABELS[19]) -> Path:
    return _write(path, _encoded_labels(size, values))


def recording(path: Path, times, sensor=(1280, 720), offset=None) -> Path:
    """Events spread over the sensor (width, height); without ``t_offset`` unless one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.asarray(times)
    number = np.arange(len(times))
    milliseconds = np.searchsorted(times, np.arange(times[-1] // 1000 + 1) * 1000)
    with h5py.File(path, "w") as file:
        file["events/t"] = times.astype(np.uint32)
        file["events/x"] = (number * 7919 % sensor[0]).astype(np.uint16)
        file["events/y"] = (number * 104729 % sensor[1]).astype(np.uint16)
        file["events/p"] = (number % 2).astype(np.uint8)
        file["ms_to_idx"] = milliseconds.astype(np.uint64)
        if offset is not None:
            file["t_offset"] = offset
    return path


SCENES = {
    "REC0001_frame_000001": ("train", "clear", "night"),
    "REC0001_frame_000002": ("train", "rain", "night"),
    "REC0001_frame_000003": ("train", "clear", "day"),
    "REC0002_frame_000004": ("val", "fog", "night"),
    "REC0003_frame_000005": ("test", "snow", "night"),
}


def make_muses(root: Path, calibration: dict, size=(96, 54)) -> Path:
    """Recordings of exactly 30 ms that begin at 0 and have no ``t_offset``."""
    meta = {}
    for number, (name, (split, weather, time)) in enumerate(SCENES.items()):
        place = f"{split}/{weather}/{time}/{name}"
        image, events = f"frame_camera/{place}_frame_camera.png", f"event_camera/{place}_event_camera.h5"
        meta[name] = {"split": split, "weather": weather, "time_of_day": time}
        meta[name] |= {"path_to_frame_camera": image, "path_to_event_camera": events}
        picture(root / image, size, number)
        recording(root / events, np.sort(np.append(np.arange(0, 29_999, 15), 29_999)))
        if split != "test":
            label_map(root / f"gt_semantic/{place}_gt_labelTrainIds.png", size)
    (root / "meta.json").write_text(json.dumps(meta))
    (root / "calib.json").write_text(json.dumps(calibration))
    return root


def make_dsec_sequence(
    sequence: Path, count=8, images="warp_images", as_downloaded=True, label_rows=440, image_rows=480
) -> Path:
    """A sequence of DSEC-Semantic; the recording begins with the third image."""
    times = 50_000_000 + 50_000 * np.arange(count)
    text = "".join(f"{time}\n" for time in times)
    recording(sequence / "events/left/events.h5", np.arange(0, 50_000 * (count - 2), 40), (640, 480), int(times[2]) - 9)
    with h5py.File(sequence / "events/left/rectify_map.h5", "w") as file:
        file["rectify_map"] = np.stack(np.meshgrid(np.arange(640), np.arange(480)), -1).astype(np.float32)
    folders = {n: sequence / (f"{n}classes" if as_downloaded else f"semantic/left/{n}classes/data") for n in LABELS}
    for number in range(count):
        picture(sequence / images / f"{number:06d}.png", (640, image_rows), number)
        for classes, folder in folders.items():
            label_map(folder / f"{number:06d}.png", (640, label_rows), LABELS[classes])
    if as_downloaded:
        (sequence / f"{sequence.name}_semantic_timestamps.txt").write_text(text)
        (sequence / "images").mkdir(exist_ok=True)
        (sequence / "images/timestamps.txt").write_text(text)
    else:
        (sequence / "semantic/timestamps.txt").write_text(text)
    return sequence


def make_acdc(root: Path) -> Path:
    for condition in ("night", "fog"):
        for split in ("train", "val", "test"):
            for number in range(3):
                name = f"GOPR0351_frame_{number:06d}"
                picture(root / f"rgb_anon/{condition}/{split}/GOPR0351/{name}_rgb_anon.png", seed=number)
                if split != "test":
                    label_map(root / f"gt/{condition}/{split}/GOPR0351/{name}_gt_labelTrainIds.png")
    return root


def make_nighttime_driving(root: Path) -> Path:
    for number in range(2):
        picture(root / f"leftImg8bit/test/night/{number}_frame_0001_leftImg8bit.png")
        name = f"{number}_frame_0001_gtCoarse_labelTrainIds.png"
        label_map(root / "gtCoarse_daytime_trainvaltest/test/night" / name)
    return root


def make_bdd100k(root: Path) -> Path:
    for split, name in (("train", "0a0a0b1a-7c39d841"), ("val", "1b1b1b1b-00000000"), ("val", "2c2c2c2c-00000000")):
        picture(root / f"images/10k/{split}/{name}.jpg")
        label_map(root / f"labels/sem_seg/masks/{split}/{name}.png")
    return root


def make_nightcity(root: Path) -> Path:
    """As the archives unpack: label ids next to pictures of the labels."""
    for name in ("Chicago_0001", "YouTube_0044"):
        picture(root / f"NightCity-images/images/val/{name}.png")
        label_map(root / f"NightCity-label/label/val/{name}_labelIds.png", values=(7, 11, 23, 0))
        picture(root / f"NightCity-label/label/val/{name}_color.png")
    return root
