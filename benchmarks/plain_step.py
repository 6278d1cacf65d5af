"""The training step in a plain implementation, with which ``step_speed.py`` compares ours.

Attention stores its weight matrix; events and content map pass their encoder one after the other; features are copied
between the layouts of convolutions and linear layers; all streams are decoded before a single backward pass; content
maps of mixed images are computed one by one on the host; optimiser and teacher update one parameter at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from unittest.mock import patch

import plain
import torch
from torch import Tensor, nn

from mmseg.models.backbones import mit
from mmseg.models.decode_heads import daformer_head
from mmseg.models.fusion import modules
from mmseg.models.losses import pixel_accuracy
from mmseg.models.segmentors.fusion_encoder_decoder import SECOND_STREAMS, FusionEncoderDecoder
from mmseg.uda import cmda
from mmseg.uda.draws import StepDraws
from mmseg.uda.parts import Tensors
from mmseg.uda.teacher import momentum


def attention(layer: mit.EfficientSelfAttention, x: Tensor, height: int, width: int) -> Tensor:
    """Softmax of scaled products, times the values."""
    context = x
    if layer.sr_ratio > 1:
        context = layer.norm(mit.to_tokens(layer.sr(to_map(x, height, width))))
    query = layer._split_heads(layer.q(x))
    key, value = (layer._split_heads(part) for part in layer.kv(context).chunk(2, dim=-1))
    weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)
    return layer.proj((weights @ value).transpose(1, 2).flatten(2))


def to_map(x: Tensor, height: int, width: int) -> Tensor:
    """(B, H*W, C) -> (B, C, H, W), copied."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], height, width).contiguous()


def encode_second(model: FusionEncoderDecoder, streams: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """Features of events and content map, each in a separate pass."""
    return {name: model.backbone_events(streams[name]) for name in SECOND_STREAMS if name in streams}


def student_pass(
    method: cmda.DACS, how: cmda.StudentPass, inputs: Tensors, backward: Callable[[Tensor], None]
) -> dict[str, Tensor]:
    """One forward pass, then one backward pass; the published DSEC config has no feature distance."""
    truth = inputs["truth"]
    output = method.model(inputs["slots"], how.fusion)
    losses = {
        name: method._cross_entropy(name, output.logits[name], truth.get(name, truth["image"]))
        for name, _ in how.loss_weights
    }
    loss = sum(weight * losses[name] for name, weight in how.loss_weights)
    backward(loss)
    logits = output.logits.get("fusion", output.logits["image"])
    logs = {"decode.loss_seg": loss.detach(), "decode.acc_seg": pixel_accuracy(logits, truth["image"]["label"])}
    return logs | {f"decode.ce_{name}": value.detach() for name, value in losses.items()}


def content_map(method: cmda.DACS, images: Tensor, draws: StepDraws) -> Tensor:
    """Content maps of mixed images, one by one on the host."""
    direction = draws.shift_direction(method.settings.shift_type)
    return plain.batch_content_map(images, method.content_params, direction)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, iteration: int, alpha: float) -> None:
    """Update one parameter at a time."""
    keep = momentum(iteration, alpha)
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.copy_(keep * old + (1 - keep) * new)


def in_plain_form() -> list[patch]:
    """Patches that replace our implementation; start all of them."""
    return [
        patch.object(mit.EfficientSelfAttention, "forward", attention),
        *(patch.object(module, "to_map", to_map) for module in (mit, daformer_head, modules)),
        patch.object(FusionEncoderDecoder, "_encode_second", encode_second),
        patch.object(cmda.DACS, "_student_pass", student_pass),
        patch.object(cmda.DACS, "_content_map", content_map),
        patch.object(cmda, "update_teacher", update_teacher),
    ]
