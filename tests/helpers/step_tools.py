"""Training methods of every variant at a tiny size, batches for them, and a stand-in for recordings."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from helpers.golden_tools import events_input, fill, image_input, label_input
from helpers.method_tools import uda_settings
from helpers.small_encoder import TEST_CHANNELS, TEST_ENCODER
from mmseg.config.run import Optimizer
from mmseg.engine import graphs
from mmseg.engine.graphs import ReplayingRunner
from mmseg.engine.optim import build_optimizer
from mmseg.registry import UDA
from mmseg.uda.draws import StepDraws
from mmseg.uda.parts import flatten, map_tensors
from mmseg.uda.segmentors import build_segmentor

SIDE = 32
CHANNELS = TEST_CHANNELS
OPTIMIZER = Optimizer(type="AdamW", lr=1e-3, weight_decay=0.01)
TOGETHER, ONE_SECOND_INPUT = "cs2dsec_image+events_together", "cs2dsec_image+events"
SPLIT, EDGES = "cs2dz_image+raw-isr_split", "cs2dz_image+raw-isr_no-fusion"
# name -> settings of the method; together they take every way through the step
VARIANTS: dict[str, dict] = {
    "published": dict(train_type=TOGETHER),
    "augmented": dict(train_type=TOGETHER, blur=True, color_jitter_probability=0.0),
    "pasted content maps": dict(train_type=TOGETHER, mixed_image_to_mixed_isr=False),
    "two fusion modules": dict(train_type=TOGETHER, isr_another_fusion=True),
    "all fused": dict(train_type=TOGETHER, fuse_both_ice_and_e=True),
    "events only": dict(train_type=TOGETHER, without_isd=True),
    "feature distance": dict(train_type=TOGETHER, imnet_feature_dist_lambda=0.1, imnet_feature_dist_classes=[6, 7, 11]),
    "one second input": dict(train_type=ONE_SECOND_INPUT),
    "one second input, two fusion modules": dict(train_type=ONE_SECOND_INPUT, isr_another_fusion=True),
    "one second input, consistency": dict(train_type=ONE_SECOND_INPUT, isr_no_fusion=True),
    "images": dict(train_type="cs2dsec_image"),
    "source only": dict(train_type=TOGETHER, source_only=True),
    "masked images": dict(train_type="cs2dsec_image", masking=dict(block=8), blur=True, color_jitter_probability=0.0),
    "masked across modalities": dict(train_type=TOGETHER, masking=dict(block=8, shared=False, weight=0.5)),
    "masked source and target": dict(train_type="cs2dz_image+raw-isr", masking=dict(block=8, mode="separate")),
    "Dark Zurich": dict(train_type="cs2dz_image+raw-isr"),
    "Dark Zurich, images": dict(train_type="cs2dz_image"),
    "Dark Zurich, split": dict(train_type=SPLIT, forward_cfg=dict(loss_weight=dict(image=0.5, events=0.5))),
    "Dark Zurich, edges": dict(train_type=EDGES, isr_edge=True, lambda_isr_features=1.0),
}


def tiny_method(train_type: str = TOGETHER, encoder: dict | None = None, **settings) -> nn.Module:
    """A variant with the smallest encoders, all its noise, and a small decoder.

    Args:
        encoder: another encoder; the other components take its channels.
    """
    channels = None if encoder else CHANNELS
    fusion_cfg = dict(type="aspp", sep=True, dilations=(1, 6, 12, 18), pool=False)
    decoder = dict(embed_dims=16, fusion_cfg=fusion_cfg, train_type=train_type, share_decoder=True)
    head = dict(in_channels=channels, channels=16, num_classes=19, decoder_params=decoder)
    encoder, dark_zurich = encoder or dict(type=TEST_ENCODER), train_type.startswith("cs2dz")
    if train_type in ("cs2dsec_image", "cs2dz_image"):
        model = dict(type="EncoderDecoder", backbone=encoder, decode_head=dict(type="DAFormerHead", **head))
    else:
        fusion = dict(type="AttentionFusion" if dark_zurich else "AttentionAvgFusion", in_channels=channels)
        needs_two = settings.get("isr_another_fusion") or settings.get("fuse_both_ice_and_e")
        second = dict(type="AttentionFusion", in_channels=channels) if needs_two else None
        model = dict(
            type="FusionEncoderDecoder",
            backbone_image=encoder,
            backbone_events=encoder,
            fusion_module=fusion,
            fusion_isr_module=second,
            decode_head=dict(type="DAFormerHeadFusion", **head),
        )
    # a threshold that some pixels of a random network reach
    usual = dict(pseudo_threshold=0.06, blur=False, color_jitter_probability=1.0)
    rows = dict(pseudo_weight_ignore_top=2, pseudo_weight_ignore_bottom=4)
    published = uda_settings("cs2dz" if dark_zurich else "cs2dsec", type="DACS", train_type=train_type)
    return fill(UDA.build({**published, **usual, **rows, **settings, "model": build_segmentor(model)})).train()


def tiny_batch(side: int = SIDE, samples: int = 2, name: str = "") -> dict:
    """Random samples with the keys of every data set."""
    shape = (samples, 3, side, side)
    events = {
        key: events_input(f"{name}{key}", shape)
        for key in ("img_time_res", "img_self_res", "events_vg", "warp_img_self_res", "night_isr")
    }
    images = {key: image_input(f"{name}{key}", shape) for key in ("image", "warp_image")}
    label = label_input(f"{name}label", samples, side, side, 8)
    return {"source": {**events, **images, "label": label}, "target": {**events, **images}}


def train(method: nn.Module, iterations: int, first: int = 0, optimizer=None, batch=None) -> tuple[list[dict], object]:
    """Run iterations as the training loop does; their logs and the optimiser."""
    optimizer = optimizer or build_optimizer(method.model, OPTIMIZER)
    logs = []
    for iteration in range(first, first + iterations):
        given = batch or tiny_batch(name=f"{iteration % 2}:")
        torch.manual_seed(100 + iteration)
        optimizer.zero_grad(set_to_none=True)
        size = len(given["source"]["image"])
        result = method.train_step(given, StepDraws.make(method.settings, size, iteration, 100, seed=3))
        optimizer.step()
        logs.append({name: value.item() for name, value in result.logs.items()})
    return logs, optimizer


def state_of(method: nn.Module) -> list[torch.Tensor]:
    """Copies of weights, running statistics and gradients."""
    gradients = [p.grad for p in method.model.parameters() if p.grad is not None]
    return [t.detach().clone() for t in (*method.parameters(), *method.buffers(), *gradients)]


class StandIn:
    """Records a part without a GPU: what is replayed is the part itself, on the recorded inputs.

    Args:
        method: its state is put back after a part was run to learn what its outputs look like.
        spoil: changes the outputs of every replay.
    """

    def __init__(self, method: nn.Module, spoil=None) -> None:
        self.method, self.spoil, self.recorded, self.replays = method, spoil, [], 0

    def warm_up(self, part, inputs):
        return part(inputs)

    def record(self, part, inputs):
        kept = graphs._State(self.method)
        gradients = [(p, p.grad.clone()) for p in self.method.model.parameters() if p.grad is not None]
        outputs = map_tensors(torch.clone, part(inputs))
        kept.restore()
        for parameter, gradient in gradients:
            parameter.grad.copy_(gradient)
        self.recorded.append(part)
        return Replay(self, part, inputs, outputs)

    def concurrently(self):
        return nullcontext()

    def join(self):
        pass


class Replay:
    """What :class:`StandIn` records."""

    def __init__(self, recorder: StandIn, part, inputs, outputs) -> None:
        self.recorder, self.part, self.inputs, self.outputs = recorder, part, inputs, outputs

    def replay(self):
        self.recorder.replays += 1
        made = flatten(self.part(self.inputs))
        for output, value in zip(flatten(self.outputs), made, strict=True):
            output.copy_(self.recorder.spoil(value) if self.recorder.spoil else value)


def replaying(method: nn.Module, warnings: list[str] | None = None, spoil=None) -> StandIn:
    """Let a method replay its parts through a stand-in, which is returned."""
    recorder = StandIn(method, spoil)
    said = [] if warnings is None else warnings
    method.configure(runner=ReplayingRunner(method, recorder, recorder, said.append))
    return recorder
