"""Checking configs, before anything slow is built.

:mod:`mmseg.config.files` reads them, :mod:`mmseg.config.keys` is the table of their keys. Keys that older configs carry
and nothing reads are dropped here, in :func:`effective`, and nowhere else.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from mmseg.config.dotted import flat as flat
from mmseg.config.dotted import get_key as get_key
from mmseg.config.files import load_config as load_config
from mmseg.config.files import parse_config as parse_config
from mmseg.config.keys import ANCHORS, CONFIG, DATA_PATH_KEYS, LIST_SECTIONS, TEST_CONFIG
from mmseg.config.relations import check_relations
from mmseg.config.sections import check_complete, drop_unread
from mmseg.errors import ConfigError, address_remedy, did_you_mean


def plain(value: Any) -> Any:
    """Copy a config into JSON types: tuples become lists, sets sorted lists."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(v) for v in value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def dump_config(config: Config) -> str:
    """The resolved config as JSON text."""
    return json.dumps(plain(config.to_dict()), indent=1) + "\n"


def config_of(text: str) -> Config:
    """The resolved config that :func:`dump_config` made a text of."""
    return Config(json.loads(text))


def check_values(config: Config, for_training: bool = True) -> None:
    """Check the values of a config that may still lack some, before anything reads them.

    Args:
        for_training: False checks only what a test reads.

    Raises:
        ConfigError: a value that its key does not take, or an unknown key. One line that names key, value and range.
    """
    table = CONFIG if for_training else TEST_CONFIG
    table.check("", _read_part(config, for_training))


def effective(config: Config, for_training: bool = True) -> dict[str, Any]:
    """The part of a config that is read, as a plain dictionary; every value of it is of its kind and in its range.

    Args:
        for_training: False keeps only what a test reads.

    Raises:
        ConfigError: as :func:`check_values`, or a key without default is missing.
    """
    table = CONFIG if for_training else TEST_CONFIG
    cfg = _read_part(config, for_training)
    table.check("", cfg)
    check_complete(table, cfg)
    return drop_unread(table, cfg)


def _read_part(config: Config, for_training: bool) -> dict[str, Any]:
    """Copy of what a training or a test reads."""
    cfg = copy.deepcopy(config.to_dict())
    if for_training:
        return cfg
    cfg = {key: value for key, value in cfg.items() if key in TEST_CONFIG.keys}
    if isinstance(cfg.get("data"), dict):
        read = TEST_CONFIG.keys["data"].kind.keys
        cfg["data"] = {key: value for key, value in cfg["data"].items() if key in read}
    return cfg


def set_root(config: Config, root: str | Path, options: Mapping[str, Any] | None = None) -> None:
    """Point the paths of data and weights below ``root``, in place.

    A path of another machine is cut at its folder ``data`` or ``pretrained``, a list at its file name; other relative
    paths are taken relative to ``root``. What exists is preferred. A path among ``options`` was given by the user of
    this machine: it moves only where it does not exist as it stands. What a list names is looked for below ``root``
    too.
    """
    for key in DATA_PATH_KEYS:
        value = get_key(config, key)
        if not isinstance(value, str) or not value or (key in (options or {}) and Path(value).exists()):
            continue
        candidates = _rooted(value, Path(root), is_list=key.endswith("_txt_path"))
        existing = [path for path in (*candidates, Path(value)) if path.exists()]
        config.merge_from_dict({key: str((existing or candidates or [Path(value)])[0])})
    for section in LIST_SECTIONS:
        key, path = f"{section}.root_path", get_key(config, f"{section}.dataset_txt_path")
        # A list looks below its own folder by itself.
        if path and key not in (options or {}) and (get_key(config, key) or Path(path).parent != Path(root)):
            config.merge_from_dict({key: str(root)})


def _rooted(value: str, root: Path, is_list: bool) -> list[Path]:
    """Places below ``root`` where a path may be meant, the likeliest first."""
    parts = PurePosixPath(value).parts
    anchored = [root.joinpath(*parts[i:]) for i, part in enumerate(parts) if part in ANCHORS]
    by_name = [root / parts[-1]] if is_list else []
    relative = [] if Path(value).is_absolute() else [root / value]
    return [*reversed(anchored), *by_name, *relative] if not is_list else [*by_name, *reversed(anchored), *relative]


def check_config(config: Mapping[str, Any], for_training: bool) -> None:
    """Check an effective config: every key, every component type, every file.

    Raises:
        ConfigError: naming the key and the remedy.
    """
    for section, cfg, registry in _components(config, for_training):
        _check_component(section, cfg, registry)
    check_relations(config, for_training)
    if for_training:
        _check_method(config)
    _check_files(config, for_training)


def _check_keys(section: Mapping[str, Any], known: Iterable[str], name: str) -> None:
    known = set(known)
    for key in section:
        if key not in known:
            where = f"{name}.{key}" if name else key
            raise ConfigError(f"unknown config key {where!r}{did_you_mean(key, known)}")


def _components(config: Mapping[str, Any], for_training: bool) -> Iterator[tuple[str, Mapping[str, Any], Registry]]:
    """Every part of the config that names a component by ``type``."""
    from mmseg import registry as r

    yield "model", config["model"], r.SEGMENTORS
    for key in ("backbone", "backbone_image", "backbone_events"):
        if key in config["model"]:
            yield f"model.{key}", config["model"][key], r.BACKBONES
    if "fusion_module" in config["model"]:
        yield "model.fusion_module", config["model"]["fusion_module"], r.FUSION_MODULES
    second = config["model"].get("fusion_isr_module")
    # An empty type says that the module is not built.
    if second and second.get("type") != "":
        yield "model.fusion_isr_module", second, r.FUSION_MODULES
    head = config["model"].get("decode_head") or {}
    yield "model.decode_head", head, r.HEADS
    if "loss_decode" in head:
        yield "model.decode_head.loss_decode", head["loss_decode"], r.LOSSES
    data = config["data"]
    if not for_training:
        yield "data.test", data.get("test", {}), r.DATASETS
        return
    yield "data.train", data.get("train", {}), r.DATASETS
    for key in ("source", "target"):
        yield f"data.train.{key}", data["train"].get(key, {}), r.DATASETS
    if data.get("val"):
        yield "data.val", data["val"], r.DATASETS
    yield "uda", config["uda"], r.UDA


def component_keys(component: type) -> set[str]:
    """Config keys that a component takes: the fields of its settings, or its constructor's arguments."""
    settings = getattr(component, "settings_class", None)
    if settings is not None:
        return {field.name for field in fields(settings)}
    keys: set[str] = set()
    for cls in inspect.getmro(component):
        if "__init__" not in vars(cls):
            continue
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        keys |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
        # Only **kwargs lets the keys of the next constructor through.
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return keys


def _check_component(section: str, cfg: Mapping[str, Any], registry: Registry) -> None:
    kind = cfg.get("type") if isinstance(cfg, Mapping) else None
    if kind is None:
        raise ConfigError(f"{section} has no 'type'; name one of its {registry.name}s")
    # get() would also import a module of that name
    registry.import_from_location()
    component = registry.module_dict.get(kind)
    if component is None:
        known = sorted(registry.module_dict)
        raise ConfigError(
            f"{section}.type is {kind!r}, which is no {registry.name}{did_you_mean(kind, known)}; "
            f"known: {', '.join(known)}"
        )
    _check_keys(cfg, component_keys(component) | {"type"}, section)


def _check_method(config: Mapping[str, Any]) -> None:
    """Refuse sections that contradict each other."""
    keys = ("uda.train_type", "model.train_type", "model.decode_head.decoder_params.train_type")
    values = {key: get_key(config, key) for key in keys}
    given = {key: value for key, value in values.items() if value is not None}
    if len(set(given.values())) > 1:
        listed = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise ConfigError(f"the train types of the config differ: {listed}; set them to one value")
    uda = config["uda"]
    if uses_isr_fusion(uda) and not get_key(config, "model.fusion_isr_module.type"):
        raise ConfigError(
            "uda.fuse_both_ice_and_e and uda.isr_another_fusion need a second fusion module; set "
            "model.fusion_isr_module.type, e.g. to 'AttentionFusion'"
        )
    if (uda.get("imnet_feature_dist_lambda") or 0) > 0 and not get_key(config, "model.pretrained"):
        raise ConfigError(
            "uda.imnet_feature_dist_lambda compares with ImageNet features, but model.pretrained is None; give the "
            "ImageNet weights or set the lambda to 0"
        )


def uses_isr_fusion(uda: Mapping[str, Any]) -> bool:
    """Whether a training fuses image and content map by a module of their own."""
    return bool(uda.get("fuse_both_ice_and_e") or uda.get("isr_another_fusion"))


def _check_files(config: Mapping[str, Any], for_training: bool) -> None:
    """Refuse paths that do not exist; datasets check what lies below them."""
    pretrained = "pretrained/README.md says where to get it"
    remedies = {
        "data.test.dataset_txt_path": "create it with create_dsec_dataset_txt.py, or give --root_path",
        "data.test.dataset_path": "see data/README.md, or give --root_path",
    }
    if for_training:
        remedies = {
            "data.train.source.dataset_path": "see data/README.md",
            "data.train.source_json_root": "run tools/convert_datasets/cityscapes.py on the Cityscapes folder",
            "data.train.target.dataset_path": "see data/README.md",
            "data.train.target.dataset_txt_path": "create it with create_dsec_dataset_txt.py",
            "data.val.dataset_path": "see data/README.md",
            "data.val.dataset_txt_path": "create it with create_dsec_dataset_txt.py",
            "model.pretrained": f"{pretrained}; model.pretrained=None starts from random weights",
            "uda.cyclegan_itrd2en_path": f"{pretrained}; '' takes the image change itself as day events",
            "load_from": "give a checkpoint that exists, or None",
        }
        if "img_time_res" not in (get_key(config, "data.train.source.outputs") or ()):
            # Without image changes there is nothing to translate, and nothing loads the generator.
            del remedies["uda.cyclegan_itrd2en_path"]
    for key, remedy in remedies.items():
        value = get_key(config, key)
        if value and not Path(value).exists():
            raise ConfigError(f"{key}: {value} does not exist; {address_remedy(value) or remedy}")
