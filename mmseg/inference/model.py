"""A trained network on pictures of one's own: ``model = init_model(...)``, ``inference_model(model, images)``.

The inputs are made as the test set of the network's config makes them (:mod:`mmseg.datasets`); what a config says of
sizes is about data of its own, so that sizes are chosen here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from PIL import Image
from torch import Tensor

from mmseg.apis.arguments import LEAST_SIDE
from mmseg.classes import CLASSES, PALETTE
from mmseg.config.load import check_values, get_key
from mmseg.datasets.crops import grey_tensor, three_channels
from mmseg.datasets.dark_zurich import DATA_TYPES
from mmseg.datasets.normalization import normalize_image
from mmseg.engine.checkpoint import SegmentorWeights, load_segmentor
from mmseg.engine.checkpoint_config import config_of
from mmseg.engine.environment import named_device
from mmseg.engine.networks import empty_segmentor
from mmseg.engine.numerics import check_precision, set_precision
from mmseg.engine.prediction import Copies, Predictor, one_behind, recorder_for
from mmseg.errors import ConfigError, DataError
from mmseg.evaluation.evaluator import default_output
from mmseg.evaluation.test_set import use_training_isr
from mmseg.events.files import FrameEvents, usable_events
from mmseg.events.normalize import event_clip_range, rescale_array, standardize_events
from mmseg.events.recording import Events
from mmseg.events.voxel_grid import normalized_time, voxel_grid
from mmseg.extractors.content import NIGHT_PARAMS, ContentParams, params_of_data_type, resized_content_map
from mmseg.inference.input_recipe import InputRecipe
from mmseg.inference.pictures import read_image
from mmseg.models.segmentors.base import BaseSegmentor

# Pictures of half to twice the pixels of those of the training keep their size.
SIZE_FACTOR = 2.0
# Of the widths that two frames of one height would have, so much may differ.
SHAPE_TOLERANCE = 0.01
# (width, height) of the training's day images where a config does not say it.
PUBLISHED_SIZE = (1024, 512)
Size = tuple[int, int]


@dataclass(frozen=True)
class Prediction:
    """What a network sees in one picture.

    Attributes:
        label: (H, W) uint8 train ids, 0..18, see :data:`mmseg.classes.CLASSES`.
        confidence: (H, W) float32, softmax probability of the label; None where it was not asked for.
        output: output of the network, e.g. ``fusion``.
        input_size: (height, width) at which the network saw the picture.
    """

    label: np.ndarray
    confidence: np.ndarray | None
    output: str
    input_size: Size


@dataclass(frozen=True)
class InferenceModel:
    """A network with its weights, and how its inputs are made. :func:`init_model` makes one.

    Attributes:
        segmentor: the network in eval mode, on ``device``.
        recipe: how the test set of its config makes inputs.
        device: where it runs.
        trained_size: (height, width) of the whole day images of its training.
        weights: names of what was loaded, and of what was left out.
        predictor: predicts with the network, in the precision that was chosen.
    """

    segmentor: BaseSegmentor
    recipe: InputRecipe
    device: torch.device
    trained_size: Size
    weights: SegmentorWeights
    predictor: Predictor

    CLASSES = CLASSES
    PALETTE = PALETTE

    @property
    def takes_events(self) -> bool:
        """Whether the network has an input for events; those of Dark Zurich have content maps there."""
        return self.recipe.is_dsec and hasattr(self.segmentor, "backbone_events")

    def usual_output(self, with_events: bool) -> str:
        """Output for a picture when none is named: that of a test, without events where there are none."""
        outputs = self.recipe.outputs if with_events else self.recipe.outputs - {"events_vg"}
        return default_output(self.segmentor, SimpleNamespace(TEST_STREAMS=self.recipe.TEST_STREAMS, outputs=outputs))

    def needs_events(self, output: str) -> bool:
        """Whether an output cannot do without events.

        Raises:
            ConfigError: the network has no such output.
        """
        return any(self.recipe.TEST_STREAMS[s] == "events_vg" for s in self.segmentor.required_streams(output))

    def usual_size(self, height: int, width: int) -> Size:
        """(height, width) at which the network sees a picture when none is given; its shape stays.

        Where the config's test resizes its images, the picture gets their number of pixels. Otherwise it keeps its size
        if it has half to twice the pixels of the training's whole images, and gets their number if not.
        """
        if self._test_resizes:
            pixels = math.prod(self.recipe.input_size)
        else:
            pixels = math.prod(self.trained_size)
            if not self.is_far_from_training(height, width):
                return height, width
        scale = math.sqrt(pixels / (height * width))
        return round(height * scale), round(width * scale)

    @property
    def _test_resizes(self) -> bool:
        return not self.recipe.is_dsec or bool(self.recipe.settings["test_resize_size"])

    def is_far_from_training(self, height: int, width: int) -> bool:
        """Whether a picture has less than half or more than twice the pixels of the training's whole images."""
        share = height * width / math.prod(self.trained_size)
        return not 1 / SIZE_FACTOR <= share <= SIZE_FACTOR

    def inputs(self, image: np.ndarray, events: Events | None, output: str, size: Size, rows: int) -> dict[str, Tensor]:
        """Inputs (3, height, width) of an output by stream, made as a test of the network makes them.

        Args:
            image: (H, W, 3) uint8 RGB.
            events: those that end with the image; None for an output without them.
            output: output of the network.
            size: (height, width) of the inputs.
            rows: so many upper rows of the image are given to the network.

        Raises:
            ConfigError: events and image do not fit each other.
        """
        cut = Image.fromarray(image[:rows])
        picture = cut.resize(size[::-1], Image.Resampling.BILINEAR)
        made = {}
        for stream in self.segmentor.required_streams(output):
            if stream == "image":
                made[stream] = normalize_image(np.asarray(picture))
            elif self.recipe.TEST_STREAMS[stream] == "events_vg":
                made[stream] = three_channels(self._event_map(events, image.shape[:2], rows, size))
            else:
                made[stream] = three_channels(self._content_map(cut, picture))
        return made

    def _event_map(self, events: Events, image_size: Size, rows: int, size: Size) -> Tensor:
        """Voxel grid (1, height, width) of events, normalised over their whole frame, then cut and resized."""
        frame = event_frame(events, image_size)
        bins = 5 if self.recipe.settings["events_bins_5_avg_1"] else 1
        times = events.t if bins == 1 else normalized_time(events.t)
        grid = standardize_events(voxel_grid(times, events.x, events.y, events.p, bins, *frame))
        clip_range = self.recipe.settings["events_clip_range"]
        clip = sum(clip_range) / 2 if clip_range else event_clip_range(0, len(events.t) - 1)
        upper = round(min(rows, image_size[0]) * frame[0] / image_size[0])
        normal = torch.from_numpy(rescale_array(grid, clip, slice(upper))).mean(dim=0, keepdim=True)
        if size != normal.shape[1:]:
            normal = F.interpolate(normal[None], size=size, mode="bilinear", align_corners=False)[0]
        return normal

    def _content_map(self, cut: Image.Image, picture: Image.Image) -> Tensor:
        """Content map (height, width) of the picture at the network's size, or of the image at its own."""
        settings = self.recipe.settings
        source = cut if settings.get("high_resolution_isr") else picture
        direction = "rightdown" if settings["shift_type"] == "random" else settings["shift_type"]
        return resized_content_map(grey_tensor(source), self._content_params, direction, picture.size[::-1])

    @cached_property
    def _content_params(self) -> ContentParams:
        settings = self.recipe.settings
        if self.recipe.is_dsec:
            return ContentParams.from_config(settings["isr_parms"], NIGHT_PARAMS, "data.test.isr_parms")
        data_type = settings["dz_isr_data_type"]
        return params_of_data_type(settings["isr_parms"], data_type, DATA_TYPES, "data.test", "dz_isr_data_type")

    def predict(self, inputs: Sequence[Mapping[str, Tensor]], output: str, size: Size) -> list[Prediction]:
        """Predictions of ``size`` for several pictures whose inputs are of one size.

        Raises:
            ConfigError: see :meth:`begin`.
        """
        return self.begin(inputs, output, size).predictions()

    def begin(
        self, inputs: Sequence[Mapping[str, Tensor]], output: str, size: Size, confidence: bool = True
    ) -> BegunPredictions:
        """Begin what :meth:`predict` does; a GPU works on it meanwhile.

        Args:
            inputs, output, size: as there.
            confidence: also compute the probabilities of the labels.

        Raises:
            ConfigError: the GPU's memory is too small.
        """
        batch = {stream: torch.stack([made[stream] for made in inputs]) for stream in inputs[0]}
        input_size = tuple(next(iter(batch.values())).shape[2:])
        try:
            copies = self.predictor.begin(batch, output, size, confidence)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"{len(inputs)} images of {size[1]}x{size[0]}, {input_size[1]}x{input_size[0]} in the network, do not "
                "fit into the GPU's memory; take a smaller --batch or --resize"
            ) from error
        return BegunPredictions(copies, output, input_size)


@dataclass(frozen=True)
class BegunPredictions:
    """Predictions that a device works on.

    Attributes:
        copies: of the maps, on their way to the host.
        output, input_size: see :class:`Prediction`.
    """

    copies: Copies
    output: str
    input_size: Size

    def predictions(self) -> list[Prediction]:
        """Wait for them."""
        maps = self.copies.arrays()
        confidences = maps.get("confidence", [None] * len(maps["label"]))
        return [
            Prediction(label, confidence, self.output, self.input_size)
            for label, confidence in zip(maps["label"], confidences, strict=True)
        ]


def event_frame(events: Events, image_size: Size) -> Size:
    """(height, width) of the frame of events that belong to an image of ``image_size`` (height, width).

    They must see the same: pixel for pixel, or, with events that a map rectified, the image resized.

    Raises:
        ConfigError: they do not.
    """
    height, width = image_size
    remedy = (
        "an image must show what the event camera sees, pixel for pixel: warp it (tools/warp_images.py for DSEC), or "
        "crop and resize it"
    )
    frame = events.size if isinstance(events, FrameEvents) else None
    if frame is None:
        low, high = (events.x.min(), events.y.min()), (events.x.max(), events.y.max())
        if min(low) < 0 or high[0] >= width or high[1] >= height:
            raise ConfigError(
                f"events lie at x {low[0]:g} to {high[0]:g} and y {low[1]:g} to {high[1]:g}, outside their image of "
                f"{width}x{height}; {remedy}"
            )
        return image_size
    alike = abs(frame[1] * height / (frame[0] * width) - 1) <= SHAPE_TOLERANCE
    if tuple(frame) != tuple(image_size) and not (events.rectified and alike):
        raise ConfigError(f"events are in a frame of {frame[1]}x{frame[0]}, their image is {width}x{height}; {remedy}")
    return tuple(frame)


def init_model(
    config: str | Path | Config | None,
    checkpoint: str | Path,
    device: str | torch.device | None = None,
    model: str = "student",
    precision: str = "fp32",
    train_isr_parms: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
) -> InferenceModel:
    """Build the network of a config with the weights of a checkpoint. The config's data need not be there.

    Args:
        config: config file of the training, or the config itself; None takes the one that the checkpoint carries.
        checkpoint: its checkpoint.
        device: ``cpu``, ``cuda``, ``cuda:1``; None takes a GPU if there is one.
        model: ``student`` or ``teacher``.
        precision: of the networks, see :func:`mmseg.engine.numerics.set_precision`.
        train_isr_parms: extract content maps with the parameters of the training, not with those of the tests.
        cfg_options: dotted key -> value.

    Raises:
        CMDAError: bad input.
    """
    place = named_device(device)
    check_precision(precision, place)
    if isinstance(config, Config):
        config = copy.deepcopy(config)
        config.merge_from_dict(dict(cfg_options or {}))
    else:
        config, _ = config_of(config, checkpoint, cfg_options)
    check_values(config, for_training=False)
    if train_isr_parms:
        use_training_isr(config)
    recipe = InputRecipe(config)
    segmentor = empty_segmentor(config)
    weights = load_segmentor(segmentor, checkpoint, model)
    segmentor.to(place).eval().requires_grad_(False)
    recorder = recorder_for(place, config.get("cuda_graphs"))
    predictor = Predictor(segmentor, place, set_precision(precision, place), recorder)
    trained = get_key(config, "data.train.source.image_resize_size") or PUBLISHED_SIZE
    return InferenceModel(segmentor, recipe, place, tuple(trained)[::-1], weights, predictor)


def inference_model(
    model: InferenceModel,
    images: str | Path | np.ndarray | Sequence[str | Path | np.ndarray],
    events: Events | Sequence[Events | None] | None = None,
    output: str | None = None,
    size: Size | str | None = None,
    rows: int | None = None,
    batch: int = 1,
) -> Prediction | list[Prediction]:
    """Predict pictures.

    Args:
        model: from :func:`init_model`.
        images: one or several: files, or arrays (H, W, 3) uint8, RGB (not BGR as OpenCV reads them).
        events: those that end with each image, as :class:`.FrameEvents` or from :func:`.open_events`; None without.
        output: ``fusion``, ``image``, ``events``, ``fusion_isr`` or ``fusion_all``; by default the fused one with
            events and the image's without. Where a network has content maps in the place of events, they are computed.
        size: (height, width) at which the network sees the images; ``"image"`` for their own, None for
            :meth:`InferenceModel.usual_size`.
        rows: give the upper rows of an image alone to the network, as the tests on DSEC do with 440; None for all.
            Events are those of the whole image.
        batch: images a call of the network, as far as they are of one size.

    Returns:
        One prediction, or a list of them where ``images`` is a list; as large as the image, or its ``rows``.

    Raises:
        CMDAError: bad input.
    """
    one = isinstance(images, (str, Path, np.ndarray))
    images = [images] if one else list(images)
    events = [events] * len(images) if events is None else [events] if isinstance(events, Events) else list(events)
    if len(events) != len(images):
        raise DataError(f"{len(images)} images with events for {len(events)}; give None where an image has none")
    tasks = []
    for image, of_image in zip(images, events, strict=True):
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        tasks.append(prepare(model, pixels, of_image, output, size, rows))
    begun = (begin(model, group).predictions for group in _groups(tasks, batch))
    predictions = [prediction for group in one_behind(begun) for prediction in group]
    return predictions[0] if one else predictions


@dataclass(frozen=True)
class Task:
    """One picture, ready for the network: inputs by stream, output, and (height, width) of the prediction."""

    inputs: Mapping[str, Tensor]
    output: str
    size: Size

    @property
    def kind(self) -> tuple[Any, ...]:
        """Equal for tasks that one call of the network can do."""
        return self.output, self.size, next(iter(self.inputs.values())).shape


def prepare(
    model: InferenceModel,
    image: np.ndarray,
    events: Events | None,
    output: str | None,
    size: Size | str | None,
    rows: int | None,
) -> Task:
    """Make the inputs of one picture; arguments as of :func:`inference_model`.

    Raises:
        CMDAError: bad input.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"an image is {image.shape} of {image.dtype}; give (H, W, 3) of uint8, RGB")
    if events is not None and not model.takes_events:
        raise ConfigError("this network takes no events; leave them out")
    output = output or model.usual_output(events is not None)
    if events is None and model.needs_events(output):
        raise DataError(f"the output {output!r} needs events, and there are none for the image; take 'image'")
    if events is not None:
        events = usable_events(events)
    rows = min(rows or image.shape[0], image.shape[0])
    shown = (rows, image.shape[1])
    seen = _size_in_network(model, shown, size)
    if min(seen) < LEAST_SIDE:
        raise DataError(
            f"an image of {shown[1]}x{shown[0]} would be {seen[1]}x{seen[0]} in the network, which needs at least "
            f"{LEAST_SIDE} pixels a side; give another --resize"
        )
    return Task(model.inputs(image, events, output, seen, rows), output, shown)


def _size_in_network(model: InferenceModel, shown: Size, size: Size | str | None) -> Size:
    """(height, width) at which the network sees what is shown of an image; ``size`` as of :func:`inference_model`."""
    if size is None:
        return model.usual_size(*shown)
    if size == "image":
        return shown
    if isinstance(size, str) or len(size) != 2 or min(size) < LEAST_SIDE:
        raise ConfigError(f"size is {size!r}; give (height, width), at least {LEAST_SIDE} each, or 'image' or None")
    return tuple(size)


def _groups(tasks: Sequence[Task], batch: int) -> Iterator[Sequence[Task]]:
    """Tasks that follow each other and are of one kind, at most ``batch`` at a time."""
    for _, alike in groupby(tasks, key=lambda task: task.kind):
        group = list(alike)
        for first in range(0, len(group), batch):
            yield group[first : first + batch]


def begin(model: InferenceModel, tasks: Sequence[Task], confidence: bool = True) -> BegunPredictions:
    """Begin the predictions of tasks of one :attr:`Task.kind`, in one call of the network."""
    return model.begin([task.inputs for task in tasks], tasks[0].output, tasks[0].size, confidence)
