"""Variants of the training, and which switches go together."""

import pytest
from helpers.script_tools import ROOT

from mmseg.config.load import effective, load_config
from mmseg.errors import ConfigError
from mmseg.uda import streams
from mmseg.uda.streams import EXCLUSIVE, PLANS, SWITCHES, Variant, check_method, check_switches, register_variant

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
