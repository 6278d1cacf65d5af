"""What an exported network takes and gives, in words and numbers that need none of our code."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

import mmseg
from mmseg.classes import CLASSES, PALETTE
from mmseg.config.load import get_key
from mmseg.datasets.dark_zurich import DATA_TYPES, DarkZurichICDataset
from mmseg.datasets.dsec_night import TEST_ROWS, DSECDataset
from mmseg.datasets.normalization import IMAGE_MEAN, IMAGE_STD
from mmseg.errors import ConfigError
from mmseg.events.normalize import event_clip_range
from mmseg.events.recording import HEIGHT, WIDTH
from mmseg.extractors.content import NIGHT_PARAMS, SHIFTS, ContentParams, params_of_data_type
from mmseg.registry import DATASETS


class InputRecipe:
    """How the test set of a config makes the inputs of the network. Its data need not be there.

    Args:
        config: a whole config.

    Attributes:
        TEST_STREAMS, outputs, prediction_size: as those of the data set.
        input_size: (height, width) of the network's inputs in a test.

    Raises:
        ConfigError: ``data.test`` is of a type that no test takes.
    """

    def __init__(self, config: Config) -> None:
        given = get_key(config, "data.test") or {}
        kind = DATASETS.get(given.get("type") or "")
        if kind not in (DSECDataset, DarkZurichICDataset):
            raise ConfigError(
                f"data.test.type is {given.get('type')!r}; a network is tested, and exported, for 'DSECDataset' or "
                "'DarkZurichICDataset'"
            )
        defaults = {name: value.default for name, value in inspect.signature(kind).parameters.items()}
        self.settings: dict[str, Any] = {**defaults, **given}
        self.is_dsec = kind is DSECDataset
        self.TEST_STREAMS = kind.TEST_STREAMS
        self.outputs = frozenset(self.settings["outputs"])
        if self.is_dsec:
            self.prediction_size = kind.prediction_size
            self.input_size = tuple(self.settings["test_resize_size"] or self.prediction_size)
        else:
            self.prediction_size = self.input_size = tuple(self.settings["image_resize_size"])[::-1]

    def steps(self, stream: str, size: Sequence[int]) -> dict[str, Any]:
        """What an input is and how it is made, step by step.

        Args:
            stream: input stream of the network.
            size: (height, width) of the input.
        """
        if stream == "image":
            return self._image(size)
        events = self.TEST_STREAMS[stream] == "events_vg"
        return self._events(size) if events else self._content_map(size)

    def _picture(self, size: Sequence[int]) -> str:
        resized = f"resized to {size[0]}x{size[1]}, bilinear and smoothed (PIL)"
        if self.is_dsec:
            warped = f"camera image warped into the event camera's frame, {HEIGHT}x{WIDTH}"
            return f"{warped}; rows 0..{TEST_ROWS - 1}, {resized}"
        return f"camera image, {resized}"

    def _image(self, size: Sequence[int]) -> dict[str, Any]:
        return {
            "content": "RGB image",
            "mean": list(IMAGE_MEAN),
            "std": list(IMAGE_STD),
            "steps": [
                self._picture(size),
                "RGB, 0..255: (value - mean) / std",
                "channels first, float32",
            ],
        }

    def _events(self, size: Sequence[int]) -> dict[str, Any]:
        bins = 5 if self.settings["events_bins_5_avg_1"] else 1
        frames, number = self.settings["image_change_range"], self.settings["events_num"]
        window = f"the last {number} events up to the image" if number else f"events from image n-{frames} to image n"
        clip_range = self.settings["events_clip_range"]
        per_million = event_clip_range(0, 1_000_000)
        clip = f"clip = {sum(clip_range) / 2:g}" if clip_range else f"clip = {per_million:g} * events / 1,000,000"
        spread = "the 4 cells around it" if bins == 1 else f"the 8 cells around it in x, y and {bins} temporal bins"
        mean = [] if bins == 1 else [f"mean of the {bins} bins"]
        return {
            "content": "events as a voxel grid",
            "range": [-1, 1],
            "steps": [
                window,
                "rectified positions; each event adds +1 or -1 (its polarity), split (bi- or tri-)linearly over "
                f"{spread}, on a grid of {HEIGHT}x{WIDTH}",
                "cells that are not 0: less their mean, by their standard deviation",
                f"{clip}; positive values: min(value, clip), then from [least, largest] of the frame to [0, 1], cells "
                "without one counting as 0; negative values alike to [-1, 0]",
                *mean,
                f"rows 0..{TEST_ROWS - 1}, resized to {size[0]}x{size[1]}, bilinear, pixel centres at .5",
                "three equal channels, float32",
            ],
        }

    def _content_map(self, size: Sequence[int]) -> dict[str, Any]:
        params = self._content_params()
        low, high = params.val_range
        direction = self.settings["shift_type"]
        shifts = SHIFTS["rightdown" if direction == "random" else direction]
        large = not self.is_dsec and self.settings["high_resolution_isr"]
        after = [f"resized to {size[0]}x{size[1]}, bilinear and smoothed"] if large else []
        return {
            "content": "content map of the image",
            "range": [-1, 1],
            "steps": [
                "camera image at its own size" if large else self._picture(size),
                "grey level g, 0..255 (ITU-R 601)",
                f"v = ln(g / 255 * ({high:g} - {low:g}) + {low:g}); span = ln({high:g} / {low:g})",
                f"for each of {', '.join(shifts)}: v moved by {params.shift_pixel} pixels that way, less v; 0 where "
                f"nothing moved in and where it is at most {params.threshold:g} * span",
                f"clip = {params.clip_range:g} * span; positive values: min(value, clip), then from [least, largest] "
                "of the frame to [0, 1], pixels without one counting as 0; negative values alike to [-1, 0]",
                "mean over the directions",
                *after,
                "three equal channels, float32",
            ],
        }

    def _content_params(self) -> ContentParams:
        given = self.settings["isr_parms"]
        if self.is_dsec:
            return ContentParams.from_config(given, NIGHT_PARAMS, "data.test.isr_parms")
        data_type = self.settings["dz_isr_data_type"]
        return params_of_data_type(given, data_type, DATA_TYPES, "data.test", "dz_isr_data_type")


def describe(recipe: InputRecipe, streams: Sequence[str], size: Sequence[int], labels: bool) -> dict[str, Any]:
    """Inputs, outputs and classes of an exported network, as plain data.

    Args:
        recipe: of the inputs.
        streams: names of the inputs.
        size: (height, width) of inputs and outputs.
        labels: whether it gives label and confidence in place of logits.
    """
    map_shape = ["batch", *size]
    inputs = [
        {"name": name, "shape": ["batch", 3, *size], "dtype": "float32", **recipe.steps(name, size)} for name in streams
    ]
    if labels:
        outputs = [
            {"name": "label", "shape": map_shape, "dtype": "uint8", "content": "number of the class"},
            {"name": "confidence", "shape": map_shape, "dtype": "float32", "content": "its softmax probability"},
        ]
    else:
        shape = ["batch", len(CLASSES), *size]
        content = "before softmax; the class of a pixel is the channel of the largest"
        outputs = [{"name": "logits", "shape": shape, "dtype": "float32", "content": content}]
    return {
        "inputs": inputs,
        "outputs": outputs,
        "classes": list(CLASSES),
        "palette_rgb": [list(color) for color in PALETTE],
        "size_of_the_test": {"inputs": list(recipe.input_size), "predictions": list(recipe.prediction_size)},
        "cmda": mmseg.__version__,
    }
