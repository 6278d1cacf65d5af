"""The launcher: its flags against those of the reference, named experiments, several runs."""

import argparse
import copy
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.golden_tools import GOLDEN, load_json
from helpers.script_tools import run as run_script
from rich.console import Console

from mmseg.config import dotted
from mmseg.config.data_root import set_root
from mmseg.config.load import dump_config, effective, load_config, plain
from mmseg.config.relations import check_relations
from mmseg.config.run import RunConfig
from mmseg.errors import CMDAError, ConfigError
from mmseg.launcher import child as launching
from mmseg.launcher import experiments, running
from mmseg.launcher.child import plan_child, write_child_config
from mmseg.launcher.flag_rules import Base
from mmseg.launcher.flag_table import BY_NAME, FLAGS
from mmseg.launcher.flags import add_flags, flag_changes, given_flags, naming_flags, read_flags
from mmseg.preparation.dsec_lists import create_dsec_lists
from mmseg.report.comparison import compare, read_run
from mmseg.uda.segmentors import build_segmentor
from mmseg.uda.streams import check_method, stream_plan

ROOT = Path(__file__).resolve().parents[2]
BASES = {
    "cs2dsec": "configs/fusion/cs2dsec_image+events_together_b5.py",
    "cs2dz": "configs/fusion/cs2dz_image+raw-isr_b5.py",
}
REFERENCE = load_json("configs/launcher_flags.json")

# ------------------------------------------------------------------------------------------------ the reference's flags

NO_EVENTS = "is about events, and the target of the base config has none"
NOT_DARK_ZURICH = "is for Dark Zurich, which is not the target of the base config"
# Entries that ours refuses, with the message.
REFUSED = {
    # Dark Zurich has no events; the reference crashes, does nothing, or writes keys that nothing reads there
    "cs2dz: --icd2en pretrained/x.pth": NO_EVENTS,
    "cs2dz: --image_change_range 2": NO_EVENTS,
    "cs2dz: --without_events": NO_EVENTS,
    "cs2dz: --without_isd": NO_EVENTS,
    "cs2dz: --events_clip_range 0.2": NO_EVENTS,
    "cs2dz: --events_bins_5_avg_1": NO_EVENTS,
    "cs2dz: --fusion_isr attf": NO_EVENTS,
    "cs2dz: --fuse_both_ice_and_e": NO_EVENTS,
    "cs2dz: --random_choice_thres linear": NO_EVENTS,
    "cs2dz: --random_choice_thres 0.7-0.3": NO_EVENTS,
    **{
        f"cs2dz: --day_events_generate {word}": NO_EVENTS
        for word in ("image_change", "gray_image", "ic_wo_cyclegan", "gi_wo_cyclegan", "events_gan", "events_esim")
    },
    # content maps of Dark Zurich's reader alone; the reference crashes or does nothing on DSEC_Night
    "cs2dsec: --high_resolution_isr": NOT_DARK_ZURICH,
    "cs2dsec: --shift_3_channel": NOT_DARK_ZURICH,
    "cs2dsec: --dz_auto_threshold": NOT_DARK_ZURICH,
    "cs2dsec: --dz_isr_data_type new_night": NOT_DARK_ZURICH,
    # the reference switches it on for DSEC_Night, whose reader has no such images
    "cs2dsec: --deflare_aug": NOT_DARK_ZURICH,
}
# Entries that change something else, where the reference crashes, does nothing or writes the wrong key.
OTHERWISE = {
    # wrote loss_weight_img_self_res in some cases and nothing in this one
    "cs2dsec: --lambda_feature_consistency 2.0": {"uda.lambda_feature_consistency": 2.0},
    "cs2dz: --lambda_feature_consistency 2.0": {"uda.lambda_feature_consistency": 2.0},
    # does nothing there; ours makes a short run
    **{
        f"{base}: --debug": {
            "name": "DEBUG_n",
            "runner.max_iters": 10,
            "uda.debug_img_interval": 1,
            "log_config.interval": 1,
            "evaluation.interval": 10,
            "checkpoint_config.interval": 10,
            "data.workers_per_gpu": 0,
        }
        for base in BASES
    },
    # crashes there for want of the module
    "cs2dsec: --fuse_both_ice_and_e": {
        "uda.fuse_both_ice_and_e": True,
        "model.fusion_isr_module.type": "AttentionFusion",
    },
    # does nothing there on Dark Zurich
    "cs2dz: --train_size 400-400": {
        "data.train.source.image_crop_size": [400, 400],
        "data.train.target.image_crop_size": [400, 400],
    },
    "cs2dz: --train_size 440-440": {
        "data.train.source.image_crop_size": [440, 440],
        "data.train.target.image_crop_size": [440, 440],
    },
    "cs2dz: --target_isr_parms 0.01-1.01-0.005-0.1-1": {
        "data.train.target.isr_parms.val_range": [0.01, 1.01],
        "data.train.target.isr_parms._threshold": 0.005,
        "data.train.target.isr_parms.shift_pixel": 1,
    },
    "cs2dz: --dacs_isr_parms 0.01-1.01-0.005-0.1-1": {
        "uda.isr_parms.val_range": [0.01, 1.01],
        "uda.isr_parms._threshold": 0.005,
        "uda.isr_parms.shift_pixel": 1,
    },
    # the parameters that the config spells out would hide the named ones
    "cs2dz: --dz_isr_data_type new_night": {
        "data.train.target.dz_isr_data_type": "new_night",
        "data.train.target.isr_parms": "",
        **dict.fromkeys(
            f"data.train.target.isr_parms.{key}" for key in ("val_range", "_threshold", "_clip_range", "shift_pixel")
        ),
    },
    # crashes there; the key is a folder, and so is that of the next flag, where the reference writes True
    **{f"{base}: --random_flare": {"data.train.source.random_flare": "data/flares"} for base in BASES},
    **{f"{base}: --sky_mask": {"uda.sky_mask": "data/sky_masks"} for base in BASES},
}
FOLDERS = (
    "data/flares",
    "data/sky_masks",
    "data/dark_zurich/image_deflare",
    "data/cityscapes/leftImg8bit_events_gan",
    "data/cityscapes/leftImg8bit_events_esim",
)


def parsed(arguments: str) -> dict:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return given_flags(parser.parse_args(shlex.split(arguments)))


def flat(config: dict) -> dict:
    return {key: sorted(value) if key.endswith(".outputs") else value for key, value in dotted.flat(config)}


def resolved(base: Path, flags: dict, **options) -> dict:
    """Flat child config, as it was written and read again; of the name, what the user gave."""
    path = write_child_config(base, "n", None, options, flags)
    config = flat(plain(load_config(path).to_dict()))
    assert config.pop("work_dir").endswith(path.stem)
    config.pop("git_rev")
    assert config["name"] == path.stem
    # the reference's child says so where ours leaves the default
    config.setdefault("model.decode_head.decoder_params.half_share_decoder", False)
    return config | {"name": path.stem[len("yymmdd_hhmm_") : -len("_12345")]}


def changed(before: dict, after: dict) -> dict:
    return {key: after.get(key) for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


@pytest.fixture(scope="module")
def bases(root, tmp_path_factory) -> dict[str, Path]:
    """The published configs as JSON, which is read faster, of which ours are made."""
    folder = tmp_path_factory.mktemp("bases")
    files = {}
    for name, path in BASES.items():
        files[name] = folder / f"{name}.json"
        files[name].write_text(dump_config(load_config(root / path)))
    return files


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A working directory with the folders that the authors never published."""
    monkeypatch.chdir(tmp_path)
    for folder in FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def expected(entry: str) -> dict:
    """What the reference changed, without keys that are absent afterwards."""
    change = REFERENCE[entry]
    if isinstance(change, str) or "error" in change:
        return {}
    return {
        key: sorted(value) if key.endswith(".outputs") else value
        for key, (_, value) in change.items()
        if value != "<absent>"
    }


@pytest.mark.parametrize("entry", [entry for entry in REFERENCE if entry not in REFUSED])
def test_flag_changes_what_it_changed_in_the_reference(bases, workplace, entry):
    base, arguments = entry.split(": ", 1)
    flags = parsed(arguments)
    before, after = (resolved(bases[base], given) for given in ({}, flags))
    if entry not in OTHERWISE:
        assert "error" not in REFERENCE[entry], "an error needs an entry in REFUSED or OTHERWISE"
        defaults = {key: old for key, (old, _) in REFERENCE[entry].items()} if expected(entry) else {}
        for key, old in defaults.items():
            value = before.get(key)
            # the reference writes out what is our default
            assert value is None or plain(value) == (sorted(old) if key.endswith("outputs") else old), key
    assert changed(before, after) == OTHERWISE.get(entry, expected(entry))


@pytest.mark.parametrize("entry", REFUSED)
def test_flag_is_refused_by_name(bases, workplace, entry):
    base, arguments = entry.split(": ", 1)
    with pytest.raises(ConfigError) as error:
        resolved(bases[base], parsed(arguments))
    assert REFUSED[entry] in str(error.value)
    assert f"--{next(iter(parsed(arguments)))}" in str(error.value)
    assert not (workplace / "configs").exists()


def test_exceptions_name_entries_of_the_reference():
    assert not (REFUSED.keys() | OTHERWISE.keys()) - REFERENCE.keys()
    assert not REFUSED.keys() & OTHERWISE.keys()
    assert {entry.split(": --")[1].split()[0] for entry in REFERENCE} <= BY_NAME.keys()
    assert [flag.name for flag in FLAGS if not any(f": --{flag.name}" in entry for entry in REFERENCE)] == []


# ------------------------------------------------------------------------------------------------ flags of ours

CS2DSEC, CS2DZ = BASES["cs2dsec"], BASES["cs2dz"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--share_decoder --no_share_decoder", "--share_decoder and --no_share_decoder exclude each other: a head"),
        ("--half_share_decoder --no_share_decoder", "--half_share_decoder and --no_share_decoder exclude each other"),
        ("--without_events --without_isd", "exclude each other: nothing would be left to feed the teacher"),
        ("--without_isd --random_choice_thres 0.3", "--without_isd and --random_choice_thres exclude each other"),
        ("--without_events --fuse_both_ice_and_e", "--fuse_both_ice_and_e and --without_events: uda.fuse_both"),
        (
            "--without_isd --fusion_isr attf",
            "--fusion_isr and --without_isd: uda.without_isd and uda.isr_another_fusion",
        ),
        ("--isr_no_fusion", "--isr_no_fusion: uda.isr_no_fusion=True has no meaning for uda.train_type"),
        ("--isr_edge_class_weight 0.9", "--isr_edge_class_weight: uda.isr_edge_class_weight=0.9 is read only with"),
        ("--fusion_isr attf --isr_no_fusion", "the content map is either fused or not"),
        ("--icd2en x.pth --day_events_generate ic_wo_cyclegan", "ic_wo_cyclegan translates nothing"),
        ("--test_mode --debug", "--test_mode and --debug exclude each other"),
        ("--cs_isr_data_type new_day --source_isr_parms 1-2-3-4-5", "both give the parameters of day content maps"),
        ("--fusion at", "--fusion at: choose one of attfavg, attf, af, caf, cf, did you mean 'attf'?"),
        ("--batch_size 0", "--batch_size 0: give a whole number of at least 1"),
        ("--seed 1.5", "--seed 1.5: give a whole number of at least 0"),
        ("--feature_dist nan", "--feature_dist nan: give a number"),
        ("--train_size 512", "--train_size 512: give crop-size in pixels, e.g. 400-512"),
        ("--source_isr_parms 1-2-3", "give low-high-threshold-clip-shift, e.g. 0.01-1.01-0.005-0.1-1"),
        ("--random_choice_thres often", "give a number such as 0.5"),
        ("--random_choice_thres 1e-3", "give a number such as 0.5"),
        ("--events_clip_range a-b", "give a number, or low-high to draw from"),
        ("--mixed_image_to_mixed_isr maybe", "choose one of true, false"),
        ("--random_flare", "the folder data/flares is missing"),
        ("--random_flare my/flares", "the folder my/flares is missing"),
        ("--sky_mask", "masks of the sky, which the authors never published: the folder data/sky_masks is missing"),
        ("--day_events_generate events_gan", "the folder data/cityscapes/leftImg8bit_events_gan is missing"),
        ("--day_events_generate events_esim", "the folder data/cityscapes/leftImg8bit_events_esim is missing"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(bases, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        plan_child(bases["cs2dsec"], "n", None, {}, parsed(flags)).check()
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


# A value of every flag that takes one and has no default.
VALUES = {
    "batch_size": 2,
    "seed": 1,
    "train_size": "400-400",
    "backbone": "mit_b0",
    "fusion": "caf",
    "fusion_isr": "caf",
    "day_events_generate": "gray_image",
    "icd2en": "mine.pth",
    "events_clip_range": "0.1-0.2",
    "image_change_range": 2,
    "random_choice_thres": "linear",
    "isd_shift_type": "all",
    "source_isr_parms": "1-10-0.03-0.2-3",
    "target_isr_parms": "1-10-0.03-0.2-3",
    "dacs_isr_parms": "1-10-0.03-0.2-3",
    "cs_isr_data_type": "new_day",
    "dz_isr_data_type": "new_night",
    "feature_dist": 0.01,
    "loss_weight_image": 0.5,
    "loss_weight_events": 0.5,
    "loss_weight_fusion": 0.5,
    "loss_weight_img_self_res": 0.5,
    "lambda_feature_consistency": 0.5,
    "isr_edge": 0.5,
    "isr_edge_class_weight": 0.5,
    "img_self_res_reg": "mixed",
    "isr_noise_dacs_type": "cow",
}


# Second values of flags whose values are treated differently.
SECOND_VALUES = {
    "backbone": "mit_b4",
    "fusion": "af",
    "fusion_isr": "attf",
    "day_events_generate": "ic_wo_cyclegan",
    "events_clip_range": "0.3",
    "random_choice_thres": "0.7-0.3",
    "mixed_image_to_mixed_isr": "false",
    "cs_isr_data_type": "day",
    "feature_dist": 0,
}


@pytest.fixture
def planned(root, existing, tmp_path, monkeypatch):
    """Function: base config and flags -> why their training is refused, or ''."""
    monkeypatch.chdir(tmp_path)
    for folder in (*FOLDERS, "pretrained"):
        (tmp_path / folder).mkdir(parents=True)
    encoders = [existing / f"pretrained/mit_{size}.pth" for size in ("b0", "b4")]
    for path in (tmp_path / "pretrained/cityscapes_ID_to_dsec_EN.pth", *encoders):
        path.touch()
    (tmp_path / "mine.pth").touch()
    read = {}

    def load(path, options=None):
        if path not in read:
            read[path] = load_config(path)
            set_root(read[path], existing)
        config = copy.deepcopy(read[path])
        config.merge_from_dict(dict(options or {}))
        return config

    monkeypatch.setattr(launching, "load_config", load)
    # a process of its own each time
    monkeypatch.setattr(launching, "git_revision", lambda: None)

    def refusal(base: str, flags: dict) -> str:
        try:
            plan_child(root / base, "n", None, {}, flags).check()
        except CMDAError as error:
            return str(error)
        return ""

    return refusal


PAIRED_ON = (
    CS2DSEC,
    CS2DZ,
    "configs/fusion/cs2dsec_image+events_together_fuse_both_b5.py",
    "configs/ablations/cs2dsec_image+events.py",
    "configs/ablations/cs2dsec_image+events_isr_no_fusion.py",
    "configs/ablations/cs2dz_image+raw-isr_no-fusion.py",
    "configs/baselines/cs2dz_image_b5.py",
)


def overlaid(config: dict, changes: dict) -> dict:
    """A config with dotted keys changed; sections that do not change are shared."""
    result = dict(config)
    for key, value in changes.items():
        node = result
        *parents, last = key.split(".")
        for parent in parents:
            node[parent] = dict(node.get(parent) or {})
            node = node[parent]
        node[last] = value
    return result


def refusal_by_rules(config: dict, flags: dict) -> str:
    """What ``planned`` returns, from the rules only: no files are looked for and no config is written."""
    values = {}
    try:
        values = read_flags(flags)
        merged = overlaid(config, flag_changes(values, Base(config)))
        merged = overlaid(merged, launching._unused_parts(merged, {}))
    except ConfigError as error:
        return str(error)
    try:
        check_method(merged)
        check_relations(merged, for_training=True)
        stream_plan(RunConfig.from_config(merged).uda)
    except ConfigError as error:
        return naming_flags(str(error), values)
    return ""


@pytest.mark.parametrize("base", PAIRED_ON)
def test_every_pair_of_flags_is_accepted_or_refused_by_name(planned, root, base):
    config = effective(load_config(root / base))
    names = [flag.name for flag in FLAGS if flag.group != "unpublished" or flag.name == "img_self_res_reg"]
    given = [*((name, VALUES.get(name, True)) for name in names), *SECOND_VALUES.items()]
    singly = {flag: refusal_by_rules(config, dict([flag])) for flag in given}
    for (name, _), message in singly.items():
        assert not message or f"--{name}" in message, (name, message)
    accepted = [flag for flag, message in singly.items() if not message]
    pairs = [dict(pair) for pair in itertools.combinations(accepted, 2) if pair[0][0] != pair[1][0]]
    messages = [refusal_by_rules(config, pair) for pair in pairs]
    for pair, message in zip(pairs, messages, strict=True):
        assert not message or pair.keys() <= set(re.findall(r"--(\w+)", message)), (pair, message)
    # the rules decide what the check of a planned run decides
    refused = [number for number, message in enumerate(messages) if message]
    for number in [*range(0, len(pairs), 60), *refused[:5]]:
        assert bool(planned(base, pairs[number])) == bool(messages[number]), pairs[number]


def test_every_flag_is_accepted_by_some_base_or_was_never_published(planned):
    never = {flag.name for flag in FLAGS if flag.group == "unpublished"} - {"img_self_res_reg"}
    values = {flag.name: VALUES.get(flag.name, True) for flag in FLAGS}
    accepted = {name for name, value in values.items() for base in PAIRED_ON if not planned(base, {name: value})}
    assert accepted == BY_NAME.keys() - never


def test_precision_that_the_device_lacks_is_refused_first(root, existing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launching, "choose_device", lambda: torch.device("cpu"))
    for precision in ("fp16", "tf32"):
        with pytest.raises(ConfigError, match=f"precision='{precision}' needs a CUDA GPU; set 'fp32' or 'bf16'"):
            plan_child(root / CS2DSEC, "n", str(existing), {"precision": precision}).check()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x" * 250, "夜" * 80])
def test_name_that_is_too_long_for_files(bases, name):
    with pytest.raises(ConfigError, match=r"--name '.*' is \d+ bytes too long for the names of the run's files"):
        plan_child(bases["cs2dsec"], name, None, {})
    plan_child(bases["cs2dsec"], "x" * 228, None, {})


def test_what_the_help_recommends_together_is_accepted(planned):
    """The published runs give both; the second names the module of the first."""
    assert not planned(CS2DSEC, {"fuse_both_ice_and_e": True, "fusion_isr": "caf"})


def test_missing_folders_are_looked_for_below_the_root(bases, tmp_path):
    for base, flag, folder in (
        ("cs2dz", "deflare_aug", "data/dark_zurich/image_deflare"),
        ("cs2dsec", "sky_mask", "data/sky_masks"),
    ):
        with pytest.raises(ConfigError, match=f"the folder {tmp_path / folder} is missing"):
            plan_child(bases[base], "n", str(tmp_path), {}, {flag: True})
        (tmp_path / folder).mkdir(parents=True)
        plan_child(bases[base], "n", str(tmp_path), {}, {flag: True})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--train_size 400-512", "crops of Dark Zurich are not resized; give 512-512"),
        ("--dz_isr_data_type new_night --target_isr_parms 1-2-3-4-5", "the parameters of night content maps"),
    ],
)
def test_refused_on_dark_zurich(bases, flags, message):
    with pytest.raises(ConfigError) as error:
        plan_child(bases["cs2dz"], "n", None, {}, parsed(flags))
    assert message in str(error.value)


@pytest.mark.parametrize("flag", ["fusion attf", "share_decoder", "without_events", "loss_weight_image 1"])
def test_flags_of_the_second_input_on_an_image_only_config(root, flag):
    with pytest.raises(ConfigError, match=rf"--{flag.split()[0]} is about .*cs2dsec_image_b5\.py\); leave it out"):
        plan_child(root / "configs/baselines/cs2dsec_image_b5.py", "n", None, {}, parsed(f"--{flag}"))


def test_unknown_flags_of_python():
    with pytest.raises(ConfigError, match="has no flag --fusions, did you mean 'fusion'"):
        plan_child("x.py", "n", None, {}, {"fusions": "attf"})
    with pytest.raises(ConfigError, match="--debug is a switch, it takes no value such as 'yes'"):
        plan_child("x.py", "n", None, {}, {"debug": "yes"})


def test_options_win_over_flags(bases):
    flags = parsed("--batch_size 4 --seed 3 --source_isr_parms 1-10-0.03-0.2-3 --fusion_isr caf")
    options = {
        "data.samples_per_gpu": 1,
        "data.train.source.isr_parms.shift_pixel": 5,
        "model.fusion_isr_module": {"type": "AverageFusion"},
    }
    config = plan_child(bases["cs2dsec"], "n", None, options, flags).resolved
    assert config.data.samples_per_gpu == 1
    assert config.seed == 3
    assert config.data.train.source.isr_parms == {
        "val_range": [1.0, 10.0],
        "_threshold": 0.03,
        "_clip_range": 0.2,
        "shift_pixel": 5,
    }
    assert config.model.fusion_isr_module.type == "AverageFusion"


@pytest.mark.parametrize("value", ["", None])
def test_parameters_take_the_place_of_what_is_no_section(bases, tmp_path, monkeypatch, value):
    """As written and read again, too."""
    monkeypatch.chdir(tmp_path)
    base = json.loads(bases["cs2dsec"].read_text())
    base["data"]["train"]["target"]["isr_parms"] = value
    (tmp_path / "base.json").write_text(json.dumps(base))
    child = plan_child("base.json", "n", None, {}, parsed("--target_isr_parms 1e-5-255-0-0.04-3"))
    assert plain(load_config(child.write()).to_dict()) == plain(child.resolved.to_dict())
    parms = child.resolved.data.train.target.isr_parms
    assert parms == {"val_range": [1e-5, 255.0], "_threshold": 0.0, "_clip_range": 0.04, "shift_pixel": 3}
    assert "data.train.target.isr_parms._delete_" not in child.changed_keys()


@pytest.mark.parametrize("base", BASES)
def test_written_child_resolves_as_planned(root, tmp_path, monkeypatch, base):
    monkeypatch.chdir(tmp_path)
    flags = parsed("--backbone mit_b0 --source_isr_parms 1-10-0.03-0.2-3 --isd_shift_type all --debug")
    child = plan_child(root / BASES[base], "n", "/ROOT", {"uda.alpha": 0.9}, flags)
    assert not list(tmp_path.iterdir())
    assert plain(load_config(child.write()).to_dict()) == plain(child.resolved.to_dict())


def test_smaller_encoder_brings_its_channels_and_weights(bases):
    narrow = [32, 64, 160, 256]
    config = plan_child(bases["cs2dsec"], "n", "/ROOT", {}, parsed("--backbone mit_b0 --fuse_both_ice_and_e")).resolved
    assert config.model.pretrained == "/ROOT/pretrained/mit_b0.pth"
    for part in ("decode_head", "fusion_module", "fusion_isr_module"):
        assert config.model[part].in_channels == narrow
    config = plan_child(bases["cs2dsec"], "n", None, {"model.pretrained": None}, parsed("--backbone mit_b0")).resolved
    assert config.model.pretrained is None


def test_fuse_both_builds_its_module_at_the_channels_of_the_first(root):
    base = root / "configs/demo/cmda_toy_city.py"
    config = plan_child(base, "n", None, {}, parsed("--fuse_both_ice_and_e")).resolved
    assert config.model.fusion_isr_module == {"type": "AttentionFusion", "in_channels": [32, 64, 160, 256]}
    config = plan_child(base, "n", None, {}, parsed("--fuse_both_ice_and_e --fusion_isr caf")).resolved
    assert config.model.fusion_isr_module.type == "ConvertAvgFusion"


@pytest.mark.parametrize("part", ["fusion", "fusion_isr"])
@pytest.mark.parametrize("kind", ["attf", "af"])
@pytest.mark.parametrize("base", ["configs/demo/cmda_toy_city.py", CS2DSEC])
def test_fusion_has_the_channels_of_the_head(root, existing, tmp_path, monkeypatch, base, part, kind):
    """As written and read again, and as it is built and run."""
    monkeypatch.chdir(tmp_path)
    small = {"model.pretrained": None, "model.decode_head.channels": 32, "runner.max_iters": 1}
    flags = parsed(f"--backbone mit_b0 --{part} {kind}")
    child = plan_child(root / base, "n", str(existing), small, flags)
    child.check()
    assert plain(load_config(child.write()).to_dict()) == plain(child.resolved.to_dict())
    with_weights = {"type": "AttentionFusion", "in_channels": [32, 64, 160, 256]}
    wanted = {"type": "AverageFusion"} if kind == "af" else with_weights
    assert child.resolved.model[f"{part}_module"] == wanted
    model = build_segmentor(child.resolved.model.to_dict()).eval()
    night = torch.zeros(1, 3, 64, 64)
    mode = "isr" if part == "fusion_isr" else "events"
    with torch.no_grad():
        assert "fusion" in model({"image": night, "events": night}, mode).logits


def test_channels_of_a_fusion_that_the_user_gives_stay(root):
    base, mine = root / "configs/demo/cmda_toy_city.py", [1, 2, 3, 4]
    section = {"type": "ConvertAvgFusion", "in_channels": mine}
    for options in ({"model.fusion_module.in_channels": mine}, {"model.fusion_module": section}):
        config = plan_child(base, "n", None, options, parsed("--fusion caf")).resolved
        assert config.model.fusion_module == section


def test_generator_given_by_hand_stays_where_it_is(bases, tmp_path):
    mine = tmp_path / "data" / "mine.pth"
    mine.parent.mkdir()
    mine.touch()
    config = plan_child(bases["cs2dsec"], "n", "/ROOT", {}, {"icd2en": str(mine)}).resolved
    assert config.uda.cyclegan_itrd2en_path == str(mine)
    config = plan_child(bases["cs2dsec"], "n", "/ROOT", {}, {"day_events_generate": "gray_image"}).resolved
    assert config.uda.cyclegan_itrd2en_path == "/ROOT/pretrained/cityscapes_ID_to_dsec_EN.pth"


def test_dark_zurich_child_names_no_generator(bases):
    """As the reference's child config."""
    reference = load_json("configs/launcher_child_cs2dz.json")["uda"]["cyclegan_itrd2en_path"]
    assert plan_child(bases["cs2dz"], "n", None, {}).resolved.uda.cyclegan_itrd2en_path == reference == ""


@pytest.mark.parametrize(
    ("base", "flags", "note"),
    [
        ("cs2dsec", "--lambda_feature_consistency 2", "--lambda_feature_consistency is written, but nothing reads it"),
        ("cs2dz", "--isr_edge_class_weight 0.9", "edges are predicted only with --isr_edge"),
        ("cs2dz", "--loss_weight_img_self_res 1", "--loss_weight_events weighs them"),
        ("cs2dsec", "--random_choice_thres linear --fuse_both_ice_and_e", "every pass takes both"),
        ("cs2dsec", "--dacs_isr_parms 1-9-0-1-1 --mixed_image_to_mixed_isr false", "mixed content maps are pasted"),
        ("cs2dsec", "--lambda_feature_consistency 2 --isr_no_fusion", ""),
        ("cs2dsec", "--loss_weight_img_self_res 1 --fusion attf", ""),
        ("cs2dsec", "--img_self_res_reg mixed", "--img_self_res_reg changes nothing: the reference"),
        ("cs2dz", "--fusion caf --loss_weight_fusion 1", ""),
    ],
)
def test_notes_on_values_that_nothing_reads(bases, base, flags, note):
    notes = plan_child(bases[base], "n", None, {}, parsed(flags)).notes
    assert (note in notes[0] and len(notes) == 1) if note else not notes


@pytest.mark.parametrize("kind", ["split", "no-fusion"])
def test_notes_on_fusion_where_nothing_is_fused(root, kind):
    base = root / f"configs/ablations/cs2dz_image+raw-isr_{kind}.py"
    notes = plan_child(base, "n", None, {}, parsed("--fusion caf --loss_weight_fusion 1")).notes
    reason = f"is written, but nothing reads it: cs2dz_image+raw-isr_{kind} fuses nothing"
    assert notes == (f"--fusion {reason}", f"--loss_weight_fusion {reason}")


# ------------------------------------------------------------------------------------------------ configs


@pytest.fixture(scope="module")
def existing(tmp_path_factory) -> Path:
    """A root where everything that a config names exists, empty."""
    folder = tmp_path_factory.mktemp("root")
    own = {
        "data/own": ("train", "val"),
        "data/muses": ("night_train", "night_val"),
        "data/DSEC_Semantic": ("train", "test"),
    }
    for name in ("data/cityscapes", "data/dark_zurich", "pretrained", *own):
        (folder / name).mkdir(parents=True)
    for name in ("mit_b5.pth", "cityscapes_ICD_to_dsec_EN.pth"):
        (folder / "pretrained" / name).touch()
    for name in ("night_dataset_warp.txt", "night_test_dataset_warp.txt"):
        (folder / name).touch()
    for name, manifests in own.items():
        for manifest in manifests:
            (folder / name / f"{manifest}.jsonl").touch()
    return folder


CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("fusion", "ablations", "baselines", "beyond", "own")
    for path in (ROOT / "configs" / folder).glob("*.py")
)


@pytest.mark.parametrize("config", CONFIGS)
def test_config_would_be_trained(root, existing, config):
    child = plan_child(root / config, "n", str(existing), {})
    child.check()
    if not config.startswith("configs/fusion"):
        assert load_config(root / config).name == Path(config).stem


@pytest.mark.parametrize(
    ("config", "base", "flags"),
    [
        ("without_events", CS2DSEC, "--without_events"),
        ("without_ice", CS2DSEC, "--without_isd"),
        ("choice_linear", CS2DSEC, "--random_choice_thres linear"),
        ("choice_0.25", CS2DSEC, "--random_choice_thres 0.25"),
        ("shift_all", CS2DSEC, "--isd_shift_type all"),
        ("fusion_attf", CS2DSEC, "--fusion attf"),
        ("fusion_af", CS2DSEC, "--fusion af"),
        ("fusion_caf", CS2DSEC, "--fusion caf"),
        ("fusion_cf", CS2DSEC, "--fusion cf"),
        ("isr_another_fusion", CS2DSEC, "--fusion_isr attf"),
        ("half_share_decoder", CS2DSEC, "--half_share_decoder"),
        ("no_share_decoder", CS2DSEC, "--no_share_decoder"),
        ("pasted_isr", CS2DSEC, "--mixed_image_to_mixed_isr false"),
        ("day_events_ic", CS2DSEC, "--day_events_generate ic_wo_cyclegan"),
        ("day_events_gi", CS2DSEC, "--day_events_generate gi_wo_cyclegan"),
        ("fd", CS2DSEC, "--feature_dist 0.005"),
        ("image+events_isr_no_fusion", "configs/ablations/cs2dsec_image+events.py", "--isr_no_fusion"),
        ("image+events_without_events", "configs/ablations/cs2dsec_image+events.py", "--without_events"),
    ],
)
def test_ablation_config_is_its_flag(root, tmp_path, monkeypatch, config, base, flags):
    monkeypatch.chdir(tmp_path)
    by_config = resolved(root / f"configs/ablations/cs2dsec_{config}.py", {})
    by_flag = resolved(root / base, parsed(flags))
    assert {key: value for key, value in by_config.items() if value != by_flag.get(key)} == {}
    extra = {key: value for key, value in by_flag.items() if key not in by_config}
    assert extra.keys() <= {"model.decode_head.decoder_params.half_share_decoder"}


def test_image_only_configs_have_the_published_training(root):
    for target in ("cs2dsec", "cs2dz"):
        published = flat(plain(load_config(root / BASES[target]).to_dict()))
        image = flat(plain(load_config(root / f"configs/baselines/{target}_image_b5.py").to_dict()))
        same = ("optimizer", "lr_config", "runner", "data.train.rare_class_sampling", "uda.imnet", "uda.pseudo", "seed")
        for key in {*published, *image}:
            if key.startswith(same) or key in ("uda.alpha", "data.train.target.image_crop_size"):
                assert image.get(key) == published.get(key), key
    distance = load_config(root / "configs/baselines/cs2dsec_image_fd_b5.py").uda
    assert distance.imnet_feature_dist_lambda == 0.005
    assert distance.imnet_feature_dist_classes == [6, 7, *range(11, 19)]
    assert distance.imnet_feature_dist_scale_min_ratio == 0.75


# ------------------------------------------------------------------------------------------------ lists and runs


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs/experiments").glob("*.py")))
def test_named_lists_can_be_planned(existing, name, tmp_path, monkeypatch):
    """From any working directory."""
    monkeypatch.chdir(tmp_path)
    chosen, seeds = experiments.named_experiments(name)
    runs = experiments.plan_runs(chosen, seeds, root_path=str(existing))
    assert [running.refusal(run.child) for run in runs] == [""] * len(runs)
    assert len({run.child.name for run in runs}) == len(runs) >= 3
    assert not list(tmp_path.iterdir())


def test_every_ablation_and_baseline_is_in_a_list():
    listed = set()
    for name in ("ablation_table", "ablation_table_dark_zurich", "baselines", "beyond"):
        listed |= {Path(experiment.base_config).name for experiment in experiments.named_experiments(name)[0]}
    there = {
        path.name
        for folder in ("ablations", "baselines", "beyond")
        for path in (ROOT / "configs" / folder).glob("*.py")
    }
    assert there <= listed


def test_list_of_ones_own(bases, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = str(bases["cs2dsec"])
    (tmp_path / "mine.py").write_text(
        f"experiments = [dict(base_config={base!r}, name='a', flags=dict(without_isd=True, random_flare='no/where')),"
        f"dict(base_config={base!r}, name='b', cfg_options={{'uda.alpha': 0.9}})]\nseeds = [4, 5]\n"
    )
    chosen, seeds = experiments.named_experiments("mine.py")
    with pytest.raises(ConfigError, match=r"^a_s4: --random_flare needs"):
        experiments.plan_runs(chosen, seeds)
    runs = experiments.plan_runs(chosen[1:] * 2, seeds, "mine", flags={"batch_size": 4})
    names = [run.child.name.split("_", 2)[2][:-6] for run in runs]
    assert names == ["mine_b_s4", "mine_b_s5"] * 2
    config = runs[1].child.resolved
    assert (config.seed, config.uda.alpha, config.data.samples_per_gpu) == (5, 0.9, 4)


@pytest.mark.parametrize(
    ("entry", "given", "named"),
    [
        ({}, {"flags": {"seed": "7"}}, r"--seed \(7\)"),
        ({}, {"cfg_options": {"seed": 7}}, r"--cfg-options seed \(7\)"),
        ({"flags": {"seed": 7}}, {}, r"the flag seed of 'a' \(7\)"),
        ({"cfg_options": {"seed": 7}}, {}, r"the option seed of 'a' \(7\)"),
    ],
)
def test_list_of_seeds_and_a_seed_exclude_each_other(bases, entry, given, named):
    chosen = [experiments.Experiment(str(bases["cs2dsec"]), "a", **entry)]
    with pytest.raises(ConfigError, match=f"exclude each other: seeds 0, 1 and {named}"):
        experiments.plan_runs(chosen, [0, 1], **given)
    (run,) = experiments.plan_runs(chosen, **given)
    assert run.child.resolved.seed == 7


def test_flags_of_the_command_line_win_over_options_of_a_list(bases):
    options = {
        "data.samples_per_gpu": 1,
        "seed": 5,
        "data.train.source.isr_parms.shift_pixel": 5,
        "model.fusion_module": {"type": "AttentionFusion", "in_channels": [64, 128, 320, 512]},
        "uda.alpha": 0.9,
    }
    chosen = [experiments.Experiment(str(bases["cs2dsec"]), "a", {"batch_size": 3}, options)]
    flags = parsed("--batch_size 4 --seed 6 --source_isr_parms 1-10-0.03-0.2-3 --fusion caf")
    (run,) = experiments.plan_runs(chosen, flags=flags)
    config = run.child.resolved
    assert (config.data.samples_per_gpu, config.seed, config.uda.alpha) == (4, 6, 0.9)
    assert config.data.train.source.isr_parms.shift_pixel == 3
    assert config.model.fusion_module == {"type": "ConvertAvgFusion", "in_channels": [64, 128, 320, 512]}
    # options of the command line win over both, and the list keeps its own
    (run,) = experiments.plan_runs(chosen, flags=flags, cfg_options={"data.samples_per_gpu": 8})
    assert run.child.resolved.data.samples_per_gpu == 8
    assert experiments.plan_runs(chosen)[0].child.resolved.data.samples_per_gpu == 1


ENTRY = "dict(base_config='b', name='a')"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiments = []", "holds no list 'experiments'"),
        ("experiments = [dict(name='a')]", r"experiments\[0\] needs base_config and name"),
        ("experiments = [dict(name='a', base_confg='b')]", r"experiments\[0\]: unknown key 'base_confg', did you mean"),
        ("experiment = []", "unknown key 'experiment', did you mean 'experiments'"),
        ("experiments = [None]", r"bad\.py, experiments\[0\] is None; give dict\(base_config=..., name=...\)"),
        (f"experiments = [{ENTRY}]\nseeds = 3", r"bad\.py: seeds is 3; give a list of whole numbers"),
        (f"experiments = [{ENTRY}]\nseeds = [0, '1']", r"bad\.py: seeds is \[0, '1'\]; give a list of whole numbers"),
        (f"experiments = [dict({ENTRY}, flags=['seed'])]", r"experiments\[0\]: flags is \['seed'\]; give a dict"),
        (f"experiments = [dict({ENTRY}, cfg_options='seed')]", r"experiments\[0\]: cfg_options is 'seed'; give a dict"),
        (f"experiments = [dict({ENTRY}, cfg_options={{1: 2}})]", r"experiments\[0\]: cfg_options is \{1: 2\}; give"),
        ("experiments = [dict(base_config=1, name='a')]", r"experiments\[0\]: base_config is 1; give a text"),
    ],
)
def test_bad_lists(tmp_path, text, message):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        experiments.named_experiments(str(tmp_path / "bad.py"))


def test_unknown_list():
    with pytest.raises(ConfigError, match=r"--exp three_seed: there is no .*, did you mean 'three_seeds'\?; known: ab"):
        experiments.named_experiments("three_seed")


def fake_runs(base: Path, root: Path, count: int) -> list:
    return experiments.plan_runs(
        [experiments.Experiment(str(base), f"run{i}") for i in range(count)], root_path=str(root)
    )


# Stands for a training: logs a score, says which GPU it saw; the second run fails.
FAKE = """
import json, os, sys, time
work_dir, number = sys.argv[1], int(sys.argv[2])
print("gpu", os.environ.get("CUDA_VISIBLE_DEVICES"), time.monotonic(), flush=True)
time.sleep(0.3)
if number == 1:
    sys.exit("error: the second run fails")
name = os.path.basename(work_dir)
with open(os.path.join(work_dir, name + ".log.json"), "w") as log:
    log.write(json.dumps({"mode": "val", "iter": 4, "mIoU": 0.1 * number, "mIoU_18": 0.2}) + chr(10))
print("end", time.monotonic())
"""


def fake_command(runs):
    return lambda run: [sys.executable, "-c", FAKE, str(run.child.work_dir), str(runs.index(run))]


def test_failed_run_does_not_stop_the_rest(bases, existing, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "POLL_SECONDS", 0.02)
    runs = fake_runs(bases["cs2dsec"], existing, 3)
    running.run_all(runs, command=fake_command(runs))
    assert [run.state for run in runs] == ["done", "failed", "done"]
    assert runs[1].message == "the second run fails"
    console = Console(width=250)
    assert running.show_summary(runs, console) is False
    shown = capsys.readouterr().out
    assert "2 of 3 runs done" in shown
    row = next(line for line in shown.splitlines() if "run2" in line and "│" in line)
    assert "20.00" in row
    assert str(runs[2].child.work_dir) in row
    assert "the second run fails (see work_dirs" in shown
    # one after another
    times = [(run.child.work_dir / "output.txt").read_text().split() for run in runs]
    assert float(times[0][4]) <= float(times[1][2])
    for run in runs:
        assert run.child.path.is_file()
    # a later start that is killed does not repeat the reason of the first
    again = fake_runs(bases["cs2dsec"], existing, 2)[1:]
    again[0].child = runs[1].child
    running.run_all(again, command=lambda run: [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    assert again[0].message == "exit status -9"


def test_one_run_at_a_time_on_each_gpu(bases, existing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "POLL_SECONDS", 0.02)
    runs = fake_runs(bases["cs2dsec"], existing, 4)
    del runs[1]
    running.run_all(runs, ["0", "3"], command=lambda run: [*fake_command(runs)(run)[:-1], "2"])
    assert [run.state for run in runs] == ["done"] * 3
    said = [(run.child.work_dir / "output.txt").read_text().split() for run in runs]
    assert {words[1] for words in said} == {"0", "3"}
    assert [run.gpu for run in runs] == [words[1] for words in said]
    # the first two side by side
    assert float(said[1][2]) < float(said[0][4])


def test_refused_run_is_reported_and_not_started(bases, existing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "POLL_SECONDS", 0.02)
    runs = fake_runs(bases["cs2dsec"], existing, 1)
    runs += experiments.plan_runs([experiments.Experiment(str(bases["cs2dz"]), "elsewhere")])
    running.run_all(runs, command=fake_command(runs))
    assert [run.state for run in runs] == ["done", "refused"]
    assert "data.train.source.dataset_path" in runs[1].message
    assert not runs[1].child.path.exists()


def test_interrupt_stops_what_runs(bases, existing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = fake_runs(bases["cs2dsec"], existing, 2)
    processes, popen = [], subprocess.Popen

    def start(*arguments, **options):
        processes.append(popen(*arguments, **options))
        return processes[-1]

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running.subprocess, "Popen", start)
    monkeypatch.setattr(running, "_iteration", interrupted)
    with pytest.raises(KeyboardInterrupt):
        running.run_all(runs, command=lambda _: [sys.executable, "-c", "import time; time.sleep(60)"])
    assert [run.state for run in runs] == ["stopped", "not started"]
    assert [process.poll() is None for process in processes] == [False]


# ------------------------------------------------------------------------------------------------ the script


def launch(*arguments: object, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess:
    return run_script("my_run_experiments.py", *arguments, cwd=cwd, expect=expect)


def test_help_shows_every_flag_with_its_keys():
    shown = " ".join(launch("--help", cwd=ROOT).stdout.split())
    for flag in FLAGS:
        assert f"--{flag.name}" in shown
    for text in ("the content map (ICE):", "[uda.lambda_feature_consistency]", "--exp NAME", "--dry-run"):
        assert text in shown


def test_dry_run_says_all_and_writes_nothing(existing, tmp_path):
    arguments = ("--root_path", existing, "--dry_run", "--seeds", "0,1", "--fusion", "caf", "--name", "n")
    shown = launch("--base_config", ROOT / CS2DSEC, ROOT / CS2DZ, *arguments, cwd=tmp_path).stdout
    assert not list(tmp_path.iterdir())
    assert "4/4" in shown
    assert shown.count('model.fusion_module.type = "ConvertAvgFusion"') == 4
    for text in (str(ROOT / CS2DZ), "seed = 1", "work_dirs/local-basic/", "n_cs2dz_image+raw-isr_b5_s1_"):
        assert text in shown
    assert "refused" not in shown
    shown = launch("--base_config", ROOT / CS2DSEC, "--name", "n", "--dry_run", "--debug", cwd=tmp_path).stdout
    assert "_DEBUG_n_" in shown
    assert "would be refused: data.train.source.dataset_path: data/cityscapes/ does not exist" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base_config", "x.py"], "--name"),
        (["--base_config", "x.py", "--exp", "y"], "not allowed with"),
        (["--name", "n"], "--base-config --exp"),
        (["--exp", "three_seeds", "--gpus", "0,0"], "give distinct GPUs"),
        (["--exp", "three_seeds", "--seeds", "0,x"], "give whole numbers"),
        (["--exp", "three_seeds", "--seeds", "0", "--seed", "1"], "--seeds cannot be combined with a seed"),
        (["--exp", "three_seeds", "--seed", "7"], "a list of seeds and a seed exclude each other: seeds 0, 1, 2 and"),
        (["--base_config", "x.py", "--name", "n", "--test_mode", "--debug"], "exclude each other"),
    ],
)
def test_bad_command_lines(tmp_path, arguments, message):
    assert message in launch(*arguments, cwd=tmp_path, expect=2).stderr


def test_failed_runs_give_exit_status_1(tmp_path):
    result = launch("--base_config", ROOT / CS2DSEC, ROOT / CS2DZ, cwd=tmp_path, expect=1)
    assert "0 of 2 runs done" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.slow
def test_two_seeds_trained_and_compared(tmp_path):
    """For true, as short as can be: images alone, one iteration."""
    shutil.copytree(GOLDEN / "mini" / "cityscapes", tmp_path / "data" / "cityscapes")
    shutil.copytree(GOLDEN / "mini" / "DSEC_Night", tmp_path / "data" / "DSEC_Night")
    create_dsec_lists(tmp_path / "data" / "DSEC_Night", tmp_path)
    # one frame to test is enough
    listed = tmp_path / "night_test_dataset_warp.txt"
    listed.write_text(listed.read_text().splitlines()[0] + "\n")
    options = {
        "model.pretrained": "none",
        "model.decode_head.channels": 32,
        "model.decode_head.decoder_params.embed_dims": 32,
        "data.train.rare_class_sampling": "none",
        "data.workers_per_gpu": 0,
        "runner.max_iters": 1,
        "lr_config.warmup_iters": 1,
        "evaluation.interval": 1,
        "checkpoint_config.interval": 0,
    }
    flags = ("--backbone", "mit_b0", "--train_size", "64-64", "--seeds", "0,1", "--gpus", "0,1", "--root_path", ".")
    given = [f"{key}={value}" for key, value in options.items()]
    base = ROOT / "configs/baselines/cs2dsec_image_b5.py"
    result = launch("--base_config", base, "--name", "img", *flags, "--cfg-options", *given, cwd=tmp_path)
    assert "2 of 2 runs done" in result.stdout
    work_dirs = sorted((tmp_path / "work_dirs" / "local-basic").iterdir())
    assert [path.name.split("_", 2)[2][:-6] for path in work_dirs] == ["img_s0", "img_s1"]
    assert "device cpu" in (work_dirs[0] / "output.txt").read_text()
    (row,) = compare([read_run(path) for path in work_dirs])
    assert (row.name, row.seeds, row.output, row.iterations) == ("img", (0, 1), "image", (1, 1))
    for value in row.final["mIoU"]:
        assert f"{value:.2f}" in result.stdout
