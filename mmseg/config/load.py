"""Checks of a config before anything slow is built.

:mod:`mmseg.config.files` reads configs, :mod:`mmseg.config.keys` is the table of their keys. Keys of older configs that
nothing reads are dropped in :func:`effective`, and nowhere else.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from mmseg.config.arguments import arguments_of
from mmseg.config.class_sets import use_class_set
from mmseg.config.dotted import Loaded
from mmseg.config.dotted import flat as flat
from mmseg.config.dotted import get_key as get_key
from mmseg.config.fields import section_of
from mmseg.config.files import load_config as load_config
from mmseg.config.keys import CONFIG, EVAL_CONFIG
from mmseg.config.kinds import REQUIRED
from mmseg.config.named_files import check_files
from mmseg.config.relations import check_relations
from mmseg.config.run import EvalData
from mmseg.config.sections import check_complete, drop_unread
from mmseg.errors import ConfigError, did_you_mean
from mmseg.registry import HEADS


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
    """The resolved config that :func:`dump_config` wrote as text."""
    return Config(json.loads(text))


def check_values(config: Loaded, for_training: bool = True) -> None:
    """Check the values of a config that may still lack some, before anything reads them.

    Args:
        for_training: False checks only what a test reads.

    Raises:
        ConfigError: an unknown key or a value out of its key's range. One line that names key, value and range.
    """
    table = CONFIG if for_training else EVAL_CONFIG
    table.check("", _read_part(config, for_training))


def effective(config: Loaded, for_training: bool = True) -> dict[str, Any]:
    """The part of a config that is read, as a plain dictionary whose values are all in their ranges.

    What follows from its class set is filled in, see :func:`mmseg.config.class_sets.use_class_set`.

    Args:
        for_training: False keeps only what a test reads.

    Raises:
        ConfigError: as :func:`check_values`, or a key without default is missing.
    """
    table = CONFIG if for_training else EVAL_CONFIG
    cfg = _read_part(config, for_training)
    table.check("", cfg)
    check_complete(table, cfg)
    cfg = drop_unread(table, cfg)
    use_class_set(cfg, _takes_number(cfg["model"].get("decode_head") or {}))
    return cfg


def _takes_number(head: Mapping[str, Any]) -> bool:
    """Whether a head takes its number of classes as an argument. Heads of this project do, and are not imported."""
    component = HEADS.module_dict.get(head.get("type", ""))
    return component is None or "num_classes" in arguments_of(component)


def _read_part(config: Loaded, for_training: bool) -> dict[str, Any]:
    """Copy of what a training or a test reads."""
    cfg = copy.deepcopy(config.to_dict())
    if for_training:
        return cfg
    cfg = {key: value for key, value in cfg.items() if key in EVAL_CONFIG.keys}
    if isinstance(cfg.get("data"), dict):
        read = section_of(EvalData).keys
        cfg["data"] = {key: value for key, value in cfg["data"].items() if key in read}
    return cfg


def check_config(config: Mapping[str, Any], for_training: bool, with_data: bool = True) -> None:
    """Check an effective config: the type of every component, values that belong together, every file.

    Args:
        for_training: False checks only what a test reads.
        with_data: False accepts a test set that lacks keys, as it is not built.

    Raises:
        ConfigError: naming the key and the remedy.
    """
    for section, cfg, registry in _components(config, for_training):
        _check_component(section, cfg, registry, may_lack=section == "data.test" and not with_data)
    check_relations(config, for_training)
    check_files(config, for_training)


def _check_keys(section: Mapping[str, Any], known: Iterable[str], name: str) -> None:
    known = set(known)
    for key in section:
        if key not in known:
            raise ConfigError(f"unknown config key {f'{name}.{key}'!r}{did_you_mean(key, known)}")


def _components(config: Mapping[str, Any], for_training: bool) -> Iterator[tuple[str, Mapping[str, Any], Registry]]:
    """Every part of the config that names a component by ``type``."""
    from mmseg import registry as r

    model, data = config["model"], config["data"]
    yield "model", model, r.SEGMENTORS
    for key in ("backbone", "backbone_image", "backbone_events"):
        if key in model:
            yield f"model.{key}", model[key], r.BACKBONES
    if "fusion_module" in model:
        yield "model.fusion_module", model["fusion_module"], r.FUSION_MODULES
    second = model.get("fusion_isr_module")
    # An empty type says that the module is not built.
    if second and second.get("type") != "":
        yield "model.fusion_isr_module", second, r.FUSION_MODULES
    head = model.get("decode_head") or {}
    yield "model.decode_head", head, r.HEADS
    if "loss_decode" in head:
        yield "model.decode_head.loss_decode", head["loss_decode"], r.LOSSES
    if not for_training:
        yield "data.test", data.get("test", {}), r.DATASETS
        return
    yield "data.train", data["train"], r.DATASETS
    for key in ("source", "target"):
        yield f"data.train.{key}", data["train"].get(key, {}), r.DATASETS
    if data.get("val"):
        yield "data.val", data["val"], r.DATASETS
    yield "uda", config["uda"], r.UDA


def _check_component(section: str, cfg: Mapping[str, Any], registry: Registry, may_lack: bool) -> None:
    kind = cfg.get("type") if isinstance(cfg, Mapping) else None
    if kind is None:
        raise ConfigError(f"{section} has no 'type'; name one of its {registry.name}s")
    # get() would also import a module of that name
    registry.import_from_location()
    component = registry.module_dict.get(kind)
    if component is None:
        known = sorted(registry.module_dict)
        raise ConfigError(
            f"{section}.type is {kind!r}, which is not a {registry.name}{did_you_mean(kind, known)}; "
            f"known: {', '.join(known)}"
        )
    arguments = arguments_of(component)
    _check_keys(cfg, arguments.keys() | {"type"}, section)
    lacking = [key for key, default in arguments.items() if default is REQUIRED and key not in cfg]
    if lacking and not may_lack:
        raise ConfigError(f"{section} lacks {', '.join(lacking)}, which {kind} needs")
    check = getattr(component, "check_config", None)
    if check is not None:
        check(section, cfg)
