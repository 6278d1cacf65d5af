"""The files and folders that a config names: whether they exist, and what to do if not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmseg.config.components import TIMM_WEIGHTS
from mmseg.config.dotted import Loaded, get_key
from mmseg.errors import CheckpointError, ConfigError, address_remedy, did_you_mean
from mmseg.weights.table import known_weights, reference_of

_PRETRAINED = "docs/weights.md says where to get it"
_MAKE_LIST = "create it with create_dsec_dataset_txt.py"
_MAKE_MANIFEST = "create it with tools/make_manifest.py"
_WEIGHTS = {
    "model.pretrained": f"{_PRETRAINED}; model.pretrained=None starts from random weights",
    **{
        f"model.{encoder}.weights": "give a file of this model of timm, an address, or None for random weights"
        for encoder in ("backbone", "backbone_image", "backbone_events")
    },
    "uda.cyclegan_itrd2en_path": f"{_PRETRAINED}; '' uses the image change itself as day events",
    "load_from": "give a checkpoint that exists, an address, or None",
}
_TRAINING_DATA = {
    "data.train.source.dataset_path": "see data/README.md",
    "data.train.source.manifest": _MAKE_MANIFEST,
    "data.train.target.manifest": _MAKE_MANIFEST,
    "data.val.manifest": _MAKE_MANIFEST,
    "data.train.source_json_root": "run tools/convert_datasets/cityscapes.py on the Cityscapes folder",
    "data.train.target.dataset_path": "see data/README.md",
    "data.train.target.dataset_txt_path": _MAKE_LIST,
    "data.val.dataset_path": "see data/README.md",
    "data.val.dataset_txt_path": _MAKE_LIST,
}
_TEST_DATA = {
    "data.test.manifest": f"{_MAKE_MANIFEST}, or give --root-path",
    "data.test.dataset_txt_path": f"{_MAKE_LIST}, or give --root-path",
    "data.test.dataset_path": "see data/README.md, or give --root-path",
}


def named_weights(config: Mapping[str, Any] | Loaded) -> Iterator[tuple[str, str, str]]:
    """Key, value and remedy of the weights that a training loads; the value is a path, an address or a name."""
    # Without image changes there is nothing to translate, and nothing loads the generator.
    translates = "img_time_res" in (get_key(config, "data.train.source.outputs") or ())
    for key, remedy in _WEIGHTS.items():
        value = get_key(config, key)
        if value and value != TIMM_WEIGHTS and (translates or key != "uda.cyclegan_itrd2en_path"):
            yield key, value, remedy


def check_files(config: Mapping[str, Any], for_training: bool) -> None:
    """Refuse paths that do not exist; data sets check what lies below them. Nothing is downloaded.

    Raises:
        ConfigError: naming key, path and remedy.
    """
    data = _TRAINING_DATA if for_training else _TEST_DATA
    named = [(key, get_key(config, key), remedy) for key, remedy in data.items()]
    for key, value, remedy in named:
        if value and not Path(value).exists():
            raise ConfigError(f"{key}: {value} does not exist; {address_remedy(value) or remedy}")
    for key, value, remedy in named_weights(config) if for_training else ():
        check_weights(key, value, remedy)


def check_weights(key: str, value: str, remedy: str) -> None:
    """Refuse weights that are neither a file, nor an address that can be used, nor a known name. Nothing is downloaded.

    Raises:
        ConfigError: naming key, value and remedy.
    """
    try:
        reference = reference_of(value)
    except CheckpointError as error:
        raise ConfigError(f"{key}: {error}") from error
    if reference is not None or Path(value).exists():
        return
    if not re.search(r"[/\\.]", value) and did_you_mean(value, known_weights()):
        raise ConfigError(f"{key}: {value!r} is neither a file nor a known name{did_you_mean(value, known_weights())}")
    name = Path(value).stem
    download = f"{key}={name} downloads it, or " if name in known_weights() else ""
    raise ConfigError(f"{key}: {value} does not exist; {download}{remedy}")
