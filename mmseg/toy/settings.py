"""Sizes of a toy city, and its record. Light to import, since the command line shows sizes in its help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mmseg.errors import ConfigError, DataError
from mmseg.io.json_files import read_json

# First frame number of the streets of a sequence. The frame lists keep the first 150 frames of sequence b, and 366 of
# e, out of training; labelled frames lie below the limits of a (798) and c (582).
TRAIN_SEQUENCES: Mapping[str, int] = {"zurich_city_09_b": 160, "zurich_city_09_e": 376}
TEST_SEQUENCES: Mapping[str, int] = {"zurich_city_09_a": 100, "zurich_city_09_c": 100}
LAST_TEST_FRAME = 581
# (width, height); only nights of this sensor go into the tree of DSEC_Night.
DSEC_SENSOR = (640, 480)


@dataclass(frozen=True)
class ToySettings:
    """Sizes of the toy city.

    Attributes:
        day, day_val: labelled day images of the train and val splits, each of a different street.
        day_width, day_height: their size in pixels.
        night_streets, test_streets: streets filmed for training and for the test.
        frames: consecutive frames of every night street, 50 ms apart.
        substeps: renderings per frame for the event camera; even.
        dark_zurich: streets of Dark Zurich, all splits together; 0 for none.
        sensor_width, sensor_height: size in pixels of the event camera, and of the night images.
    """

    day: int = 64
    day_val: int = 8
    day_width: int = 512
    day_height: int = 256
    night_streets: int = 16
    test_streets: int = 9
    frames: int = 2
    substeps: int = 8
    dark_zurich: int = 0
    sensor_width: int = DSEC_SENSOR[0]
    sensor_height: int = DSEC_SENSOR[1]

    def checked(self) -> ToySettings:
        """Return these settings.

        Raises:
            ConfigError: a value out of range; the message names it.
        """
        limits = {
            "day": (1, 100_000),
            "day_val": (0, 100_000),
            "day_width": (64, 4096),
            "day_height": (32, 2048),
            "night_streets": (1, 10_000),
            "test_streets": (1, 10_000),
            "frames": (1, 100),
            "substeps": (4, 64),
            "dark_zurich": (0, 10_000),
            "sensor_width": (64, 4096),
            "sensor_height": (48, 2048),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}; choose a number from {low} to {high}")
        if self.substeps % 2:
            raise ConfigError(f"substeps is {self.substeps}; choose an even number")
        frame = max(TEST_SEQUENCES.values()) + -(-self.test_streets // len(TEST_SEQUENCES)) * self.stride
        if frame > LAST_TEST_FRAME:
            raise ConfigError(
                f"{self.test_streets} test streets of {self.frames} frames do not fit into the frame numbers that "
                "are held out of training: lower test_streets or frames"
            )
        return self

    @property
    def is_dsec(self) -> bool:
        """Whether the event camera has the size of DSEC's."""
        return (self.sensor_width, self.sensor_height) == DSEC_SENSOR

    @property
    def night_folder(self) -> str:
        """Folder of the night sequences below ``data``."""
        return "DSEC_Night" if self.is_dsec else "night"

    @property
    def stride(self) -> int:
        """Frame numbers from one street of a sequence to the next."""
        return self.frames + 3

    def with_changes(self, changes: Mapping[str, int | None]) -> ToySettings:
        """Checked settings with the given values, except those that are None."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None}).checked()


SIZES: Mapping[str, ToySettings] = {
    "tiny": ToySettings(day=6, day_val=1, day_width=256, day_height=128, night_streets=2, test_streets=2, substeps=4),
    "small": ToySettings(),
    "medium": ToySettings(day=256, day_val=32, night_streets=64, test_streets=36, dark_zurich=40),
}
# Config values of a training on a tiny city, which has small days and few pixels of the rare classes.
TINY_TRAINING: Mapping[str, object] = {
    "data.train.rare_class_sampling.min_pixels": 10,
    "data.train.source.image_resize_size": (256, 128),
    "data.train.source.image_crop_size": (128, 128),
    "data.train.target.after_crop_resize_size": (128, 128),
}
MARKER = "toy_city.json"


def city_record(folder: Path) -> dict:
    """Content of ``toy_city.json`` of a complete toy city: settings and statistics; empty if there is no such city."""
    try:
        record = read_json(folder / MARKER)
    except DataError:
        return {}
    return record if record.get("complete") is True else {}
