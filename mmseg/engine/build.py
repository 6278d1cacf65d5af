"""Checks a training config and builds its datasets and method."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config

from mmseg.config.load import check_config, effective
from mmseg.config.run import RunConfig
from mmseg.datasets.base import EvaluationSet, SourceSet, TrainingSet
from mmseg.datasets.cache import Cacheable
from mmseg.datasets.frames import FramesDataset
from mmseg.datasets.labels import build_dataset
from mmseg.datasets.uda import UDADataset
from mmseg.engine.checkpoint import load_segmentor
from mmseg.engine.loggers import check_hooks
from mmseg.errors import ConfigError
from mmseg.registry import DATASETS, UDA, check_contract, members
from mmseg.uda.cmda import DACS
from mmseg.uda.segmentors import build_segmentor, check_number_of_classes
from mmseg.uda.streams import StreamPlan, check_method, stream_plan


def check_training(config: Config) -> RunConfig:
    """Check everything that a training reads from a config, before data or model are touched.

    Raises:
        ConfigError: one line that names the key, its value and what it takes.
    """
    return check_effective(effective(config))


def check_effective(cfg: dict[str, Any]) -> RunConfig:
    """:func:`check_training` of an effective config."""
    check_method(cfg)
    check_config(cfg, for_training=True)
    run = RunConfig.from_config(cfg)
    check_hooks(run.log_config.hooks)
    stream_plan(run.uda)
    return run


def build_datasets(run: RunConfig) -> tuple[UDADataset, EvaluationSet | None]:
    """Training and validation set; the latter is None if the config has none.

    Raises:
        CMDAError: missing or unusable files, or samples that do not fit the training step.
    """
    cfg = dict(run.data.train)
    classes = run.class_set
    source, target = (build_dataset(cfg.pop(key), classes) for key in ("source", "target"))
    sampled_by_class = cfg.get("rare_class_sampling") is not None
    check_contract(source, SourceSet if sampled_by_class else TrainingSet, "data.train.source", members(Cacheable))
    check_contract(target, TrainingSet, "data.train.target", members(Cacheable))
    train = DATASETS.build({**cfg, "source": source, "target": target, "seed": run.seed})
    check_samples(stream_plan(run.uda), train)
    val = build_dataset(run.data.val, classes) if run.data.val else None
    if val is not None:
        check_contract(val, EvaluationSet, "data.val")
    for part in () if run.data.skips_bad_samples else (val, source):
        if isinstance(part, FramesDataset):
            part.check_labels()
    return train, val


def build_method(run: RunConfig) -> DACS:
    """Segmentor and training method on the CPU, with the weights that the config names."""
    torch.manual_seed(run.seed)
    method = UDA.build({**vars(run.uda), "model": build_segmentor(run.model)})
    check_number_of_classes(method.model, run.class_set)
    method.use_class_set(run.class_set)
    if run.load_from:
        # After the method is built: its ImageNet encoder is a copy of what model.pretrained gave.
        load_segmentor(method.model, run.load_from, classes=run.class_set)
        method.ema_model.load_state_dict(method.model.state_dict())
    return method


def check_samples(plan: StreamPlan, dataset: UDADataset) -> None:
    """Check that samples hold what the training step reads, and that source and target have the same size.

    Raises:
        ConfigError: naming the keys.
    """
    needed = {"source": {*plan.source_keys.values(), "label"}, "target": {*plan.target_keys.values()}}
    for name, keys in needed.items():
        missing = sorted(keys - dataset.domains[name].outputs)
        if missing:
            raise ConfigError(f"data.train.{name}.outputs lacks {', '.join(missing)}, which the training step reads")
    source, target = dataset.source.sample_size, dataset.target.sample_size
    if source != target:
        raise ConfigError(
            f"source samples are {source}, target samples {target} (height, width): set "
            "data.train.source.image_crop_size and data.train.target's after_crop_resize_size (DSEC) or "
            "image_crop_size (Dark Zurich) to the same size"
        )
