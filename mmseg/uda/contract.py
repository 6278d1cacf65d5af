"""What a training method must have; methods from outside are checked against it when they are built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from mmseg.config.run import Numerics
from mmseg.config.uda import UDASettings
from mmseg.uda.cmda import StepResult
from mmseg.uda.draws import StepDraws
from mmseg.uda.parts import PartRunner


class Method(Protocol):
    """A training method (registry ``UDA``).

    Derive it from :class:`.DACS`, and its ``settings_class`` from :class:`.UDASettings`.
    """

    model: nn.Module
    ema_model: nn.Module
    settings: UDASettings
    numerics: Numerics

    def configure(self, numerics: Numerics | None = None, runner: PartRunner | None = None) -> None:
        """Set how the step computes."""

    def train_step(
        self,
        batch: Mapping[str, Mapping[str, Tensor]],
        draws: StepDraws,
        backward: Callable[[Tensor], None] = Tensor.backward,
    ) -> StepResult:
        """Run one iteration on ``source`` and ``target`` samples (B, C, H, W); leave the gradients in ``model``."""
