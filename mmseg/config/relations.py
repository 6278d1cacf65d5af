"""Checks between the values of a config, each of which is in its own range already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmseg.config.components import DATASETS, HEADS, DecoderParams, PredictionMode
from mmseg.config.fields import build
from mmseg.config.run import Component, RunConfig, Schedule
from mmseg.config.section_kinds import check_kinds
from mmseg.config.uda import UDASettings
from mmseg.errors import ConfigError

# (height, width) of a DSEC frame, and of the part of it that a test sees
DSEC_FRAME, DSEC_TEST = (480, 640), (440, 640)

Size = tuple[int, int]


def check_relations(config: Mapping[str, Any], for_training: bool) -> None:
    """Refuse values that contradict each other.

    Args:
        config: an effective config whose values are in their ranges.
        for_training: False checks only what a test reads.

    Raises:
        ConfigError: naming both keys.
    """
    build(PredictionMode, config["model"].get("test_cfg") or {})
    head = config["model"]["decode_head"]
    if HEADS.describes(head):
        build(DecoderParams, head["decoder_params"])
    for where, section in _data_sets(config["data"], for_training):
        _check_sizes(where, section)
    if not for_training:
        return
    check_kinds(config)
    run = RunConfig.from_config(config)
    source, target = (_sample_size(run.data.train.get(name) or {}) for name in ("source", "target"))
    if source and target and source != target:
        raise ConfigError(
            f"source samples are {source}, target samples {target} (height, width): make them equal by "
            "data.train.source.image_crop_size and data.train.target's after_crop_resize_size (DSEC) or "
            "image_crop_size (Dark Zurich, manifests)"
        )
    _check_method(run.uda, target)
    _check_masking(run, target)
    _check_schedule(run.lr_config, run.optimizer.lr)


def _data_sets(data: Mapping[str, Any], for_training: bool) -> Iterator[tuple[str, Component]]:
    named = {"data.test": data.get("test")}
    if for_training:
        named |= {f"data.train.{name}": data["train"].get(name) for name in ("source", "target")}
        named["data.val"] = data.get("val")
    for where, section in named.items():
        if section and section.get("type") in DATASETS.types:
            yield where, section


def _sample_size(section: Component) -> Size | None:
    """(height, width) of a training sample; None for whole frames and where the data set decides."""
    if section.get("type") == "DSECDataset":
        crop = DATASETS.value(section, "crop_size")
        return _pair(DATASETS.value(section, "after_crop_resize_size") or crop) if crop else None
    crop = DATASETS.value(section, "image_crop_size")
    if crop and section.get("type") == "FramesDataset":
        crop = DATASETS.value(section, "crop_resize_size") or crop
    return _pair(crop[::-1]) if crop else None


def _pair(size: Sequence[int]) -> Size:
    return size[0], size[1]


def _check_sizes(where: str, section: Component) -> None:
    """A crop lies within its image, and a shift within the crop."""
    whole: Sequence[int]
    crop: Sequence[int] | None
    if section["type"] == "DSECDataset":
        crop, whole, key = DATASETS.value(section, "crop_size"), DSEC_FRAME, "crop_size"
        inner = crop or DSEC_TEST
    else:
        whole, key = DATASETS.value(section, "image_resize_size")[::-1], "image_crop_size"
        given = DATASETS.value(section, key)
        crop = None if section.get("test_mode") or not given else given[::-1]
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


def _check_method(uda: UDASettings, size: Size | None) -> None:
    if size is None:
        return
    top, bottom = uda.pseudo_weight_ignore_top, uda.pseudo_weight_ignore_bottom
    if top + bottom >= size[0]:
        raise ConfigError(
            f"uda.pseudo_weight_ignore_top is {top} and uda.pseudo_weight_ignore_bottom {bottom}; samples have "
            f"{size[0]} rows, so give less than {size[0]} in all"
        )
    _check_shift("uda.isr_parms", uda.isr_parms, min(size))


def _check_masking(run: RunConfig, size: Size | None) -> None:
    masking = run.uda.masked_pass
    if masking is None:
        return
    masking.check_samples(run.data.samples_per_gpu)
    if size:
        masking.grid(size)


def _check_schedule(schedule: Schedule, rate: float) -> None:
    if schedule.warmup and not (schedule.warmup_iters and schedule.warmup_ratio is not None):
        raise ConfigError("lr_config.warmup='linear' also needs warmup_iters and warmup_ratio")
    if schedule.min_lr > rate:
        raise ConfigError(
            f"lr_config.min_lr is {schedule.min_lr:g}, above optimizer.lr, {rate:g}: the rate would rise; give at "
            f"most {rate:g}"
        )
