"""What test-time augmentation predicts an image with, as read from ``--tta``. Light to import."""

from __future__ import annotations

from dataclasses import dataclass

from mmseg.config.components import LEAST_SIDE
from mmseg.errors import ConfigError, DataError

FLIP = "flip"
LEAST_SCALE, LARGEST_SCALE = 0.25, 4.0


@dataclass(frozen=True)
class TestTimeAugmentation:
    """Views of the inputs whose probabilities are averaged.

    Attributes:
        flip: also predict the mirrored inputs, at every scale.
        scales: factors on height and width of the inputs, ascending.
    """

    __test__ = False  # pytest would collect it by its name

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    @classmethod
    def parse(cls, text: str | None) -> TestTimeAugmentation | None:
        """Read ``flip``, scales, or both, separated by commas; without scales, the scale is 1.

        Returns:
            None for None, an empty text, and a single scale of 1 without ``flip``, which augment nothing.

        Raises:
            ConfigError: anything else.
        """
        words = [word.strip() for word in text.split(",")] if text else []
        scales = [_scale(word, text) for word in words if word != FLIP]
        if len(set(scales)) < len(scales) or words.count(FLIP) > 1:
            raise ConfigError(f"--tta {text}: it names something twice; name each scale, and flip, once")
        found = cls(FLIP in words, tuple(sorted(scales)) or (1.0,))
        return None if found == cls() else found

    @property
    def name(self) -> str:
        """The one way in which it is written, e.g. ``flip,0.75,1``; :meth:`parse` reads it."""
        shown = [] if self.scales == (1.0,) else [f"{scale:g}" for scale in self.scales]
        return ",".join([*([FLIP] if self.flip else []), *shown])

    @property
    def passes(self) -> int:
        """How often the network predicts an image."""
        return len(self.scales) * (2 if self.flip else 1)

    @property
    def time_factor(self) -> float:
        """Pixels that the network sees, as a multiple of those without augmentation: about that of the time."""
        return sum(scale**2 for scale in self.scales) * (2 if self.flip else 1)

    def size(self, height: int, width: int, scale: float) -> tuple[int, int]:
        """(height, width) of inputs at a scale.

        Raises:
            DataError: smaller than a network can see.
        """
        scaled = round(height * scale), round(width * scale)
        if min(scaled) < LEAST_SIDE:
            raise DataError(
                f"at the scale {scale:g} of --tta, inputs of {width}x{height} are {scaled[1]}x{scaled[0]}; a network "
                f"needs at least {LEAST_SIDE} pixels a side: leave the scale out"
            )
        return scaled

    def describe(self) -> str:
        """One line for people."""
        number = f"{self.passes} prediction{'s' if self.passes > 1 else ''}"
        times = f"{number} per image, about {self.time_factor:.1f} times the time"
        return f"test-time augmentation {self.name}: {times}"


def _scale(word: str, text: str | None) -> float:
    try:
        scale = float(word)
    except ValueError:
        scale = 0.0
    if not LEAST_SCALE <= scale <= LARGEST_SCALE:
        raise ConfigError(
            f"--tta {text}: {word!r} is neither {FLIP!r} nor a scale from {LEAST_SCALE:g} to {LARGEST_SCALE:g}; give "
            "e.g. flip or flip,0.75,1.0,1.25"
        )
    return float(f"{scale:g}")
