"""Caches of the data sets of a config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg.classes import CITYSCAPES_19
from mmseg.config.class_sets import class_set_of
from mmseg.config.components import DATASETS
from mmseg.config.load import effective, get_key
from mmseg.datasets.cache import Cacheable, build_cache, directory_size
from mmseg.datasets.labels import build_dataset
from mmseg.datasets.layouts import dark_zurich_split
from mmseg.datasets.manifest import read_manifest
from mmseg.errors import ConfigError
from mmseg.io.image_files import read_header


def default_name(cfg: dict[str, Any]) -> str:
    """Folder name for the cache of a data set, from the settings that differ most often."""
    if "dataset_txt_path" in cfg:
        return Path(cfg["dataset_txt_path"]).stem + ("_5bins" if cfg.get("events_bins_5_avg_1") else "")
    if "manifest" in cfg:
        return "_".join((Path(cfg["manifest"]).stem, *(str(side) for side in cfg.get("image_resize_size", ()))))
    size = "x".join(str(side) for side in cfg.get("image_resize_size", ()))
    name = {"CityscapesICDataset": "cityscapes", "DarkZurichICDataset": "dark_zurich"}.get(cfg["type"], cfg["type"])
    split = dark_zurich_split(cfg.get("split"), cfg.get("test_mode", False))
    return "_".join(part for part in (name, split, size) if part)


def make_caches(
    config: Config, sections: Iterable[str], out: str | Path, nproc: int = 1, force: bool = False, float16: bool = False
) -> dict[str, Path]:
    """Make the caches of a config, each in the folder of its key ``cache`` or below ``out``; print a line for each.

    Args:
        config: as loaded by :func:`mmseg.config.load.load_config`.
        sections: sections of ``data``, e.g. ``train.source``; missing ones are skipped.
        out: folder of the caches.
        nproc, force, float16: see :func:`.build_cache`.

    Returns:
        Folder of every section's cache.

    Raises:
        ConfigError, DataError: see :func:`.build_cache` and the data sets.
    """
    data, made = effective(config), {}
    done: set[Path] = set()
    for section in sections:
        cfg = get_key(data, f"data.{section}")
        if not cfg:
            continue
        cfg = dict(cfg)
        named = cfg.pop("cache", None)
        dataset = build_dataset(cfg, class_set_of(data))
        if not isinstance(dataset, Cacheable):
            raise ConfigError(f"data.{section}.type={cfg['type']!r} has no cache; exclude it with --sections")
        if not dataset.cache_layout().arrays:
            continue
        folder = Path(named) if named else Path(out) / default_name(cfg)
        # val and test are usually the same set; --force must not make its cache twice
        _make(folder, dataset, section, nproc, force and folder not in done, float16)
        done.add(folder)
        made[section] = folder
    return made


def make_manifest_cache(
    manifest: str | Path,
    settings: Mapping[str, Any],
    out: str | Path,
    nproc: int = 1,
    force: bool = False,
    float16: bool = False,
) -> Path:
    """Make the cache of a manifest without a config; print a line about it.

    Args:
        manifest: see :mod:`mmseg.datasets.manifest`.
        settings: further arguments of :class:`.FramesDataset`. By default, images have their own size, and events are
            cached if every line names some.
        out, nproc, force, float16: see :func:`make_caches`.

    Returns:
        Folder of the cache.

    Raises:
        ConfigError: unknown settings, or images of several sizes and none given.
        DataError: see :func:`.build_cache` and the data set.
    """
    frames = read_manifest(manifest).frames
    cfg: dict[str, Any] = {"type": "FramesDataset", "manifest": str(manifest), **settings}
    DATASETS.check("data.test", cfg)
    if "image_resize_size" not in cfg:
        sizes = {read_header(frame.image).size for frame in frames if frame.image.is_file()}
        if len(sizes) > 1:
            raise ConfigError(
                f"the images of {manifest} have several sizes; give --cfg-options "
                "data.train.target.image_resize_size=(WIDTH,HEIGHT), that of the training"
            )
        cfg["image_resize_size"] = next(iter(sizes), (2, 2))
    if "outputs" not in cfg:
        cfg["outputs"] = ["warp_image", "events_vg"] if all(frame.events for frame in frames) else ["image"]
    named = cfg.pop("cache", None)
    dataset = build_dataset(cfg, CITYSCAPES_19)
    folder = Path(named) if named else Path(out) / default_name(cfg)
    _make(folder, dataset, str(manifest), nproc, force, float16)
    return folder


def _make(folder: Path, dataset: Any, title: str, nproc: int, force: bool, float16: bool) -> None:
    """Make a cache and report it."""
    state = build_cache(folder, dataset, nproc, force, float16, f"cache of {title}")
    size = directory_size(folder) / 1e6
    print(f"{title}: {len(dataset):,} samples, {size:,.1f} MB in {folder} ({state})", flush=True)
