"""Every random draw of a training step, made in one place and keyed by (seed, iteration).

A repeated step, after a resume or with another number of workers, sees the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mmseg.classes import CLASSES
from mmseg.config.uda import UDASettings
from mmseg.errors import ConfigError
from mmseg.extractors.content import random_direction

# separates the random stream of the step from that of the samples
STEP_KEY = 1
# separate the draws of the masked pass from the others of the step, which are the same with it and without it
OTHERS, MASKED = 0, 1


@dataclass(frozen=True)
class JitterFactors:
    """Colour jitter of one image: order of (0 brightness, 1 contrast, 2 saturation, 3 hue) and factors."""

    order: tuple[int, int, int, int]
    brightness: float
    contrast: float
    saturation: float
    hue: float


@dataclass(frozen=True)
class MaskDraws:
    """Draws of the masked pass of one iteration.

    Attributes:
        jitter, blur, sigma, jitter_factors: as in :class:`StepDraws`, drawn anew.
        keys: one per sample; they tell apart seed, iteration and position in the joint batch of all processes.
    """

    jitter: float
    blur: float
    sigma: float
    jitter_factors: tuple[JitterFactors, ...]
    keys: tuple[tuple[int, ...], ...]

    @classmethod
    def make(cls, strength: float, batch: int, iteration: int, seed: int) -> MaskDraws:
        """Draw for a batch, with a strength of the colour jitter."""
        key = (STEP_KEY, seed, iteration, MASKED)
        rng = np.random.default_rng(key)
        jitter, blur = rng.random(2)
        return cls(
            jitter=float(jitter),
            blur=float(blur),
            sigma=_sigma(rng),
            jitter_factors=tuple(_jitter(rng, strength) for _ in range(batch)),
            keys=tuple((*key, sample) for sample in range(batch)),
        )

    def part(self, first: int, last: int) -> MaskDraws:
        """Draws of the samples ``first`` to ``last - 1`` of the batch."""
        return replace(self, jitter_factors=self.jitter_factors[first:last], keys=self.keys[first:last])

    def cells(self, rows: int, columns: int) -> np.ndarray:
        """Uniform values in [0, 1) for the cells of every sample, (B, rows, columns)."""
        return np.stack([np.random.default_rng(key).random((rows, columns)) for key in self.keys])


@dataclass(frozen=True)
class StepDraws:
    """Draws of one iteration.

    Attributes:
        iteration: number of the iteration, from 0.
        jitter, blur: uniform in [0, 1); compared with the probabilities of the config.
        sigma: standard deviation of the blur, uniform in [0.15, 1.15).
        events: whether the teacher sees events (otherwise isr).
        class_priority: (B, classes + 1) in [0, 1), the last for the ignored label; of the classes present, the half
            with the lowest values is pasted.
        jitter_factors: one per sample.
        masked: draws of the masked pass; None if there is none.
    """

    iteration: int
    jitter: float
    blur: float
    sigma: float
    events: bool
    class_priority: np.ndarray
    jitter_factors: tuple[JitterFactors, ...]
    masked: MaskDraws | None = None

    @classmethod
    def make(
        cls, settings: UDASettings, batch: int, iteration: int, max_iters: int, seed: int, classes: int = len(CLASSES)
    ) -> StepDraws:
        """Draw for a batch of ``batch`` source-target pairs with a number of classes."""
        rng = np.random.default_rng([STEP_KEY, seed, iteration, OTHERS])
        jitter, blur, choice = rng.random(3)
        sigma = _sigma(rng)
        threshold = events_threshold(settings.random_choice_thres, iteration / max_iters)
        events = bool(choice > threshold)
        if settings.without_events or settings.without_isd:
            events = settings.without_isd
        strength = settings.color_jitter_strength
        return cls(
            iteration=iteration,
            jitter=float(jitter),
            blur=float(blur),
            sigma=sigma,
            events=events,
            class_priority=rng.random((batch, classes + 1)),
            jitter_factors=tuple(_jitter(rng, strength) for _ in range(batch)),
            masked=None if settings.masking is None else MaskDraws.make(strength, batch, iteration, seed),
        )

    def part(self, first: int, last: int) -> StepDraws:
        """Draws of the samples ``first`` to ``last - 1`` of the batch."""
        return replace(
            self,
            class_priority=self.class_priority[first:last],
            jitter_factors=self.jitter_factors[first:last],
            masked=self.masked and self.masked.part(first, last),
        )

    def shift_direction(self, shift_type: str) -> str:
        """Shift of the mixed image's content map; ``random`` derives it from the digits of the jitter draw."""
        if shift_type != "random":
            return shift_type
        return random_direction(int(self.jitter * 10), int(self.jitter * 100))


def events_threshold(spec: str | float, progress: float) -> float:
    """Value that a uniform draw must exceed for events (otherwise isr) to feed the teacher.

    Args:
        spec: a number, ``'a-b'`` (from a to b over the training), ``'linear'`` (1-0), ``'nlinear'`` (0-1), or ''.
        progress: share of the training done, in [0, 1].

    Raises:
        ConfigError: ``spec`` is none of these.
    """
    named = {"linear": (1.0, 0.0), "nlinear": (0.0, 1.0), "": (0.5, 0.5)}
    try:
        if spec in named:
            first, last = named[spec]
        elif isinstance(spec, str) and "-" in spec:
            first, last = (float(part) for part in spec.split("-"))
        else:
            first = last = float(spec)
    except ValueError:
        raise ConfigError(
            f"uda.random_choice_thres is {spec!r}; give a number such as '0.5', a range such as '0.7-0.3', "
            "'linear' or 'nlinear'"
        ) from None
    return first + (last - first) * progress


def _sigma(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.15, 1.15))


def _jitter(rng: np.random.Generator, strength: float) -> JitterFactors:
    factors = rng.uniform(1 - strength, 1 + strength, 3)
    first, second, third, fourth = (int(i) for i in rng.permutation(4))
    brightness, contrast, saturation = (float(f) for f in factors)
    hue = float(rng.uniform(-strength, strength))
    return JitterFactors((first, second, third, fourth), brightness, contrast, saturation, hue)
