"""Components from outside: their keys are checked by their constructors, and what they lack is named when built."""

import pytest
from helpers.script_tools import ROOT
from torch import nn

from mmseg.config.arguments import arguments_of
from mmseg.config.components import LOSSES as LOSS_KEYS
from mmseg.config.keys import CONFIG
from mmseg.config.load import check_config, config_of, dump_config, effective, load_config
from mmseg.config.uda import METHODS, UDASettings, describe_methods
from mmseg.datasets.base import EvaluationSet, SourceSet, TrainingSet
from mmseg.datasets.cache import Cacheable
from mmseg.errors import ConfigError
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.registry import (
    BACKBONES,
    FUSION_MODULES,
    REGISTRIES,
    SEGMENTORS,
    ComponentRegistry,
    check_contract,
    members,
)
from mmseg.uda.cmda import DACS

PUBLISHED = ROOT / "configs/fusion/cs2dsec_image+events_together_b5.py"


@pytest.fixture(autouse=True)
def forgotten():
    for registry in REGISTRIES:
        registry.import_from_location()
    before = [dict(registry.module_dict) for registry in REGISTRIES]
    yield
    for registry, modules in zip(REGISTRIES, before, strict=True):
        registry.module_dict.clear()
        registry.module_dict.update(modules)


class Gate(nn.Module):
    def __init__(self, in_channels, sharpness=1.0):
        super().__init__()

    def forward(self, image, events):
        return image


def with_gate(**keys):
    FUSION_MODULES.register_module(module=Gate, force=True)
    config = load_config(PUBLISHED)
    config.model.fusion_module = dict(type="Gate", **keys)
    return effective(config_of(dump_config(config)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (dict(in_channels=[1, 2, 3, 4], sharpnes=2), r"'model.fusion_module.sharpnes'.*did you mean 'sharpness'"),
        (dict(sharpness=2.0), "model.fusion_module lacks in_channels, which Gate needs"),
    ],
)
def test_keys_are_those_of_the_constructor(keys, message):
    with pytest.raises(ConfigError, match=message):
        check_config(with_gate(**keys), for_training=True)


def test_a_component_without_constructor_has_no_keys():
    class Plain(nn.Module):
        pass

    assert arguments_of(Plain) == {}


def test_good_keys_pass():
    # everything else in order: the data is missed
    with pytest.raises(ConfigError, match="does not exist"):
        check_config(with_gate(in_channels=[64, 128, 320, 512]), for_training=True)


def test_what_a_component_lacks_is_named():
    @BACKBONES.register_module()
    class Bare(nn.Module):
        pass

    with pytest.raises(ConfigError, match=r"backbone: .*Bare has no 'channels'; docs/extend.md .*contracts.Encoder"):
        BACKBONES.build(dict(type="Bare"))

    @SEGMENTORS.register_module()
    class Half(BaseSegmentor):
        def decode(self, features):
            return {}

    with pytest.raises(ConfigError, match=r"segmentor: .*Half lacks the method encode, image_encoder, output_logits"):
        SEGMENTORS.build(dict(type="Half"))


class Bare:
    outputs = frozenset({"image"})

    def __len__(self):
        return 1


@pytest.mark.parametrize(
    ("contract", "lacking"),
    [
        (TrainingSet, "'classes', 'read_from', 'left_out', 'describe', 'sample_size', 'draw', 'sample'"),
        (
            EvaluationSet,
            "'TEST_STREAMS', 'classes', 'read_from', 'left_out', 'describe', 'ABSENT_CLASSES', 'prediction_size', '__g",
        ),
    ],
)
def test_a_data_set_is_checked_for_its_role(contract, lacking):
    with pytest.raises(ConfigError, match=f"data.val: .*Bare has no {lacking}"):
        check_contract(Bare(), contract, "data.val", members(Cacheable))


def test_the_page_names_every_member():
    page = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    for contract in (*(r.contract for r in REGISTRIES), TrainingSet, SourceSet, EvaluationSet):
        for name in members(contract):
            assert f"`{name}" in page, (contract, name)
    assert all(isinstance(registry, ComponentRegistry) for registry in REGISTRIES)


def test_keys_of_a_method_are_its_settings():
    """A method derived from DACS has its own settings, which are checked like ours."""
    from dataclasses import dataclass

    from mmseg.config.fields import key
    from mmseg.config.kinds import Number

    @dataclass(frozen=True, kw_only=True)
    class TheirSettings(UDASettings):
        warmth: float = key(Number(0, 1), 0.5, "warmth of the teacher")

    TheirMethod = type("TheirMethod", (DACS,), {"settings_class": TheirSettings})
    describe_methods({"TheirMethod": TheirMethod})
    try:
        config = load_config(PUBLISHED, {"uda.type": "TheirMethod", "uda.warmth": 0.25})
        assert effective(config)["uda"]["warmth"] == 0.25
        from mmseg.config.run import RunConfig

        assert RunConfig.from_config(effective(config)).uda.warmth == 0.25
        with pytest.raises(ConfigError, match=r"uda.warmth is 2; give a number"):
            effective(load_config(PUBLISHED, {"uda.type": "TheirMethod", "uda.warmth": 2}))
    finally:
        METHODS.types.pop("TheirMethod")
        METHODS.made.pop("TheirMethod")
    assert "warmth" not in METHODS.types["DACS"]
    assert "custom_imports" in CONFIG.keys
    assert "Gate" not in LOSS_KEYS.types
