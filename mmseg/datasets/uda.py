"""Pairs of a source and a target sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mmseg.datasets.base import SourceSet, TrainingSet, check_choice
from mmseg.datasets.rare_classes import RareClassSampler
from mmseg.errors import CMDAError, DataError
from mmseg.registry import DATASETS

# Keeps the random stream of the samples apart from that of the training step.
SAMPLE_KEY = 0
MAX_RECROPS = 10
# Key listing unusable files that were skipped.
SKIPPED = "skipped"
# What to do about an unusable file.
BAD_SAMPLES = ("raise", "skip")
# Unusable samples in a row before a dataset that skips gives up.
MAX_SKIPS = 10


@DATASETS.register_module()
class UDADataset(Dataset):
    """Sample number k is a pair of a source and a target sample, drawn from (seed, k) only.

    Any number of workers, and a resumed training, thus see the same samples.

    Args:
        source: labelled day images.
        target: night images.
        source_json_root: folder of the class statistics, see :class:`.RareClassSampler`.
        rare_class_sampling: settings of :class:`.RareClassSampler`; None draws sources uniformly.
        seed: seed of all draws.
        on_bad_sample: ``raise`` stops at a file that cannot be used; ``skip`` draws another sample and reports the
            file in the sample's text ``skipped``, one line per file.

    Raises:
        DataError: the statistics are missing, or do not belong to the source.
        ConfigError: a class has no image with enough pixels.
    """

    def __init__(
        self,
        source: SourceSet,
        target: TrainingSet,
        source_json_root: str | None = None,
        rare_class_sampling: Mapping[str, float] | None = None,
        seed: int = 0,
        on_bad_sample: str = "raise",
    ) -> None:
        self.source = source
        self.target = target
        self.domains: dict[str, TrainingSet] = {"source": source, "target": target}
        self.seed = seed
        self.skip = check_choice(on_bad_sample, BAD_SAMPLES, "data.train.on_bad_sample") == "skip"
        self.rare_classes = (
            RareClassSampler(source, source_json_root or "", rare_class_sampling) if rare_class_sampling else None
        )

    def __len__(self) -> int:
        return len(self.source) * len(self.target)

    def __getitem__(self, number: int) -> dict[str, Any]:
        skipped: list[str] = []
        sample: dict[str, Any] = {name: self._usable(name, number, skipped) for name in self.domains}
        return {**sample, SKIPPED: "\n".join(skipped)} if self.skip else sample

    def describe(self, number: int) -> str:
        """Files that a sample is drawn from, for messages."""
        return ", ".join(self._describe(name, number) for name in self.domains)

    def _describe(self, name: str, number: int) -> str:
        index, _ = self._choose(name, self._generator(name, number))
        return f"{name} {self.domains[name].describe(index)}"

    def _generator(self, name: str, number: int, attempt: int = 0) -> np.random.Generator:
        """Generator of a sample's draws; each further attempt has its own."""
        if attempt:
            return np.random.default_rng([SAMPLE_KEY, self.seed, number, int(name == "target"), attempt])
        return np.random.default_rng([SAMPLE_KEY, self.seed, number, *([1] if name == "target" else [])])

    def _choose(self, name: str, rng: np.random.Generator) -> tuple[int, int | None]:
        """Draw an image; with rare class sampling, also the class that a source was chosen for."""
        if name == "source" and self.rare_classes is not None:
            return self.rare_classes.choose(rng)
        return int(rng.integers(len(self.domains[name]))), None

    def _usable(self, name: str, number: int, skipped: list[str]) -> dict[str, Any]:
        """Source or target of a sample; if unusable files are skipped, the next usable one."""
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
        rng, dataset = self._generator(name, number, attempt), self.domains[name]
        index, class_id = self._choose(name, rng)
        try:
            if class_id is None or self.rare_classes is None:
                sample = dataset.sample(index, dataset.draw(rng))
            else:
                draws = (dataset.draw(rng) for _ in range(MAX_RECROPS + 1))
                sample = self.rare_classes.sample(index, class_id, draws)
        except CMDAError:
            raise
        except Exception as error:  # a damaged file may make its reader raise anything
            what = f"{type(error).__name__}: {error}"
            raise DataError(f"{name} {dataset.describe(index)} cannot be used ({what}); replace the file") from error
        for key, value in sample.items():
            # The sum of a tensor is finite if all its values are, and faster to check.
            if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.sum().isfinite():
                raise DataError(f"{key} of {name} {dataset.describe(index)} is not finite; replace the file")
        return sample
