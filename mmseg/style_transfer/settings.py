"""Settings of the style-transfer training. Does not import torch: a script shows them in its help."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mmseg.errors import ConfigError

# Width of the published generator.
PUBLISHED_FILTERS = 64
# Smaller crops leave the discriminators without output.
SMALLEST_CROP = 24
# Settings that a resumed training may change.
_FREE = {"iterations", "constant", "log_interval", "checkpoint_interval", "picture_interval"}


@dataclass(frozen=True)
class StyleTransferSettings:
    """Settings of CycleGAN (Zhu et al., ICCV 2017); intervals in iterations, 0 for never.

    Attributes:
        iterations: length of the training; 200 epochs of 1,000 pictures in the paper.
        constant: iterations at the full learning rate, before it decays linearly to 0; None for half of all.
        crop: side of the square crops in pixels, a multiple of 4.
        batch: pairs per iteration.
        filters: width of generators and discriminators.
        cycle_weight: weight of the cycle loss.
        identity_weight: weight of the identity loss, as a fraction of ``cycle_weight``.
        pool: earlier translations kept for each discriminator.
    """

    iterations: int = 200_000
    constant: int | None = None
    crop: int = 256
    batch: int = 1
    filters: int = PUBLISHED_FILTERS
    learning_rate: float = 2e-4
    beta1: float = 0.5
    cycle_weight: float = 10.0
    identity_weight: float = 0.5
    pool: int = 50
    seed: int = 0
    log_interval: int = 100
    checkpoint_interval: int = 5000
    picture_interval: int = 1000

    def checked(self) -> StyleTransferSettings:
        """Return itself.

        Raises:
            ConfigError: a value that cannot be used.
        """
        for name, value in asdict(self).items():
            if value is not None and value < 0:
                raise ConfigError(f"{name} is {value}; it must not be negative")
        if self.crop < SMALLEST_CROP or self.crop % 4:
            raise ConfigError(f"crop is {self.crop}; it must be a multiple of 4 and at least {SMALLEST_CROP}")
        for name in ("iterations", "batch", "filters"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.constant is not None and self.constant > self.iterations:
            raise ConfigError(f"constant is {self.constant}, more than iterations, {self.iterations}")
        return self

    def rate(self, iteration: int) -> float:
        """Learning rate of an iteration, counted from 0."""
        constant = self.iterations // 2 if self.constant is None else self.constant
        if iteration < constant:
            return self.learning_rate
        return self.learning_rate * (self.iterations - iteration) / (self.iterations - constant)

    def changes(self, earlier: dict[str, Any]) -> list[str]:
        """Describe the differences from an earlier run, apart from settings that a resumed run may change."""
        own = asdict(self)
        keys = [key for key in own if key not in _FREE and earlier.get(key) != own[key]]
        return [f"{key} was {earlier.get(key)}, now {own[key]}" for key in keys]
