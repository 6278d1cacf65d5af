"""A trained network in two lines: ``network = load("work_dirs/..."); network.predict("photo.png")``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from mmseg.classes import ClassSet
from mmseg.config.published import find_config
from mmseg.engine.checkpoint import checkpoint_to_test
from mmseg.errors import ConfigError, DataError
from mmseg.events.columns import KEYS
from mmseg.events.files import FRAME_TIME, ArrayEvents, EventSource, find_windows, open_events
from mmseg.events.recording import Events
from mmseg.inference.input_recipe import InputRecipe
from mmseg.inference.model import InferenceModel, Prediction, Size, inference_model, init_model
from mmseg.work_dir.layout import WorkDir

# What `predict` takes as one image, and as the events of one image.
Picture = str | Path | np.ndarray | Image.Image
PictureEvents = Events | Mapping | np.ndarray | str | Path
CONFIG_SUFFIXES = (".py", ".json")
# A recording without a time belongs to the image as a whole if it lasts no longer than this, in µs, for each frame that
# the network's window spans.
LONGEST_WINDOW = 2 * FRAME_TIME


@dataclass(frozen=True)
class LoadedNetwork:
    """A network that predicts images; the result of :func:`load`.

    Attributes:
        model: what :func:`mmseg.apis.inference_model` and :func:`mmseg.apis.infer` take.
        source: where its weights come from, for messages.
    """

    model: InferenceModel
    source: str

    @property
    def classes(self) -> ClassSet:
        """Names and colours of the classes."""
        return self.model.recipe.classes

    @property
    def device(self) -> torch.device:
        """Device it runs on."""
        return self.model.device

    @property
    def takes_events(self) -> bool:
        """Whether the network has an input for events."""
        return self.model.takes_events

    def predict(
        self,
        image: Picture | Sequence[Picture],
        events: PictureEvents | Sequence[PictureEvents | None] | None = None,
        *,
        time: int | Sequence[int] | None = None,
        rectify_map: str | Path | None = None,
        output: str | None = None,
        size: Size | str | None = None,
        rows: int | None = None,
        batch: int = 1,
    ) -> Prediction | list[Prediction]:
        """Predict one image, or each of a list.

        Args:
            image: path, (H, W, 3) uint8 array in RGB, PIL image, or a list of these.
            events: events that end with the image, in its pixels: :class:`.Events`; a mapping with the columns ``t``
                (µs), ``x``, ``y``, ``p`` (above 0 for brighter), each (N,); an (N, 4) array of these columns; or a
                recording, see :func:`.open_events`. For a list of images a list, with None for an image without
                events; or one recording with a list of times.
            time: when the image was taken, in µs on the clock of the recording, of which the window before is used
                that the network was trained with, usually 50 ms. A recording of at most twice 50 ms needs none: all of
                it belongs to the image.
            rectify_map: of the recording, as in DSEC.
            output, size, rows, batch: as of :func:`mmseg.apis.inference_model`.

        Returns:
            A prediction with ``label``, ``confidence``, ``picture()`` and ``overlay()``, or a list of them.

        Raises:
            CMDAError: bad input.
        """
        given = [image] if isinstance(image, str | Path | np.ndarray | Image.Image) else list(image)
        images = [_pixels(picture) for picture in given]
        of_images = _events_of_images(self.model.recipe, events, time, len(images), rectify_map)
        predictions = inference_model(self.model, images, of_images, output, size, rows, batch)
        assert isinstance(predictions, list)
        return predictions[0] if isinstance(image, str | Path | np.ndarray | Image.Image) else predictions


def load(
    source: str | Path,
    *,
    config: str | Path | None = None,
    device: str | torch.device | None = None,
    model: str = "student",
    precision: str = "fp32",
    cfg_options: Mapping[str, Any] | None = None,
) -> LoadedNetwork:
    """Load a trained network. Its data need not exist.

    Args:
        source: a work dir or a published checkpoint folder; a checkpoint by path, address or name; or a config by path
            or name, which gives a network with random weights, to try things with.
        config: config of a checkpoint that carries none and has none next to it.
        device: ``cpu``, ``cuda``, ``cuda:1``; None takes a GPU if there is one.
        model: ``student`` or ``teacher``.
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp16``.
        cfg_options: dotted key -> value.

    Raises:
        CMDAError: bad input.
    """
    path = Path(source)
    checkpoint: str | Path | None = source
    if path.is_dir():
        if config is not None:
            raise ConfigError(f"{source} is a work dir, which holds its config; leave config={str(config)!r} out")
        config, checkpoint = WorkDir(path).find_config(), checkpoint_to_test(path)
    elif _is_config(source):
        logging.getLogger(__name__).warning("%s: the weights are random; load a checkpoint to predict", source)
        config, checkpoint = source, None
    elif config is None and path.is_file() and WorkDir(path.parent).config.is_file():
        config = WorkDir(path.parent).config
    network = init_model(config, checkpoint, device, model, precision, cfg_options=cfg_options)
    return LoadedNetwork(network, str(checkpoint or f"random weights of {config}"))


def _is_config(source: str | Path) -> bool:
    path = find_config(source)
    return path.suffix in CONFIG_SUFFIXES and path.is_file()


def _pixels(picture: Picture) -> str | Path | np.ndarray:
    """A picture as :func:`.inference_model` takes it."""
    if isinstance(picture, Image.Image):
        if picture.mode.startswith(("I", "F")):
            raise DataError(f"an image has more than 8 bits per channel (mode {picture.mode}); convert it to 8 bits")
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    return picture


def _events_of_images(
    recipe: InputRecipe,
    events: PictureEvents | Sequence[PictureEvents | None] | None,
    time: int | Sequence[int] | None,
    count: int,
    rectify_map: str | Path | None,
) -> list[Events | None]:
    """Events of each of ``count`` images."""
    is_one = not isinstance(time, Sequence | np.ndarray) or isinstance(time, str) or np.ndim(time) == 0
    of_images: Any = [time] * count if is_one else time
    times = [_microseconds(one) for one in of_images]
    if events is None and (time is not None or rectify_map is not None):
        raise ConfigError("a time or a rectify map was given, but no events; add events, or leave them out")
    if isinstance(events, PictureEvents):
        if isinstance(events, str | Path):
            source = open_events(events, rectify_map)
            return [_window(recipe, source, at) for at in _as_many(times, count, "times")]
        events = [events]
    given: list[PictureEvents | None] = [None] * count if events is None else list(events)
    return [
        _events(recipe, one, at, rectify_map)
        for one, at in zip(_as_many(given, count, "events"), _as_many(times, count, "times"), strict=True)
    ]


def _as_many(values: list, count: int, what: str) -> list:
    if len(values) != count:
        raise DataError(f"there are {count} images, and {what} of {len(values)}; give one for each, None for none")
    return values


def _microseconds(time: Any) -> int | None:
    """A time, or None.

    Raises:
        ConfigError: it is not a whole number of microseconds.
    """
    if time is None:
        return None
    number = time.item() if isinstance(time, np.ndarray | np.generic) and np.ndim(time) == 0 else time
    if isinstance(number, bool) or not isinstance(number, int | float) or not float(number).is_integer():
        raise ConfigError(f"time is {time!r}; give whole microseconds on the clock of the recording")
    return int(number)


def _events(
    recipe: InputRecipe, given: PictureEvents | None, time: int | None, rectify_map: str | Path | None
) -> Events | None:
    """Events of one image.

    Raises:
        ConfigError: a time or a rectify map that this kind of events does not take.
    """
    if isinstance(given, str | Path):
        return _window(recipe, open_events(given, rectify_map), time)
    if given is not None and rectify_map is not None:
        raise ConfigError("a rectify map is for a recording given by its path; rectify arrays, or leave the map out")
    if isinstance(given, Events) and time is not None:
        raise ConfigError("Events belong to the image as a whole; leave its time out, or give None")
    if given is None or isinstance(given, Events):
        return given
    if isinstance(given, np.ndarray):
        if given.ndim != 2 or given.shape[1] != len(KEYS):
            raise DataError(f"events are an array of {given.shape}; give (N, 4) with the columns {', '.join(KEYS)}")
        given = dict(zip(KEYS, given.T, strict=True))
    missing = [key for key in KEYS if key not in given]
    if missing:
        raise DataError(f"events have no {', '.join(missing)}; give the columns {', '.join(KEYS)}")
    source = ArrayEvents(Path("events"), given)
    return source.events(0, len(given["t"]) - 1) if time is None else _window(recipe, source, time)


def _window(recipe: InputRecipe, source: EventSource, time: int | None) -> Events:
    """The events before a time, as many as the network was trained with; all if there is no time.

    Raises:
        DataError: the time is outside of the recording, or there is none and the recording is long.
    """
    if time is None:
        last = len(source) - 1
        duration = source.duration(0, last)
        if duration > LONGEST_WINDOW * recipe.image_change_range:
            raise DataError(f"{source.path} lasts {duration / 1e6:.2f} s; give the time of the image in µs, time=...")
        return source.events(0, last)
    frames, number = recipe.image_change_range, recipe.events_num
    (window,) = find_windows(source, [time], [None], frames, number=number)
    if window is None:
        needed = f"{number} events" if number else f"{FRAME_TIME // 1000 * frames} ms"
        raise DataError(f"{source.path} does not hold the {needed} before {time} µs; see time=...")
    return source.events(*window)
