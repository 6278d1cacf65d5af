"""Configs: the published ones, legacy keys, checks with clear messages, and paths of other machines."""

import json

import pytest
from helpers.golden_tools import GOLDEN, load_json

from mmseg.apis.arguments import parse_value
from mmseg.config.data_root import set_root
from mmseg.config.load import check_config, dump_config, effective, get_key, load_config, plain
from mmseg.errors import ConfigError
from mmseg.launcher.child import write_child_config

PUBLISHED = "configs/fusion/cs2dsec_image+events_together_b5.py"
PUBLISHED_DZ = "configs/fusion/cs2dz_image+raw-isr_b5.py"
FUSE_BOTH = "configs/fusion/cs2dsec_image+events_together_fuse_both_b5.py"


def with_types(value):
    """Golden JSON with sets and tuples restored."""
    if isinstance(value, dict):
        if set(value) == {"__set__"}:
            return set(value["__set__"])
        if set(value) == {"__tuple__"}:
            return tuple(with_types(v) for v in value["__tuple__"])
        return {k: with_types(v) for k, v in value.items()}
    return [with_types(v) for v in value] if isinstance(value, list) else value


@pytest.fixture
def published(root):
    return load_config(root / PUBLISHED)


@pytest.mark.parametrize(("path", "variant"), [(PUBLISHED, "cs2dsec"), (PUBLISHED_DZ, "cs2dz")])
def test_published_configs_resolve_to_the_published_keys_and_values(root, path, variant):
    assert load_config(root / path).to_dict() == with_types(load_json(f"configs/published_{variant}.json"))


@pytest.mark.parametrize(
    "base",
    [
        "default_runtime",
        "models/daformer_sepaspp_mitb5",
        "datasets/uda_cityscapes_day_to_dsec_night_512x512",
        "datasets/uda_cityscapes_day_to_my_dz_night_512x512",
        "uda/dacs",
        "schedules/adamw",
        "schedules/poly10warm",
    ],
)
def test_bases(root, base):
    path = f"configs/_base_/{base}.py"
    assert load_config(root / path).to_dict() == with_types(load_json("configs/bases.json")[path])


def test_fuse_both_differs_by_its_flag_and_name(root, published):
    fuse_both = load_config(root / FUSE_BOTH).to_dict()
    assert fuse_both["uda"].pop("fuse_both_ice_and_e") is True
    fuse_both["name"] = published["name"]
    assert fuse_both == published.to_dict()


def test_published_work_dir_configs_are_understood():
    """A test does not read the switches of the training, whatever they are."""
    config = load_config(GOLDEN / "configs" / "work_dir_cs2dsec.json")
    config.merge_from_dict(
        {
            "data.test.dataset_txt_path": str(GOLDEN / "c10_dsec_txt" / "night_test_dataset_warp.txt"),
            "uda.isr_no_fusion": True,
            "uda.sky_mask": True,
            "n_gpus": 2,
        }
    )
    check_config(effective(config, for_training=False), for_training=False)
    with pytest.raises(ConfigError, match="n_gpus=2 is not available: a training runs on as many GPUs"):
        effective(config)


@pytest.mark.parametrize(("base", "variant"), [(PUBLISHED, "cs2dsec"), (PUBLISHED_DZ, "cs2dz")])
def test_launcher_child_of_the_reference_resolves_as_published(root, tmp_path, base, variant):
    """A JSON child config of the reference's launcher, over our base."""
    child = load_json(f"configs/launcher_child_{variant}.json")
    child["_base_"] = str(root / base)
    path = tmp_path / "child.json"
    path.write_text(json.dumps(child))
    resolved = plain(load_config(path).to_dict())
    expected = load_json(f"configs/work_dir_{variant}.json")
    for config in (resolved, expected):
        for key in ("data.train.source", "data.train.target", "data.val", "data.test"):
            get_key(config, key)["outputs"].sort()
    assert resolved == expected


def test_our_child_config_is_what_the_reference_runs(root, tmp_path, monkeypatch):
    """Equal to the reference's child in all keys that are read, except name, revision and root."""
    monkeypatch.chdir(tmp_path)
    path = write_child_config(root / PUBLISHED, "cmda_cs2dsec", "/ROOT", {})
    assert path.match("configs/generated/local-basic/*_cmda_cs2dsec_?????.json")
    ours = plain(effective(load_config(path)))
    reference = plain(effective(load_config(GOLDEN / "configs" / "work_dir_cs2dsec.json")))
    assert ours["work_dir"] == f"work_dirs/local-basic/{path.stem}"
    for config in (ours, reference):
        for key in ("name", "work_dir", "git_rev"):
            config.pop(key)
        config["model"]["fusion_isr_module"] = config["model"]["fusion_isr_module"]["type"]
        for key in ("data.train.source", "data.train.target", "data.val", "data.test"):
            get_key(config, key)["outputs"].sort()
    assert differences(reference, ours) == {
        # the reference writes its switches out; off is our default
        "uda.isr_another_fusion": (False, None),
        "uda.without_events": (False, None),
        "uda.without_isd": (False, None),
        "uda.fuse_both_ice_and_e": (False, None),
        "uda.isr_no_fusion": (False, None),
        "uda.lambda_feature_consistency": (-1, None),
        "uda.isr_edge": (False, None),
        "uda.lambda_isr_features": (-1, None),
        "uda.isr_edge_class_weight": (-1, None),
        "data.train.source.cs_isr_data_type": ("day", None),
        "data.train.source.high_resolution_isr": (False, None),
        "data.train.source.isr_parms": ("", None),
        "model.decode_head.decoder_params.half_share_decoder": (False, None),
        **{
            f"data.{part}.{key}": (value, None)
            for part in ("train.target", "val", "test")
            for key, value in (
                ("events_bins_5_avg_1", False),
                ("image_change_range", 1),
            )
        },
        # ours moves every path below the root
        "model.pretrained": ("pretrained/mit_b5.pth", "/ROOT/pretrained/mit_b5.pth"),
        "uda.cyclegan_itrd2en_path": (
            "./pretrained/cityscapes_ICD_to_dsec_EN.pth",
            "/ROOT/pretrained/cityscapes_ICD_to_dsec_EN.pth",
        ),
        "data.train.target.dataset_txt_path": ("./night_dataset_warp.txt", "/ROOT/night_dataset_warp.txt"),
        "data.val.dataset_txt_path": ("./night_test_dataset_warp.txt", "/ROOT/night_test_dataset_warp.txt"),
        "data.test.dataset_txt_path": ("./night_test_dataset_warp.txt", "/ROOT/night_test_dataset_warp.txt"),
        "data.train.source.dataset_path": ("/ROOT/data/cityscapes/", "/ROOT/data/cityscapes"),
        "data.train.source_json_root": ("/ROOT/data/cityscapes/", "/ROOT/data/cityscapes"),
    }


def differences(first: dict, second: dict, prefix: str = "") -> dict:
    found = {}
    for key in first.keys() | second.keys():
        a, b = first.get(key), second.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found[prefix + key] = (a, b)
    return found


@pytest.mark.parametrize("variant", ["work dir", "our config"])
def test_dark_zurich_trains_without_a_generator(root, tmp_path, variant):
    """Also from a published folder: nothing is translated, so the generator's file need not exist."""
    path = GOLDEN / "configs" / "work_dir_cs2dz.json" if variant == "work dir" else root / PUBLISHED_DZ
    config = load_config(path)
    keys = [f"data.{key}.dataset_path" for key in ("train.source", "train.target", "val", "test")]
    config.merge_from_dict({key: str(tmp_path) for key in (*keys, "data.train.source_json_root")})
    config.merge_from_dict({"model.pretrained": None})
    for for_training in (True, False):
        check_config(effective(config, for_training), for_training)
    config.merge_from_dict({"data.val.dataset_path": str(tmp_path / "absent")})
    with pytest.raises(ConfigError, match=r"data\.val\.dataset_path: .*absent does not exist; see data/README\.md"):
        check_config(effective(config), for_training=True)
    config.merge_from_dict({"data.test.dataset_path": "/elsewhere/data/dark_zurich/"})
    (tmp_path / "data" / "dark_zurich").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"data\.test\.dataset_path: .* does not exist; .*--root-path"):
        check_config(effective(config, for_training=False), for_training=False)
    set_root(config, tmp_path)
    check_config(effective(config, for_training=False), for_training=False)


@pytest.mark.parametrize("root_path", ["/ROOT", "/ROOT/"])
def test_root_path_with_or_without_slash(published, root_path):
    set_root(published, root_path)
    assert published.data.train.source.dataset_path == "/ROOT/data/cityscapes"
    assert published.model.pretrained == "/ROOT/pretrained/mit_b5.pth"
    assert published.data.test.dataset_txt_path == "/ROOT/night_test_dataset_warp.txt"


def test_root_path_replaces_the_root_of_another_machine(published):
    published.merge_from_dict({"data.train.source.dataset_path": "/home/data/someone/CMDA/data/cityscapes/"})
    set_root(published, "here")
    assert published.data.train.source.dataset_path == "here/data/cityscapes"


def test_root_path_of_our_own_runs(published, tmp_path):
    """Absolute list paths of another machine, and a disk named data."""
    for there in ("/home/other/CMDA", "/data/user/CMDA"):
        config = published.copy()
        config.merge_from_dict({"data.test.dataset_txt_path": f"{there}/night_test_dataset_warp.txt"})
        set_root(config, tmp_path)
        assert config.data.test.dataset_txt_path == str(tmp_path / "night_test_dataset_warp.txt")
    (tmp_path / "data" / "cityscapes").mkdir(parents=True)
    published.merge_from_dict({"data.train.source.dataset_path": "/data/user/CMDA/data/cityscapes/"})
    set_root(published, tmp_path)
    assert published.data.train.source.dataset_path == str(tmp_path / "data" / "cityscapes")


def test_paths_given_by_hand_stay(published, tmp_path):
    mine = tmp_path / "data" / "mine.txt"
    mine.parent.mkdir()
    mine.touch()
    options = {"data.test.dataset_txt_path": str(mine)}
    published.merge_from_dict(options)
    set_root(published, "/ROOT", options)
    assert published.data.test.dataset_txt_path == str(mine)


def test_fuse_both_keeps_its_module(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(write_child_config(root / FUSE_BOTH, "n", None, {}))
    assert config.model.fusion_isr_module.type == "AttentionFusion"
    config = load_config(write_child_config(root / PUBLISHED, "n", None, {"uda.fuse_both_ice_and_e": True}))
    assert config.model.fusion_isr_module.type == "AttentionFusion"
    assert config.uda.fuse_both_ice_and_e is True


@pytest.mark.parametrize(
    "name",
    [
        *("source_only", "image_only", "cmda", "cmda_without_ice", "cmda_without_events"),
        *("cmda_mic", "cmda_crossmodal_mic"),
    ],
)
def test_toy_city_configs_hold_known_keys(root, tmp_path, name):
    config = load_config(root / f"configs/demo/{name}_toy_city.py")
    assert config.uda.get("source_only", False) is (name == "source_only")
    for key in ("data.train.target.dataset_txt_path", "data.val.dataset_txt_path"):
        config.merge_from_dict({key: str(tmp_path)})
    config.merge_from_dict(
        {"data.train.source.dataset_path": str(tmp_path), "data.train.source_json_root": str(tmp_path)}
    )
    check_config(effective(config), for_training=True)


def test_bad_experiment_name(root):
    with pytest.raises(ConfigError, match="--name 'a/b' cannot be a file name"):
        write_child_config(root / PUBLISHED, "a/b", None, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uda.alpa": 0.9}, "unknown config key 'uda.alpa', did you mean 'alpha'"),
        ({"seeds": 1}, "unknown config key 'seeds', did you mean 'seed'"),
        ({"data.train.target.crop_sise": 1}, "unknown config key 'data.train.target.crop_sise', did you mean"),
        ({"optimizer.weight_dekay": 1}, "did you mean 'weight_decay'"),
        ({"model.decode_head.chanels": 1}, "did you mean 'channels'"),
        (
            {"model.backbone_image.type": "mit_b6"},
            "model.backbone_image.type is 'mit_b6', which is not a backbone",
        ),
        (
            {"model.fusion_module.type": "AtentionFusion"},
            "not a fusion module, did you mean 'AttentionFusion'",
        ),
        ({"data.train.target.type": "DSEC"}, "data.train.target.type is 'DSEC', which is not a dataset"),
        ({"model.decode_head.decoder_params.share_decodr": True}, "did you mean 'share_decoder'"),
        ({"uda.forward_cfg.loss_weights": {}}, "did you mean 'loss_weight'"),
        ({"optimizer.paramwise_cfg.custom_keys.head.lr_mul": 3}, "did you mean 'lr_mult'"),
        ({"runner.type": "EpochBasedRunner"}, "runner.type='EpochBasedRunner' is not available"),
        ({"norm_cfg.type": "SyncBN"}, "norm_cfg.type='SyncBN' is not available"),
        ({"runner.max_iters": 0}, "runner.max_iters is 0; give a whole number of at least 1"),
        ({"seed": -1}, "seed is -1; give a whole number of at least 0"),
        ({"log_level": "LOUD"}, "log_level='LOUD' is not available"),
    ],
)
def test_mistakes_are_named(published, options, message):
    published.merge_from_dict(options)
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        check_config(effective(published), for_training=True)


def test_switches_that_are_not_there_are_refused(published):
    published.merge_from_dict({"uda.isr_mix_aug": True})
    with pytest.raises(ConfigError, match=r"uda\.isr_mix_aug=True is not available"):
        effective(published)


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("data.train.source.dataset_path", r"data/README\.md"),
        ("data.train.source_json_root", r"tools/convert_datasets/cityscapes\.py"),
        ("data.train.target.dataset_txt_path", r"create_dsec_dataset_txt\.py"),
        ("model.pretrained", r"docs/weights\.md"),
        ("uda.cyclegan_itrd2en_path", r"docs/weights\.md"),
    ],
)
def test_missing_files_are_named(published, tmp_path, key, remedy):
    for existing in (
        "data.train.source.dataset_path",
        "data.train.source_json_root",
        "data.train.target.dataset_txt_path",
        "data.val.dataset_txt_path",
        "model.pretrained",
        "uda.cyclegan_itrd2en_path",
    ):
        published.merge_from_dict({existing: str(tmp_path)})
    check_config(effective(published), for_training=True)
    published.merge_from_dict({key: str(tmp_path / "absent")})
    with pytest.raises(ConfigError, match=rf"{key}: .*absent does not exist; .*{remedy}"):
        check_config(effective(published), for_training=True)


def test_missing_and_broken_config_files(tmp_path, root):
    with pytest.raises(ConfigError, match=r"together_b5\.pi does not exist, did you mean"):
        load_config(root / "configs/fusion/cs2dsec_image+events_together_b5.pi")
    orphan = tmp_path / "orphan.py"
    orphan.write_text('_base_ = ["./absent.py"]\n')
    with pytest.raises(ConfigError, match=r"orphan\.py: a file that its _base_ names does not exist.*absent\.py"):
        load_config(orphan)
    broken = tmp_path / "broken.py"
    broken.write_text("model = dict(\n")
    with pytest.raises(ConfigError, match=r"broken\.py cannot be read as a config"):
        load_config(broken)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(ConfigError, match=r"broken\.json cannot be read as a config"):
        load_config(broken)


def test_dumped_config_loads_again(published, tmp_path):
    path = tmp_path / "copy.json"
    path.write_text(dump_config(published))
    assert plain(load_config(path).to_dict()) == plain(published.to_dict())


WANDB = {"type": "WandbLoggerHook", "init_kwargs": {"tags": ("a",)}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("true", True),
        ("None", None),
        ("(128,128)", (128, 128)),
        ("[1, 2]", [1, 2]),
        ("mit_b1", "mit_b1"),
        ("", ""),
        ("./data/x+y.txt", "./data/x+y.txt"),
        ("[dict(type='WandbLoggerHook', init_kwargs=dict(tags=('a',)))]", [WANDB]),
        ("dict()", {}),
        # no literals
        ("dict([1])", "dict([1])"),
        ("dict(a=1, a=2)", "dict(a=1, a=2)"),
        ("dict(**{'a': 1})", "dict(**{'a': 1})"),
        ("dict(a=open('x'))", "dict(a=open('x'))"),
        ("list(a=1)", "list(a=1)"),
        ("dict(" * 9999, "dict(" * 9999),
    ],
)
def test_option_values(text, value):
    assert parse_value(text) == value
