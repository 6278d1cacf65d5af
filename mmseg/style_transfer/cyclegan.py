"""CycleGAN between image changes and night events: two generators, two discriminators, and their losses.

Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", ICCV 2017, with the
least-squares loss of Mao et al., ICCV 2017. CMDA (section 3.2) uses one of the generators, ``to_events``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg.models.resnet_generator import ResnetGenerator
from mmseg.style_transfer.discriminator import PatchDiscriminator

INITIAL_STD = 0.02


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _real_loss(score: Tensor) -> Tensor:
    return (score - 1).square().mean()


def _fake_loss(score: Tensor) -> Tensor:
    return score.square().mean()


class CycleGAN(nn.Module):
    """All four networks. Pictures are (B, 1, H, W) in [-1, 1], H and W multiples of 4.

    Args:
        filters: width of generators and discriminators; the published generator has 64.
        cycle_weight: weight of the cycle loss (lambda of the paper).
        identity_weight: weight of the identity loss, as a fraction of ``cycle_weight``.
    """

    def __init__(self, filters: int = 64, cycle_weight: float = 10.0, identity_weight: float = 0.5) -> None:
        super().__init__()
        self.to_events = ResnetGenerator(width=filters)
        self.to_change = ResnetGenerator(width=filters)
        self.events_discriminator = PatchDiscriminator(width=filters)
        self.change_discriminator = PatchDiscriminator(width=filters)
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.apply(_initialise)

    def generator_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of both generators."""
        yield from self.to_events.parameters()
        yield from self.to_change.parameters()

    def discriminator_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of both discriminators."""
        yield from self.events_discriminator.parameters()
        yield from self.change_discriminator.parameters()

    def generator_losses(self, change: Tensor, events: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weighted losses of the generators, and their detached translations ``events`` and ``change``."""
        # Instance norm treats samples separately, so translation and identity share one pass.
        fake_events, same_events = self.to_events(torch.cat((change, events))).chunk(2)
        fake_change, same_change = self.to_change(torch.cat((events, change))).chunk(2)
        identity = self.cycle_weight * self.identity_weight
        losses = {
            "loss_gan_events": _real_loss(self.events_discriminator(fake_events)),
            "loss_gan_change": _real_loss(self.change_discriminator(fake_change)),
            "loss_cycle_change": self.cycle_weight * F.l1_loss(self.to_change(fake_events), change),
            "loss_cycle_events": self.cycle_weight * F.l1_loss(self.to_events(fake_change), events),
            "loss_identity_events": identity * F.l1_loss(same_events, events),
            "loss_identity_change": identity * F.l1_loss(same_change, change),
        }
        return losses, {"events": fake_events.detach(), "change": fake_change.detach()}

    def discriminator_losses(
        self, change: Tensor, events: Tensor, fake_change: Tensor, fake_events: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the discriminators on real pictures and on detached translations."""
        losses = {}
        for name, discriminator, real, fake in (
            ("events", self.events_discriminator, events, fake_events),
            ("change", self.change_discriminator, change, fake_change),
        ):
            # the name in logs
            losses[f"loss_critic_{name}"] = (_real_loss(discriminator(real)) + _fake_loss(discriminator(fake))) / 2
        return losses
