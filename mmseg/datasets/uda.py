"""Pairs of a source and a target sample, with rare class sampling (DAFormer, Hoyer et al., CVPR 2022, 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mmseg.classes import CLASSES
from mmseg.config.components import RARE_CLASSES
from mmseg.datasets.class_statistics import read_class_pixels, read_files_by_class
from mmseg.datasets.crops import CropDraw
from mmseg.errors import CMDAError, ConfigError, DataError, did_you_mean
from mmseg.registry import DATASETS

# keeps the samples' stream apart from that of the training step
SAMPLE_KEY = 0
MAX_RECROPS = 10
# key of a sample's text on files that it was to be made of and that could not be used
SKIPPED = "skipped"
# what to do about such a file
BAD_SAMPLES = ("raise", "skip")
# samples in a row that may be bad before a skipping dataset gives up
MAX_SKIPS = 10
RCS_KEYS = {name: key.default for name, key in RARE_CLASSES.keys.items()}


def class_probabilities(stats: list[Mapping[str, Any]], temperature: float) -> tuple[list[int], np.ndarray]:
    """Probability of every class to be drawn: softmax((1 - frequency) / temperature).

    Args:
        stats: entries of ``sample_class_stats.json``: pixels by class, and ``file``.
        temperature: the lower, the more the rarest classes prevail.

    Returns:
        Train ids by ascending number of pixels, and their probabilities (float32).
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


def _file_key(path: str) -> str:
    """``<split>/<city>/<file>``: what a label path keeps whichever root it was written under."""
    return "/".join(Path(path).parts[-3:])


@DATASETS.register_module()
class UDADataset(Dataset):
    """Sample number k is a pair of a source and a target sample, drawn from (seed, k) alone.

    Any number of workers, and a resumed training, thus see the same samples.

    Args:
        source: dataset with ``draw``, ``sample``, ``load_label`` and ``label_path``.
        target: dataset with ``draw`` and ``sample``.
        source_json_root: folder of ``sample_class_stats.json`` and ``samples_with_class.json``.
        rare_class_sampling: ``min_pixels``, ``class_temp``, ``min_crop_ratio``; None draws sources uniformly.
        seed: seed of all draws.
        on_bad_sample: ``raise`` stops at a file that cannot be used; ``skip`` draws another one in its place, and says
            so in the sample's text ``skipped``, a line for each.

    Raises:
        DataError: the statistics are missing, or do not belong to the source.
        ConfigError: a class has no image with enough pixels.
    """

    def __init__(
        self,
        source: Any,
        target: Any,
        source_json_root: str | None = None,
        rare_class_sampling: Mapping[str, float] | None = None,
        seed: int = 0,
        on_bad_sample: str = "raise",
    ) -> None:
        if on_bad_sample not in BAD_SAMPLES:
            raise ConfigError(
                f"data.train.on_bad_sample is {on_bad_sample!r}; choose one of {', '.join(map(repr, BAD_SAMPLES))}"
            )
        self.source = source
        self.target = target
        self.seed = seed
        self.skip = on_bad_sample == "skip"
        self.rcs = None
        if rare_class_sampling:
            for key in rare_class_sampling:
                if key not in RCS_KEYS:
                    raise ConfigError(
                        f"data.train.rare_class_sampling: unknown key {key!r}{did_you_mean(key, RCS_KEYS)}"
                    )
            self.rcs = {**RCS_KEYS, **rare_class_sampling}
            self._prepare_rare_class_sampling(Path(source_json_root or ""))

    def _prepare_rare_class_sampling(self, root: Path) -> None:
        self.classes, self.probabilities = class_probabilities(read_class_pixels(root), self.rcs["class_temp"])
        position = {_file_key(str(self.source.label_path(n))): i for i, n in enumerate(self.source.names)}
        samples = read_files_by_class(root)
        self.samples_with_class: dict[int, list[int]] = {}
        files_with_class = {
            class_id: [f for f, pixels in samples.get(class_id, []) if pixels > self.rcs["min_pixels"]]
            for class_id in self.classes
        }
        lacking = [f"{c} ({CLASSES[c]})" for c, files in files_with_class.items() if not files]
        if lacking:
            raise ConfigError(
                f"rare class sampling: no image in {root} has more than {self.rcs['min_pixels']} pixels of class "
                f"{', '.join(lacking)}; lower data.train.rare_class_sampling.min_pixels"
            )
        for class_id, files in files_with_class.items():
            unknown = [f for f in files if _file_key(f) not in position]
            if unknown:
                raise DataError(
                    f"{root / 'samples_with_class.json'} names {unknown[0]}, which is not among the "
                    f"{len(position)} images of {self.source.root}; run the Cityscapes converter on that folder"
                )
            self.samples_with_class[class_id] = [position[_file_key(f)] for f in files]

    def __len__(self) -> int:
        return len(self.source) * len(self.target)

    def __getitem__(self, number: int) -> dict[str, Any]:
        skipped: list[str] = []
        sample = {name: self._usable(name, number, skipped) for name in ("source", "target")}
        return {**sample, SKIPPED: "\n".join(skipped)} if self.skip else sample

    def describe(self, number: int) -> str:
        """Files that a sample is drawn from, for messages."""
        return ", ".join(self._describe(name, number) for name in ("source", "target"))

    def _describe(self, name: str, number: int) -> str:
        index, _ = self._choose(name, self._generator(name, number))
        return f"{name} {getattr(self, name).describe(index)}"

    def _generator(self, name: str, number: int, attempt: int = 0) -> np.random.Generator:
        """What a sample is drawn with; a further attempt has draws of its own."""
        if attempt:
            return np.random.default_rng([SAMPLE_KEY, self.seed, number, int(name == "target"), attempt])
        return np.random.default_rng([SAMPLE_KEY, self.seed, number, *([1] if name == "target" else [])])

    def _choose(self, name: str, rng: np.random.Generator) -> tuple[int, int | None]:
        """Draw which image to take; of a source, also the class that it was chosen for."""
        if name == "target":
            return int(rng.integers(len(self.target))), None
        if not self.rcs:
            return int(rng.integers(len(self.source))), None
        class_id = int(rng.choice(self.classes, p=self.probabilities / self.probabilities.sum()))
        return int(rng.choice(self.samples_with_class[class_id])), class_id

    def _usable(self, name: str, number: int, skipped: list[str]) -> dict[str, Any]:
        """Source or target of a sample; where that is to be skipped, the next one drawn."""
        for attempt in range(MAX_SKIPS + 1):
            try:
                return self._load(name, number, attempt)
            except CMDAError as error:
                if not self.skip:
                    raise
                skipped.append(" ".join(str(error).split()))
        raise DataError(f"{MAX_SKIPS + 1} {name} samples in a row cannot be used, the last because: {skipped[-1]}")

    def _load(self, name: str, number: int, attempt: int) -> dict[str, Any]:
        """One attempt at a source or target.

        Raises:
            DataError: it cannot be used; the message names the file.
        """
        rng, dataset = self._generator(name, number, attempt), getattr(self, name)
        index, class_id = self._choose(name, rng)
        try:
            if class_id is None:
                sample = dataset.sample(index, dataset.draw(rng))
            else:
                draws = (dataset.draw(rng) for _ in range(MAX_RECROPS + 1))
                sample = self.rare_class_sample(index, class_id, draws)
        except CMDAError:
            raise
        except Exception as error:  # whatever a damaged file makes its reader raise
            what = f"{type(error).__name__}: {error}"
            raise DataError(f"{name} {dataset.describe(index)} cannot be used ({what}); replace the file") from error
        for key, value in sample.items():
            # the sum of a tensor is finite where the tensor is, and quicker to look at
            if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.sum().isfinite():
                raise DataError(f"{key} of {name} {dataset.describe(index)} is not finite; replace the file")
        return sample

    def rare_class_sample(self, index: int, class_id: int, draws: Iterable[CropDraw]) -> dict[str, Any]:
        """Source sample of the first draw whose crop shows enough of a class, else of the last.

        Only the label is cropped to find out, the images are loaded once.
        """
        label = self.source.load_label(index)
        pixels = np.asarray(label) == class_id
        crop_w, crop_h = self.source.crop
        needed = self.rcs["min_pixels"] * self.rcs["min_crop_ratio"]
        for draw in draws:
            if pixels[draw.y : draw.y + crop_h, draw.x : draw.x + crop_w].sum() > needed:
                break
        return self.source.sample(index, draw, label)
