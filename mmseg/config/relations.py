"""Relations between the values of a config, each of which is in its own range already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmseg.config.components import CITYSCAPES, DARK_ZURICH, DATASETS, PredictionMode
from mmseg.config.fields import build
from mmseg.config.kinds import Key
from mmseg.config.run import OPTIMIZER_OPTIONS
from mmseg.errors import ConfigError

# (height, width) of a DSEC frame, and of what a test sees of it
DSEC_FRAME, DSEC_TEST = (480, 640), (440, 640)
# keys that are missing from a data set's table are read as None
_NO_KEYS: dict[str, Key] = {}


def check_relations(config: Mapping[str, Any], for_training: bool) -> None:
    """Refuse values that contradict each other.

    Args:
        config: an effective config whose values are in their ranges.
        for_training: False checks only what a test reads.

    Raises:
        ConfigError: naming both keys.
    """
    data = config.get("data") or {}
    build(PredictionMode, config["model"].get("test_cfg") or {})
    for where, section in _data_sets(data, for_training):
        _check_sizes(where, section)
    if not for_training:
        return
    train = data.get("train") or {}
    sizes = {name: _sample_size(train.get(name) or {}) for name in ("source", "target")}
    if None not in sizes.values() and sizes["source"] != sizes["target"]:
        raise ConfigError(
            f"source samples are {sizes['source']}, target samples {sizes['target']} (height, width): make "
            "data.train.source.image_crop_size and data.train.target's after_crop_resize_size (DSEC) or "
            "image_crop_size (Dark Zurich) alike"
        )
    _check_method(config.get("uda") or {}, sizes["target"])
    _check_optimizer(config["optimizer"])
    _check_schedule(config["optimizer"], config["lr_config"])


def _data_sets(data: Mapping[str, Any], for_training: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    train = data.get("train") or {}
    named = {"data.test": data.get("test")}
    if for_training:
        named |= {f"data.train.{name}": train.get(name) for name in ("source", "target")}
        named["data.val"] = data.get("val")
    for where, section in named.items():
        if section and section.get("type") in DATASETS.types:
            yield where, section


def _value(section: Mapping[str, Any], key: str) -> Any:
    """A value of a data set, or its default."""
    table = DATASETS.types.get(section.get("type"), _NO_KEYS)
    value = section.get(key)
    return table[key].default if value is None and key in table else value


def _sample_size(section: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) of a training sample; None where another data set decides on it, or it is a whole frame."""
    if section.get("type") == "DSECDataset":
        size = _value(section, "after_crop_resize_size") or _value(section, "crop_size")
        return tuple(size) if size and _value(section, "crop_size") else None
    size = _value(section, "image_crop_size")
    return tuple(size)[::-1] if size else None


def _check_sizes(where: str, section: Mapping[str, Any]) -> None:
    """A crop lies within its image, and a shift within the crop."""
    test_mode = bool(section.get("test_mode"))
    if section["type"] == "DSECDataset":
        crop, whole, key = _value(section, "crop_size"), DSEC_FRAME, "crop_size"
        inner = crop or DSEC_TEST
    else:
        table = CITYSCAPES if section["type"] == "CityscapesICDataset" else DARK_ZURICH
        whole = (section.get("image_resize_size") or table["image_resize_size"].default)[::-1]
        crop, key = (section.get("image_crop_size") or table["image_crop_size"].default)[::-1], "image_crop_size"
        crop = None if test_mode else crop
        inner = crop or whole
    if crop and (crop[0] > whole[0] or crop[1] > whole[1]):
        raise ConfigError(
            f"{where}.{key}: a crop of {crop[1]}x{crop[0]} does not fit into {whole[1]}x{whole[0]} pixels; give a "
            "smaller one"
        )
    _check_shift(f"{where}.isr_parms", section.get("isr_parms"), min(inner))


def _check_shift(where: str, params: Any, side: int) -> None:
    if params and params["shift_pixel"] >= side:
        raise ConfigError(
            f"{where}.shift_pixel is {params['shift_pixel']}; give less than the {side} pixels of the image's side"
        )


def _check_method(uda: Mapping[str, Any], size: tuple[int, int] | None) -> None:
    if size is None:
        return
    top, bottom = uda.get("pseudo_weight_ignore_top", 0), uda.get("pseudo_weight_ignore_bottom", 0)
    if top + bottom >= size[0]:
        raise ConfigError(
            f"uda.pseudo_weight_ignore_top is {top} and uda.pseudo_weight_ignore_bottom {bottom}; samples have "
            f"{size[0]} rows, so give less than {size[0]} in all"
        )
    _check_shift("uda.isr_parms", uda.get("isr_parms"), min(size))


def _check_optimizer(optimizer: Mapping[str, Any]) -> None:
    """An optimiser is given its own settings only."""
    kind = optimizer["type"]
    others = {name for names in OPTIMIZER_OPTIONS.values() for name in names} - set(OPTIMIZER_OPTIONS[kind])
    unknown = sorted(others & optimizer.keys())
    if unknown:
        raise ConfigError(f"optimizer.{unknown[0]} is not a setting of {kind}; leave it out")


def _check_schedule(optimizer: Mapping[str, Any], schedule: Mapping[str, Any]) -> None:
    if schedule.get("warmup") and not (schedule.get("warmup_iters") and schedule.get("warmup_ratio") is not None):
        raise ConfigError("lr_config.warmup='linear' also needs warmup_iters and warmup_ratio")
    rate, least = optimizer.get("lr", 0.0), schedule.get("min_lr", 0.0)
    if least > rate:
        raise ConfigError(
            f"lr_config.min_lr is {least:g}, above optimizer.lr, {rate:g}: the rate would rise; give at most {rate:g}"
        )
