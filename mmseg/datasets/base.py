"""What training, evaluation and inference expect of a data set, and helpers that the data sets share.

Sizes are (height, width) unless a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from mmseg.classes import ClassSet
from mmseg.datasets.cache import Cacheable
from mmseg.datasets.crops import CropDraw
from mmseg.errors import ConfigError

Size = tuple[int, int]


class AnyDataset(Protocol):
    """What every class of the registry ``DATASETS`` offers, that of the pairs included."""

    def __len__(self) -> int:
        """Number of samples."""

    def describe(self, index: int) -> str:
        """Files of a sample, for messages."""


class SampleStreams(Protocol):
    """Which outputs a sample has, and which of them feed the network."""

    @property
    def TEST_STREAMS(self) -> Mapping[str, str]:
        """Input stream of the network (``image``, ``events``, ``img_self_res``) -> output of a sample."""

    @property
    def outputs(self) -> frozenset[str]:
        """Names of the entries of a sample."""


class SampleSet(Protocol):
    """What every data set offers.

    Attributes:
        classes: class set of the labels in samples; the 19 Cityscapes classes unless :func:`.build_dataset` sets it.
    """

    classes: ClassSet

    @property
    def outputs(self) -> frozenset[str]:
        """Names of the entries of a sample."""

    @property
    def read_from(self) -> str:
        """Message that names the folders the files are read from."""

    @property
    def left_out(self) -> str:
        """Message about files that are not used; '' if all are."""

    def __len__(self) -> int:
        """Number of images."""

    def describe(self, index: int) -> str:
        """Files of a sample, for messages."""


class TrainingSet(SampleSet, Cacheable, Protocol):
    """Source or target of a training."""

    @property
    def sample_size(self) -> Size:
        """Size of a training sample."""

    def draw(self, rng: np.random.Generator) -> Any:
        """Make every random decision of a training sample; :meth:`sample` takes the result."""

    def sample(self, index: int, draw: Any) -> dict[str, Any]:
        """Load one sample: a tensor by output, (3, H, W) float32 for network inputs, (1, H, W) int64 for ``label``."""


class SourceSet(TrainingSet, Protocol):
    """Labelled source of a training, as rare class sampling needs it."""

    @property
    def names(self) -> list[str]:
        """Name of every image, in the order of the indices."""

    @property
    def root(self) -> Path:
        """Folder of the data set."""

    @property
    def crop(self) -> tuple[int, int]:
        """(width, height) of a training crop."""

    def label_path(self, name: str) -> Path:
        """Label map of a name."""

    def load_label(self, index: int) -> Image.Image:
        """Label map in mode ``L``, at the size that crops are taken from, in the classes of the class set."""

    def sample(self, index: int, draw: CropDraw, label: Image.Image | None = None) -> dict[str, Any]:
        """As for every training set; ``label`` is what :meth:`load_label` returned, to avoid reading it twice."""


class EvaluationSet(SampleSet, SampleStreams, Protocol):
    """Validation or test set. Its samples always have ``img_metas`` with a ``name``."""

    @property
    def ABSENT_CLASSES(self) -> Sequence[int]:
        """Train ids that the labels never contain; the main score leaves out classes without any other."""

    @property
    def prediction_size(self) -> Size:
        """Size of labels and predictions."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A whole image: outputs as in :class:`TrainingSet`; ``label`` may also be (H, W)."""


def pair(values: Iterable[Any]) -> tuple[Any, Any]:
    """Two values of a config, which may come as a list."""
    first, second = values
    return first, second


def check_choice(value: Any, choices: Collection[str], key: str) -> Any:
    """Return a value that is one of ``choices``.

    Raises:
        ConfigError: it is not; the message names ``key``.
    """
    if value not in choices:
        raise ConfigError(f"{key} is {value!r}; choose one of {', '.join(choices)}")
    return value


def check_outputs(outputs: Iterable[str], known: Sequence[str], where: str) -> frozenset[str]:
    """Read an ``outputs`` key (set or list of names).

    Raises:
        ConfigError: an unknown name.
    """
    names = frozenset(outputs)
    unknown = sorted(names - set(known))
    if unknown:
        raise ConfigError(f"{where}: unknown output {', '.join(unknown)}; known: {', '.join(known)}")
    return names
