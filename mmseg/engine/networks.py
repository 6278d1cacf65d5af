"""Networks of a config for use rather than training. The config's data need not exist."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config

from mmseg.config.class_sets import class_set_of
from mmseg.config.keys import DATA_PATH_KEYS
from mmseg.config.load import check_config, effective
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.uda.segmentors import build_segmentor, check_number_of_classes


def _model_config(config: Config) -> dict[str, Any]:
    cfg = effective(config, for_training=False)
    test_set = cfg["data"].get("test") or {}
    for key in DATA_PATH_KEYS:
        if key.startswith("data.test."):
            test_set.pop(key.removeprefix("data.test."), None)
    check_config(cfg, for_training=False, with_data=False)
    encoders = {key: {**section, "weights": None} for key, section in cfg["model"].items() if _names_weights(section)}
    return {**cfg["model"], **encoders, "pretrained": None}


def _names_weights(section: Any) -> bool:
    return isinstance(section, dict) and "weights" in section


def empty_segmentor(config: Config) -> BaseSegmentor:
    """Segmentor of a config on the CPU whose weights must be loaded before use.

    They are not initialised, which saves time, unless the network has modules from outside of this project, or tensors
    that no checkpoint holds.

    Raises:
        ConfigError: bad config.
    """
    model, classes = _model_config(config), class_set_of(config)
    try:
        with torch.device("meta"):
            segmentor = build_segmentor(model)
    except (RuntimeError, NotImplementedError):  # a constructor that reads the values of a tensor
        segmentor = build_segmentor(model)
        check_number_of_classes(segmentor, classes)
        return segmentor
    check_number_of_classes(segmentor, classes)
    # Modules of others may hold tensors that no checkpoint has, and that their constructors fill.
    own = all(
        type(module).__module__.split(".")[0] in ("mmseg", "torch") and not module._non_persistent_buffers_set
        for module in segmentor.modules()
    )
    return segmentor.to_empty(device="cpu") if own else build_segmentor(model)


def random_segmentor(config: Config) -> BaseSegmentor:
    """Segmentor of a config on the CPU with random weights, always the same.

    Raises:
        ConfigError: bad config.
    """
    model = _model_config(config)
    torch.manual_seed(0)
    return build_segmentor(model)
