"""Variants of the training, and which switches go together."""

import pytest
from helpers.method_tools import uda_settings
from helpers.script_tools import ROOT

from mmseg.config.load import effective, load_config
from mmseg.config.uda import UDASettings
from mmseg.errors import ConfigError
from mmseg.uda import streams
from mmseg.uda.streams import (
    EXCLUSIVE,
    PLANS,
    SWITCHES,
    Passes,
    StreamPlan,
    Variant,
    check_method,
    check_switches,
    register_variant,
    stream_plan,
)

PUBLISHED = "configs/fusion/cs2dsec_image+events_together_b5.py"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model.train_type": "cs2dsec_image"}, "the train types of the config differ: uda.train_type="),
        ({"uda.fuse_both_ice_and_e": True, "model.fusion_isr_module": None}, "need a second fusion module"),
        ({"uda.imnet_feature_dist_lambda": 0.1, "model.pretrained": None}, "needs ImageNet features"),
        ({"uda.isr_no_fusion": True}, "it is for cs2dsec_image.events$"),
    ],
)
def test_sections_that_contradict_each_other(options, message):
    config = load_config(ROOT / PUBLISHED)
    check_method(effective(config))
    config.merge_from_dict(options)
    with pytest.raises(ConfigError, match=message):
        check_method(effective(config))


@pytest.mark.parametrize("train_type", PLANS)
def test_every_pair_of_switches_is_accepted_or_refused_by_name(train_type):
    for first in SWITCHES:
        for second in SWITCHES:
            both = {"train_type": train_type, first: True, second: True}
            excluded = any({first, second} == {one, other} for one, other, _ in EXCLUSIVE)
            if {first, second} <= set(PLANS[train_type].switches) and not excluded:
                check_switches(both)
                continue
            with pytest.raises(ConfigError, match=rf"uda\.({first}|{second})"):
                check_switches(both)


def test_switches_of_the_variants_are_all_known():
    assert {switch for variant in PLANS.values() for switch in variant.switches} == set(SWITCHES)


def test_a_variant_can_be_registered(monkeypatch):
    monkeypatch.setattr(streams, "PLANS", dict(PLANS))
    register_variant("mine", Variant(PLANS["cs2dz_image"].plan, is_fused=False))
    check_switches({"train_type": "mine"})
    with pytest.raises(ValueError, match="already a training variant 'mine'"):
        register_variant("mine", PLANS["cs2dz_image"])


GOOD = {
    "source_keys": {"image": "image", "maps": "img_self_res"},
    "target_keys": {"image": "image", "maps": "night_isr"},
    "student": {"image": "image", "events": "maps"},
    "teacher": {"image": "image", "events": "maps"},
    "weights": {"image": 0.5, "fusion": 1.0},
    "labelled_by": {"image": "fusion"},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"source_keys": {"image": "image"}}, "student_streams names streams that source_keys lacks: maps"),
        ({"target_keys": {"image": "image"}}, "student_streams names streams that target_keys lacks: maps"),
        ({"teacher": {"image": "image", "events": "event"}}, "teacher_streams names .* target_keys lacks: event"),
        ({"weights": {"isr": 1.0}}, "loss_weights names outputs that the student does not have: isr"),
        ({"labelled_by": {"image": "isr"}}, "labelled_by names outputs that the teacher does not have: isr"),
        ({"labelled_by": {"events": "fusion"}}, "labelled_by, or student_streams, lacks: image"),
    ],
)
def test_the_plan_of_a_registered_variant_is_checked(monkeypatch, changes, message):
    monkeypatch.setattr(streams, "PLANS", dict(PLANS))
    parts = {**GOOD, **changes}

    def plan(settings):
        return StreamPlan(
            source_keys=parts["source_keys"],
            target_keys=parts["target_keys"],
            passes=lambda _: Passes(parts["student"], "events", parts["teacher"], "events", parts["weights"]),
            labelled_by=parts["labelled_by"],
        )

    register_variant("mine", Variant(plan))
    settings = UDASettings(**uda_settings("cs2dz", train_type="mine"))
    if not message:
        assert stream_plan(settings).source_keys == parts["source_keys"]
        return
    with pytest.raises(ConfigError, match=f"training variant 'mine': {message}"):
        stream_plan(settings)
