"""Small recordings in every format, for the tests of their readers."""

from pathlib import Path

import h5py
import numpy as np

from mmseg.events.recording import HEIGHT, WIDTH

COUNT = 40


def events(**changes) -> dict[str, np.ndarray]:
    """Forty events of two milliseconds, on the sensor, in DSEC's types."""
    rng = np.random.default_rng(3)
    columns = {
        "t": np.sort(rng.integers(1, 2000, COUNT)).astype(np.uint32),
        "x": rng.integers(0, WIDTH, COUNT).astype(np.uint16),
        "y": rng.integers(0, HEIGHT, COUNT).astype(np.uint16),
        "p": rng.integers(0, 2, COUNT).astype(np.uint8),
    }
    return columns | changes


def write_h5(path: Path, columns: dict[str, np.ndarray], **options) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            file.create_dataset(f"events/{key}", data=values, **options)
        file["t_offset"] = 0
        file["ms_to_idx"] = np.searchsorted(columns["t"], [0, 1000]).astype(np.uint64) if "t" in columns else [0]
    return path


def write_map(path: Path, **options) -> Path:
    with h5py.File(path, "w") as file:
        if not options:
            options["data"] = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).astype(np.float32)
        file.create_dataset("rectify_map", **options)
    return path


def write_csv(path: Path, columns: dict[str, np.ndarray]) -> Path:
    np.savetxt(
        path, np.stack([columns[key].astype(np.float64) for key in "xypt"], axis=1), "%.17g", ",", header="x,y,p,t"
    )
    return path
