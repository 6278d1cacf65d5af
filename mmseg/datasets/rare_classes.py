"""Rare class sampling of source images (DAFormer, Hoyer et al., CVPR 2022, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmseg.config.components import RareClassSampling
from mmseg.config.fields import parse
from mmseg.datasets.base import SourceSet
from mmseg.datasets.class_statistics import file_key, read_class_pixels, read_files_by_class
from mmseg.datasets.crops import CropDraw
from mmseg.datasets.labels import stored_classes
from mmseg.errors import ConfigError, DataError


def class_probabilities(stats: Sequence[Mapping[str, Any]], temperature: float) -> tuple[list[int], np.ndarray]:
    """Probability that each class is drawn: softmax((1 - frequency) / temperature).

    Args:
        stats: entries of ``sample_class_stats.json``: pixels by class, and ``file``.
        temperature: the lower, the more the rarest classes prevail.

    Returns:
        Classes by ascending number of pixels, and their probabilities (float32).
    """
    pixels: dict[int, int] = {}
    for entry in stats:
        for key, count in entry.items():
            if key != "file":
                pixels[int(key)] = pixels.get(int(key), 0) + count
    ordered = dict(sorted(pixels.items(), key=lambda item: item[1]))
    counts = np.array(list(ordered.values()), dtype=np.float32)
    logits = (1 - counts / counts.sum()) / np.float32(temperature)
    weights = np.exp(logits - logits.max())
    return list(ordered), (weights / weights.sum()).astype(np.float32)


class RareClassSampler:
    """Draws a class, then a source image that shows enough of it.

    Args:
        source: the source images.
        root: folder of ``sample_class_stats.json`` and ``samples_with_class.json``.
        settings: fields of :class:`.RareClassSampling`.

    Attributes:
        classes, probabilities: see :func:`class_probabilities`.
        samples_with_class: class -> indices of the images with more than ``min_pixels`` pixels of the class.

    Raises:
        DataError: the statistics are missing, or do not belong to the source.
        ConfigError: an unknown setting, or a class that no image shows enough of.
    """

    def __init__(self, source: SourceSet, root: str | Path, settings: Mapping[str, float]) -> None:
        known = parse(RareClassSampling, "data.train.rare_class_sampling", settings)
        self.source = source
        self.min_pixels = known.min_pixels
        self.min_crop_pixels = known.min_pixels * known.min_crop_ratio
        root = Path(root)
        self.classes, self.probabilities = class_probabilities(
            read_class_pixels(root, stored_classes(source)), known.class_temp
        )
        self.samples_with_class = self._find_samples(root)

    def _find_samples(self, root: Path) -> dict[int, list[int]]:
        position = {file_key(self.source.label_path(n)): i for i, n in enumerate(self.source.names)}
        samples = read_files_by_class(root, stored_classes(self.source))
        files_with_class = {
            class_id: [f for f, pixels in samples.get(class_id, []) if pixels > self.min_pixels]
            for class_id in self.classes
        }
        lacking = [f"{c} ({self.source.classes.names[c]})" for c, files in files_with_class.items() if not files]
        if lacking:
            raise ConfigError(
                f"rare class sampling: no image in {root} has more than {self.min_pixels} pixels of class "
                f"{', '.join(lacking)}; lower data.train.rare_class_sampling.min_pixels"
            )
        for files in files_with_class.values():
            unknown = [f for f in files if file_key(f) not in position]
            if unknown:
                raise DataError(
                    f"{root / 'samples_with_class.json'} names {unknown[0]}, which is not among the "
                    f"{len(position)} images of {self.source.root}; run the Cityscapes converter on that folder"
                )
        return {class_id: [position[file_key(f)] for f in files] for class_id, files in files_with_class.items()}

    def choose(self, rng: np.random.Generator) -> tuple[int, int]:
        """Draw an image and the class it was chosen for."""
        class_id = int(rng.choice(self.classes, p=self.probabilities / self.probabilities.sum()))
        return int(rng.choice(self.samples_with_class[class_id])), class_id

    def sample(self, index: int, class_id: int, draws: Iterable[CropDraw]) -> dict[str, Any]:
        """Source sample of the first draw whose crop shows enough of a class, else of the last draw.

        The search crops only the label; images are loaded once.
        """
        label = self.source.load_label(index)
        pixels = np.asarray(label) == class_id
        width, height = self.source.crop
        for draw in draws:
            if pixels[draw.y : draw.y + height, draw.x : draw.x + width].sum() > self.min_crop_pixels:
                break
        return self.source.sample(index, draw, label)
