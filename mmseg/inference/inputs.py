"""Network inputs from your own images and events, made as the test set of the network's config makes them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image
from torch import Tensor

from mmseg.datasets.base import Size
from mmseg.datasets.preprocessing import EventSettings, event_tensor, image_tensor, resize_image, three_channels
from mmseg.errors import ConfigError, DataError
from mmseg.events.files import FrameEvents
from mmseg.events.recording import Events
from mmseg.inference.input_recipe import InputRecipe

# Relative difference that is allowed between the aspect ratios of an image and of a rectified event frame.
SHAPE_TOLERANCE = 0.01


def make_inputs(
    recipe: InputRecipe, streams: Iterable[str], image: np.ndarray, events: Events | None, size: Size, rows: int
) -> dict[str, Tensor]:
    """Inputs (3, height, width) float32 by stream.

    Args:
        recipe: how the test set makes inputs.
        streams: input streams of the network.
        image: (H, W, 3) uint8 RGB.
        events: events that end with the image; None if no stream takes events.
        size: (height, width) of the inputs.
        rows: number of upper rows of the image that the network sees.

    Raises:
        ConfigError: events and image do not match.
        DataError: a stream takes events, and there are none.
    """
    cut = Image.fromarray(image[:rows])
    resized = resize_image(cut, size)
    made = {}
    for stream in streams:
        if stream == "image":
            made[stream] = image_tensor(resized)
        elif recipe.events is not None and recipe.is_event_stream(stream):
            if events is None:
                raise DataError(f"the input {stream!r} needs events, and there are none for the image")
            made[stream] = _event_input(recipe.events, events, image.shape[:2], rows, size)
        else:
            content = recipe.content.content_map(cut if recipe.content.from_original else resized, size)
            made[stream] = three_channels(content)
    return made


def _event_input(settings: EventSettings, events: Events, image_size: Size, rows: int, size: Size) -> Tensor:
    """Events of the whole frame, of which the part that shows ``rows`` rows of the image is cut out and resized."""
    frame = event_frame(events, image_size)
    shown = round(min(rows, image_size[0]) * frame[0] / image_size[0])
    standard = settings.standard_grid(events, frame)
    return event_tensor(standard, settings.clip(0, len(events.t) - 1), size, slice(shown))


def event_frame(events: Events, image_size: Size) -> Size:
    """(height, width) of the frame of events that belong to an image of ``image_size`` (height, width).

    Both must show the same view: pixel for pixel or, if a map rectified the events, with the image resized.

    Raises:
        ConfigError: they do not.
    """
    height, width = image_size
    remedy = (
        "an image must show what the event camera sees, pixel for pixel: warp it (tools/warp_images.py for DSEC), or "
        "crop and resize it"
    )
    if not isinstance(events, FrameEvents) or events.size is None:
        low, high = (events.x.min(), events.y.min()), (events.x.max(), events.y.max())
        if min(low) < 0 or high[0] >= width or high[1] >= height:
            raise ConfigError(
                f"events lie at x {low[0]:g} to {high[0]:g} and y {low[1]:g} to {high[1]:g}, outside their image of "
                f"{width}x{height}; {remedy}"
            )
        return image_size
    frame = events.size
    same_shape = abs(frame[1] * height / (frame[0] * width) - 1) <= SHAPE_TOLERANCE
    if frame != image_size and not (events.rectified and same_shape):
        raise ConfigError(
            f"events are in a frame of {frame[1]}x{frame[0]}, their image is {width}x{height}; {remedy}. If the event "
            "camera has another size, give it (--sensor)"
        )
    return frame
