"""Small training methods, and the batches and draws of the golden training steps."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from helpers.golden_tools import events_input, fill, image_input, label_input, load_json
from helpers.small_encoder import TEST_CHANNELS, TEST_ENCODER
from mmseg.classes import CLASSES
from mmseg.config.uda import UDASettings
from mmseg.registry import UDA
from mmseg.uda.draws import JitterFactors, StepDraws
from mmseg.uda.segmentors import build_segmentor

# Place of the ignored label among the priorities of class mix.
IGNORED_SLOT = len(CLASSES)


def small_model(published: str = "cs2dsec", **changes) -> nn.Module:
    """A published segmentor with MiT-b1 encoders; that of DSEC with a content fusion module."""
    encoder = dict(type="mit_b1", style="pytorch", in_chans=3)
    cfg = load_json(f"configs/work_dir_{published}.json")["model"]
    cfg |= dict(pretrained=None, backbone_image=encoder, backbone_events=encoder)
    cfg |= dict(fusion_isr_module={"type": "AttentionFusion"} if published == "cs2dsec" else None) | changes
    return build_segmentor(cfg)


def image_model() -> nn.Module:
    """DAFormer on images alone, with a MiT-b1 encoder."""
    cfg = load_json("configs/bases.json")["configs/_base_/models/daformer_sepaspp_mitb5.py"]["model"]
    head = cfg["decode_head"]
    head["decoder_params"]["fusion_cfg"]["dilations"] = (1, 6, 12, 18)
    return build_segmentor(dict(type="EncoderDecoder", backbone=dict(type="mit_b1"), decode_head=head))


def uda_settings(published: str = "cs2dsec", **changes) -> dict:
    cfg = load_json(f"configs/published_{published}.json")["uda"]
    built = {k: v for k, v in cfg.items() if k in UDASettings.__dataclass_fields__}
    return built | dict(cyclegan_itrd2en_path="") | changes


def without_dropout(module: nn.Module) -> nn.Module:
    for m in module.modules():
        if hasattr(m, "drop_prob"):
            m.drop_prob = 0.0
        if isinstance(m, nn.Dropout2d):
            m.p = 0.0
    return module


def reference_draws(seed: int, label: torch.Tensor, force: str | None, iteration: int):
    """The draws that the reference makes from its global generators under a seed, and the event draw."""
    python_rng = random.Random(seed)
    jitter, sigma = python_rng.uniform(0, 1), python_rng.uniform(0.15, 1.15)
    choice = torch.rand(1, generator=torch.Generator().manual_seed(seed)).item()
    numpy_rng = np.random.RandomState(seed)
    classes = np.unique(label.numpy())
    priority = np.ones((len(label), IGNORED_SLOT + 1))
    for row in priority:
        drawn = numpy_rng.choice(classes, (len(classes) + len(classes) % 2) // 2, replace=False)
        row[np.where(drawn == 255, IGNORED_SLOT, drawn)] = 0
    events = choice > 0.5 if force is None else force == "events"
    factors = (JitterFactors((0, 1, 2, 3), 1.0, 1.0, 1.0, 0.0),) * len(label)
    return StepDraws(iteration, jitter, 0.0, sigma, events, priority, factors), choice


def golden_batch(variant: str, step: int, n: int, height: int, width: int, block: int) -> dict:
    def named(key, rule, channels):
        return rule(f"dacs:{variant}:{step}:{key}", (n, channels, height, width))

    signed = {
        k: named(k, events_input, 1).repeat(1, 3, 1, 1) for k in ("src_time_res", "src_isr", "trg_events", "trg_isr")
    }
    return {
        "source": {
            "image": named("src_image", image_input, 3),
            "label": label_input(f"dacs:{variant}:{step}:label", n, height, width, block),
            "img_self_res": signed["src_isr"],
            "img_time_res": signed["src_time_res"],
        },
        "target": {
            "warp_image": named("trg_image", image_input, 3),
            "events_vg": signed["trg_events"],
            "warp_img_self_res": signed["trg_isr"],
            "image": named("trg_image", image_input, 3),
            "night_isr": signed["trg_isr"],
        },
    }


SIDE = 64


def small_method(**settings) -> nn.Module:
    """The published DSEC variant with the smallest encoders, without dropout."""
    channels = TEST_CHANNELS
    fusion_cfg = dict(type="aspp", sep=True, dilations=(1, 6, 12, 18), pool=False)
    decoder = dict(embed_dims=16, fusion_cfg=fusion_cfg, train_type="cs2dsec_image+events_together", share_decoder=True)
    head = dict(type="DAFormerHeadFusion", in_channels=channels, channels=16, num_classes=19, decoder_params=decoder)
    model = dict(
        type="FusionEncoderDecoder",
        backbone_image=dict(type=TEST_ENCODER),
        backbone_events=dict(type=TEST_ENCODER),
        fusion_module=dict(type="AttentionAvgFusion", in_channels=channels),
        decode_head=head,
    )
    settings = dict(pseudo_threshold=0.06, blur=False, color_jitter_probability=1.0) | settings
    method = UDA.build(uda_settings(type="DACS", model=build_segmentor(model), **settings))
    return fill(without_dropout(method)).train()


def small_samples(number: int) -> dict:
    """A source-target pair."""
    shape = (3, SIDE, SIDE)
    source = {"image": image_input(f"s{number}", shape), "label": label_input(f"s{number}", 1, SIDE, SIDE, 8)[0]}
    source |= {key: events_input(f"s{number}:{key}", shape) for key in ("img_time_res", "img_self_res")}
    target = {"warp_image": image_input(f"t{number}", shape)}
    target |= {key: events_input(f"t{number}:{key}", shape) for key in ("events_vg", "warp_img_self_res")}
    return {"source": source, "target": target}


def small_batch() -> dict:
    return torch.utils.data.default_collate([small_samples(0), small_samples(1)])


def dark_zurich_method(train_type: str, **changes) -> nn.Module:
    """A variant for Dark Zurich with the smallest encoders, without dropout."""
    cfg = load_json("configs/work_dir_cs2dz.json")["model"]
    head, encoder = cfg["decode_head"], dict(type=TEST_ENCODER)
    params = {**head["decoder_params"], "train_type": train_type, "embed_dims": 16}
    parts = dict(
        backbone_image=encoder,
        backbone_events=encoder,
        fusion_module={**cfg["fusion_module"], "in_channels": TEST_CHANNELS},
        decode_head={**head, "in_channels": TEST_CHANNELS, "channels": 16, "decoder_params": params},
    )
    model = without_dropout(small_model("cs2dz", **parts))
    settings = dict(pseudo_threshold=0.0, pseudo_weight_ignore_top=0, pseudo_weight_ignore_bottom=0)
    return UDA.build(uda_settings("cs2dz", type="DACS", model=model, train_type=train_type, **settings | changes))
