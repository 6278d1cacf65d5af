"""A trained network on your own images: ``model = init_model(...)``, ``inference_model(model, images)``.

Inputs are made as the test set of the network's config makes them. A config's sizes apply to its own data, so sizes are
chosen here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from mmseg.classes import CITYSCAPES_19, ClassSet
from mmseg.config.augmentation import TestTimeAugmentation
from mmseg.config.components import LEAST_SIDE
from mmseg.config.keys import value_of
from mmseg.config.load import check_values, load_config
from mmseg.datasets.base import Size
from mmseg.engine.checkpoint import SegmentorWeights, check_classes_of, load_segmentor
from mmseg.engine.checkpoint_config import config_of
from mmseg.engine.environment import named_device
from mmseg.engine.networks import empty_segmentor, random_segmentor
from mmseg.engine.numerics import check_precision, set_precision
from mmseg.engine.prediction import Copies, Predictor, one_behind, recorder_for
from mmseg.errors import ConfigError, DataError
from mmseg.evaluation.test_set import default_output, use_training_isr
from mmseg.events.files import usable_events
from mmseg.events.recording import Events
from mmseg.inference.input_recipe import InputRecipe
from mmseg.inference.inputs import make_inputs
from mmseg.inference.pictures import read_image
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.visualization.panels import color_label, overlay_picture

# Images with half to twice the pixels of the training's images keep their size.
SIZE_FACTOR = 2.0
# (width, height) of the training's day images if a config does not say it.
PUBLISHED_SIZE = (1024, 512)


@dataclass(frozen=True)
class Prediction:
    """Prediction of a network for one image.

    Attributes:
        label: (H, W) uint8 indices of classes; train ids for the 19 Cityscapes classes.
        confidence: (H, W) float32, softmax probability of the label; None if not requested.
        output: output of the network, e.g. ``fusion``.
        input_size: (height, width) at which the network saw the image.
        classes: names and colours of the classes.
    """

    label: np.ndarray
    confidence: np.ndarray | None
    output: str
    input_size: Size
    classes: ClassSet = CITYSCAPES_19

    def picture(self) -> np.ndarray:
        """The label in the colours of the classes, (H, W, 3) uint8 RGB."""
        return color_label(self.label, self.classes)

    def overlay(self, image: np.ndarray, opacity: float = 0.5) -> np.ndarray:
        """The colours over the image, (H, W, 3) uint8 RGB.

        Args:
            image: (H, W, 3) uint8 RGB; of a higher one, its upper rows.
            opacity: of the colours, 0..1.
        """
        color = self.picture()
        return overlay_picture(color, image[: len(color)], opacity)


@dataclass(frozen=True)
class InferenceModel:
    """A network with its weights, and how its inputs are made; the result of :func:`init_model`.

    Attributes:
        segmentor: the network in eval mode, on ``device``.
        recipe: how the test set of its config makes inputs.
        device: device it runs on.
        trained_size: (height, width) of the uncropped day images of its training.
        weights: names of the weights that were loaded, and of those that were left out.
        predictor: predicts with the network, in the chosen precision.
    """

    segmentor: BaseSegmentor
    recipe: InputRecipe
    device: torch.device
    trained_size: Size
    weights: SegmentorWeights
    predictor: Predictor

    @property
    def CLASSES(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.recipe.classes.names

    @property
    def PALETTE(self) -> tuple[tuple[int, int, int], ...]:
        """RGB colours of the classes."""
        return self.recipe.classes.palette

    @property
    def takes_events(self) -> bool:
        """Whether the network has an input for events; networks for Dark Zurich take content maps there."""
        return self.recipe.is_dsec and self.segmentor.takes_second_input

    def usual_output(self, with_events: bool) -> str:
        """Output of an image if none is named: that of a test, or the image output if it has no events."""
        return default_output(self.segmentor, self.recipe if with_events else self.recipe.without_events())

    def needs_events(self, output: str) -> bool:
        """Whether an output requires events.

        Raises:
            ConfigError: the network has no such output.
        """
        return any(map(self.recipe.is_event_stream, self.segmentor.required_streams(output)))

    def usual_size(self, height: int, width: int) -> Size:
        """(height, width) at which the network sees an image if no size is given; the aspect ratio stays.

        If the config's test resizes its images, the result has as many pixels as those. Otherwise an image keeps its
        size if it has half to twice the pixels of the training's uncropped images, and gets as many as those if not.
        """
        if self.recipe.resizes:
            pixels = math.prod(self.recipe.input_size)
        else:
            pixels = math.prod(self.trained_size)
            if not self.is_far_from_training(height, width):
                return height, width
        scale = math.sqrt(pixels / (height * width))
        return round(height * scale), round(width * scale)

    def is_far_from_training(self, height: int, width: int) -> bool:
        """Whether an image has less than half or more than twice the pixels of the training's uncropped images."""
        share = height * width / math.prod(self.trained_size)
        return not 1 / SIZE_FACTOR <= share <= SIZE_FACTOR

    def inputs(self, image: np.ndarray, events: Events | None, output: str, size: Size, rows: int) -> dict[str, Tensor]:
        """Inputs (3, height, width) by stream for an output of the network; arguments as of :func:`.make_inputs`."""
        return make_inputs(self.recipe, self.segmentor.required_streams(output), image, events, size, rows)

    def predict(self, inputs: Sequence[Mapping[str, Tensor]], output: str, size: Size) -> list[Prediction]:
        """Predictions of ``size`` for several images whose inputs have one size.

        Raises:
            ConfigError: see :meth:`begin`.
        """
        return self.begin(inputs, output, size).predictions()

    def begin(
        self, inputs: Sequence[Mapping[str, Tensor]], output: str, size: Size, confidence: bool = True
    ) -> BegunPredictions:
        """Start what :meth:`predict` does; a GPU works on it in the background.

        Args:
            inputs, output, size: as there.
            confidence: also compute the probabilities of the labels.

        Raises:
            ConfigError: the GPU's memory is too small.
        """
        batch = {stream: torch.stack([made[stream] for made in inputs]) for stream in inputs[0]}
        height, width = next(iter(batch.values())).shape[2:]
        try:
            copies = self.predictor.begin(batch, output, size, confidence)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"{len(inputs)} images of {size[1]}x{size[0]}, {width}x{height} in the network, do not "
                "fit into the GPU's memory; take a smaller --batch or --resize"
            ) from error
        return BegunPredictions(copies, output, (height, width), self.recipe.classes)


@dataclass(frozen=True)
class BegunPredictions:
    """Predictions that a device is working on.

    Attributes:
        copies: copies of the maps to the host, in progress.
        output, input_size, classes: see :class:`Prediction`.
    """

    copies: Copies
    output: str
    input_size: Size
    classes: ClassSet

    def predictions(self) -> list[Prediction]:
        """Wait for them."""
        maps = self.copies.arrays()
        confidences = maps.get("confidence", [None] * len(maps["label"]))
        return [
            Prediction(label, confidence, self.output, self.input_size, self.classes)
            for label, confidence in zip(maps["label"], confidences, strict=True)
        ]


def init_model(
    config: str | Path | Config | None,
    checkpoint: str | Path | None,
    device: str | torch.device | None = None,
    model: str = "student",
    precision: str = "fp32",
    train_isr_parms: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    tta: str | None = None,
) -> InferenceModel:
    """Build the network of a config with the weights of a checkpoint. The config's data need not exist.

    Args:
        config: config file of the training, or the config itself; None takes the one in the checkpoint.
        checkpoint: its checkpoint: a path, address or name, see :func:`mmseg.weights.store.local_file`; None for
            random weights, always the same.
        device: ``cpu``, ``cuda``, ``cuda:1``; None takes a GPU if there is one.
        model: ``student`` or ``teacher``.
        precision: of the networks, see :func:`mmseg.engine.numerics.set_precision`.
        train_isr_parms: extract content maps with the parameters of the training, not with those of the tests.
        cfg_options: dotted key -> value.
        tta: test-time augmentation as of ``--tta``, e.g. ``flip,0.75,1.0,1.25``; None for none.

    Raises:
        CMDAError: bad input.
    """
    augmentation = TestTimeAugmentation.parse(tta)
    place = named_device(device)
    check_precision(precision, place)
    if isinstance(config, Config):
        cfg = copy.deepcopy(config)
        cfg.merge_from_dict(dict(cfg_options or {}))
    elif checkpoint is not None:
        cfg, _ = config_of(config, checkpoint, cfg_options)
    elif config is not None:
        cfg = load_config(config, cfg_options)
    else:
        raise ConfigError("neither a config nor a checkpoint is given; give one of them")
    check_values(cfg, for_training=False)
    if train_isr_parms:
        use_training_isr(cfg)
    recipe = InputRecipe(cfg)
    if checkpoint is None:
        segmentor, weights = random_segmentor(cfg), SegmentorWeights({}, {})
    else:
        check_classes_of(checkpoint, recipe.classes)
        segmentor = empty_segmentor(cfg)
        weights = load_segmentor(segmentor, checkpoint, model, recipe.classes)
    segmentor.to(place).eval().requires_grad_(False)
    recorder = recorder_for(place, value_of(cfg, "cuda_graphs"))
    predictor = Predictor(segmentor, place, set_precision(precision, place), recorder, augmentation=augmentation)
    width, height = value_of(cfg, "data.train.source.image_resize_size") or PUBLISHED_SIZE
    return InferenceModel(segmentor, recipe, place, (height, width), weights, predictor)


def inference_model(
    model: InferenceModel,
    images: str | Path | np.ndarray | Sequence[str | Path | np.ndarray],
    events: Events | Sequence[Events | None] | None = None,
    output: str | None = None,
    size: Size | str | None = None,
    rows: int | None = None,
    batch: int = 1,
) -> Prediction | list[Prediction]:
    """Predict images.

    Args:
        model: from :func:`init_model`.
        images: one or several files, or arrays (H, W, 3) uint8, RGB (OpenCV reads BGR).
        events: events that end with each image, as :class:`.FrameEvents` or from :func:`.open_events`; None for none.
        output: ``fusion``, ``image``, ``events``, ``fusion_isr`` or ``fusion_all``; by default ``fusion``
            with events and ``image`` without. If a network takes content maps in place of events, they are computed.
        size: (height, width) at which the network sees the images; ``"image"`` for their own size, None for
            :meth:`InferenceModel.usual_size`.
        rows: give only this many upper rows of an image to the network, as tests on DSEC do with 440; None for all.
            Events are always those of the whole image.
        batch: images per call of the network, as long as consecutive ones have the same size.

    Returns:
        One prediction, or a list of them if ``images`` is a list; as large as the image, or its ``rows``.

    Raises:
        CMDAError: bad input.
    """
    for name, value in (("rows", rows), ("batch", batch)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
            raise ConfigError(f"{name} is {value!r}; give a whole number of at least 1")
    given = [images] if isinstance(images, str | Path | np.ndarray) else list(images)
    of_images: list[Events | None] = [None] * len(given)
    if events is not None:
        of_images = [events] if isinstance(events, Events) else list(events)
    if len(of_images) != len(given):
        raise DataError(f"{len(given)} images with events for {len(of_images)}; give None for an image without events")
    tasks = []
    for image, of_image in zip(given, of_images, strict=True):
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        tasks.append(prepare(model, pixels, of_image, output, size, rows))
    begun = (begin(model, group).predictions for group in _groups(tasks, batch))
    predictions = [prediction for group in one_behind(begun) for prediction in group]
    return predictions[0] if isinstance(images, str | Path | np.ndarray) else predictions


@dataclass(frozen=True)
class Task:
    """One image, ready for the network: inputs by stream, output, and (height, width) of the prediction."""

    inputs: Mapping[str, Tensor]
    output: str
    size: Size

    @property
    def kind(self) -> tuple[Any, ...]:
        """Equal for tasks that can share a call of the network."""
        return self.output, self.size, next(iter(self.inputs.values())).shape


def prepare(
    model: InferenceModel,
    image: np.ndarray,
    events: Events | None,
    output: str | None,
    size: Size | str | None,
    rows: int | None,
) -> Task:
    """Make the inputs of one image; arguments as of :func:`inference_model`.

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
    if model.predictor.augmentation is not None:
        for scale in model.predictor.augmentation.scales:
            model.predictor.augmentation.size(*seen, scale)
    return Task(model.inputs(image, events, output, seen, rows), output, shown)


def _size_in_network(model: InferenceModel, shown: Size, size: Size | str | None) -> Size:
    """(height, width) at which the network sees the shown part of an image; ``size`` as of :func:`inference_model`."""
    if size is None:
        return model.usual_size(*shown)
    if size == "image":
        return shown
    pair = isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2
    if not pair or not all(isinstance(side, int | np.integer) and side >= LEAST_SIDE for side in size):
        raise ConfigError(f"size is {size!r}; give (height, width), at least {LEAST_SIDE} each, or 'image' or None")
    height, width = map(int, size)
    return height, width


def _groups(tasks: Sequence[Task], batch: int) -> Iterator[Sequence[Task]]:
    """Consecutive tasks of one kind, at most ``batch`` at a time."""
    for _, same in groupby(tasks, key=lambda task: task.kind):
        group = list(same)
        for first in range(0, len(group), batch):
            yield group[first : first + batch]


def begin(model: InferenceModel, tasks: Sequence[Task], confidence: bool = True) -> BegunPredictions:
    """Start the predictions of tasks of one :attr:`Task.kind`, in one call of the network."""
    return model.begin([task.inputs for task in tasks], tasks[0].output, tasks[0].size, confidence)
