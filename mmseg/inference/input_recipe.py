"""How a test makes the inputs of its network, as settings for inference and in words for users of an export."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

import mmseg
from mmseg.config.arguments import arguments_of
from mmseg.config.class_sets import class_set_of
from mmseg.config.load import get_key
from mmseg.datasets.base import Size, pair
from mmseg.datasets.dark_zurich import DarkZurichICDataset
from mmseg.datasets.dsec_frames import TEST_ROWS
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.datasets.frames import FramesDataset
from mmseg.datasets.normalization import IMAGE_MEAN, IMAGE_STD
from mmseg.datasets.preprocessing import EventSettings
from mmseg.errors import ConfigError
from mmseg.events.normalize import event_clip_range
from mmseg.events.recording import HEIGHT, WIDTH
from mmseg.extractors.content import SHIFTS
from mmseg.registry import DATASETS


@dataclass(frozen=True)
class View:
    """What images and events of a test show, in words.

    Attributes:
        image: the image before it is resized.
        rows: the rows that are used, with a comma; '' for all.
        grid: height and width of the voxel grid.
    """

    image: str
    rows: str = ""
    grid: str = "the sensor's size that shows the image's view"


DSEC_VIEW = View(
    f"camera image warped into the event camera's frame, {HEIGHT}x{WIDTH}",
    f"rows 0..{TEST_ROWS - 1}, ",
    f"{HEIGHT}x{WIDTH}",
)


class InputRecipe:
    """How the test set of a config makes the inputs of the network. The config's data need not exist.

    Args:
        config: a whole config.

    Attributes:
        classes: class set of the config.
        TEST_STREAMS, outputs: as in :class:`mmseg.datasets.base.SampleStreams`.
        is_dsec: whether the test has events, as on DSEC.
        view: what images and events show.
        content: how content maps are extracted.
        events: how events become an input; None if the test set has none.
        image_change_range, events_num: window of the events, as in :class:`.DSECDataset`.
        input_size: (height, width) of the network's inputs in a test.
        prediction_size: (height, width) of labels and predictions of a test.
        resizes: whether a test resizes its images.

    Raises:
        ConfigError: no test uses the type of ``data.test``.
    """

    def __init__(self, config: Config) -> None:
        self.classes = class_set_of(config)
        given = get_key(config, "data.test") or {}
        kind = DATASETS.get(given.get("type") or "")
        if kind is None or not issubclass(kind, (DSECDataset, DarkZurichICDataset, FramesDataset)):
            raise ConfigError(
                f"data.test.type is {given.get('type')!r}; a network is tested, and exported, for 'DSECDataset', "
                "'DarkZurichICDataset', 'FramesDataset' or a class derived from one of them"
            )
        settings = {**arguments_of(kind), **given}
        self.outputs = frozenset(settings["outputs"])
        is_own = issubclass(kind, FramesDataset)
        self.TEST_STREAMS: Mapping[str, str] = kind.streams_for(self.outputs) if is_own else kind.TEST_STREAMS
        self.is_dsec = issubclass(kind, DSECDataset) or self.TEST_STREAMS["events"] == "events_vg"
        self.view = DSEC_VIEW if issubclass(kind, DSECDataset) else View("camera image")
        self.content = kind.content_settings("data.test", **settings)
        self.events: EventSettings | None = None
        if self.is_dsec:
            self.events = EventSettings.from_arguments(settings["events_bins_5_avg_1"], settings["events_clip_range"])
        self.image_change_range, self.events_num = 1, 0
        self.input_size: Size
        self.prediction_size: Size
        if is_own:
            width, height = settings["image_resize_size"]
            shown = height - settings["ignored_bottom_rows"]
            self.prediction_size = self.input_size = (shown, width)
            self.resizes = True
            if shown < height:
                self.view = View(f"camera image, resized to {height}x{width}", f"rows 0..{shown - 1}, ")
        elif self.is_dsec:
            self.image_change_range, self.events_num = settings["image_change_range"], settings["events_num"]
            self.prediction_size = DSECDataset.prediction_size
            self.input_size = pair(settings["test_resize_size"] or self.prediction_size)
            self.resizes = bool(settings["test_resize_size"])
        else:
            width, height = settings["image_resize_size"]
            self.prediction_size = self.input_size = (height, width)
            self.resizes = True

    def without_events(self) -> InputRecipe:
        """The same for images that have no events."""
        recipe = copy.copy(self)
        recipe.outputs = self.outputs - {"events_vg"}
        return recipe

    def is_event_stream(self, stream: str) -> bool:
        """Whether an input stream of the network takes events, not a content map."""
        return self.TEST_STREAMS[stream] == "events_vg"

    def steps(self, stream: str, size: Sequence[int]) -> dict[str, Any]:
        """What an input is and how it is made, step by step.

        Args:
            stream: input stream of the network.
            size: (height, width) of the input.
        """
        if stream == "image":
            return self._image(size)
        if self.events is not None and self.is_event_stream(stream):
            return self._events(self.events, size)
        return self._content_map(size)

    def _picture(self, size: Sequence[int]) -> str:
        resized = f"resized to {size[0]}x{size[1]}, bilinear and smoothed (PIL)"
        return f"{self.view.image}{'; ' if self.view.rows else ', '}{self.view.rows}{resized}"

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

    def _events(self, settings: EventSettings, size: Sequence[int]) -> dict[str, Any]:
        bins, clip_range = settings.bins, settings.clip_range
        frames, number = self.image_change_range, self.events_num
        window = f"the last {number} events up to the image" if number else f"events from image n-{frames} to image n"
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
                f"{spread}, on a grid of {self.view.grid}",
                "cells that are not 0: minus their mean, divided by their standard deviation",
                f"{clip}; positive values: min(value, clip), then from [least, largest] of the frame to [0, 1], cells "
                "without one counting as 0; negative values likewise to [-1, 0]",
                *mean,
                f"{self.view.rows}resized to {size[0]}x{size[1]}, bilinear, pixel centres at .5",
                "three equal channels, float32",
            ],
        }

    def _content_map(self, size: Sequence[int]) -> dict[str, Any]:
        params, large = self.content.params, self.content.from_original
        low, high = params.val_range
        shifts = SHIFTS[self.content.direction()]
        after = [f"resized to {size[0]}x{size[1]}, bilinear and smoothed"] if large else []
        return {
            "content": "content map of the image",
            "range": [-1, 1],
            "steps": [
                "camera image at its own size" if large else self._picture(size),
                "grey level g, 0..255 (ITU-R 601)",
                f"v = ln(g / 255 * ({high:g} - {low:g}) + {low:g}); span = ln({high:g} / {low:g})",
                f"for each of {', '.join(shifts)}: v moved by {params.shift_pixel} pixels that way, minus v; 0 where "
                f"nothing moved in and where it is at most {params.threshold:g} * span",
                f"clip = {params.clip_range:g} * span; positive values: min(value, clip), then from [least, largest] "
                "of the frame to [0, 1], pixels without one counting as 0; negative values likewise to [-1, 0]",
                "mean over the directions",
                *after,
                "three equal channels, float32",
            ],
        }


def describe(recipe: InputRecipe, streams: Sequence[str], size: Sequence[int], labels: bool) -> dict[str, Any]:
    """Inputs, outputs and classes of an exported network, as plain data.

    Args:
        recipe: recipe of the inputs.
        streams: names of the inputs.
        size: (height, width) of inputs and outputs.
        labels: whether the network returns label and confidence in place of logits.
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
        shape = ["batch", len(recipe.classes), *size]
        content = "before softmax; the class of a pixel is the channel of the largest"
        outputs = [{"name": "logits", "shape": shape, "dtype": "float32", "content": content}]
    return {
        "inputs": inputs,
        "outputs": outputs,
        "classes": list(recipe.classes.names),
        "palette_rgb": [list(color) for color in recipe.classes.palette],
        "size_of_the_test": {"inputs": list(recipe.input_size), "predictions": list(recipe.prediction_size)},
        "cmda": mmseg.__version__,
    }
