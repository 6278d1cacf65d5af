"""Networks of a config for use rather than training. The config's data need not exist."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config

from mmseg.config.keys import DATA_PATH_KEYS
from mmseg.config.load import check_config, effective
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.uda.segmentors import build_segmentor


def _model_config(config: Config) -> dict[str, Any]:
    cfg = effective(config, for_training=False)
    test_set = cfg["data"].get("test") or {}
    for key in DATA_PATH_KEYS:
        if key.startswith("data.test."):
            test_set.pop(key.removeprefix("data.test."), None)
    check_config(cfg, for_training=False)
    encoders = {key: {**section, "weights": None} for key, section in cfg["model"].items() if _names_weights(section)}
    return {**cfg["model"], **encoders, "pretrained": None}


def _names_weights(section: Any) -> bool:
    return isinstance(section, dict) and "weights" in section


def empty_segmentor(config: Config) -> BaseSegmentor:
    """Segmentor of a config on the CPU with uninitialised or random weights, which must be loaded before use.

    Raises:
        ConfigError: bad config.
    """
    model = _model_config(config)
    with torch.device("meta"):
        segmentor = build_segmentor(model)
    if any(module._non_persistent_buffers_set for module in segmentor.modules()):
        # Constructors compute them, and checkpoints do not hold them.
        return build_segmentor(model)
    return segmentor.to_empty(device="cpu")


def random_segmentor(config: Config) -> BaseSegmentor:
    """Segmentor of a config on the CPU with random weights, always the same.

    Raises:
        ConfigError: bad config.
    """
    model = _model_config(config)
    torch.manual_seed(0)
    return build_segmentor(model)
