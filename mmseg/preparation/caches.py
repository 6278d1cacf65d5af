"""Caches of the data sets that a config names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg.config.load import effective, get_key
from mmseg.datasets.cache import Cacheable, build_cache, directory_size
from mmseg.datasets.layouts import dark_zurich_split
from mmseg.errors import ConfigError
from mmseg.registry import DATASETS


def default_name(cfg: dict[str, Any]) -> str:
    """Folder name of the cache of a data set's config, told by what most often differs."""
    if "dataset_txt_path" in cfg:
        return Path(cfg["dataset_txt_path"]).stem + ("_5bins" if cfg.get("events_bins_5_avg_1") else "")
    size = "x".join(str(side) for side in cfg.get("image_resize_size", ()))
    name = {"CityscapesICDataset": "cityscapes", "DarkZurichICDataset": "dark_zurich"}.get(cfg["type"], cfg["type"])
    split = dark_zurich_split(cfg.get("split"), cfg.get("test_mode", False))
    return "_".join(part for part in (name, split, size) if part)


def make_caches(
    config: Config, sections: Iterable[str], out: str | Path, nproc: int = 1, force: bool = False, float16: bool = False
) -> dict[str, Path]:
    """Make the caches of a config, each in the folder of its key ``cache`` or below ``out``; print what was done.

    Args:
        config: as loaded by :func:`mmseg.config.load.load_config`.
        sections: of ``data``, e.g. ``train.source``; those that the config lacks are left out.
        out: folder.
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
        dataset = DATASETS.build(cfg)
        if not isinstance(dataset, Cacheable):
            raise ConfigError(f"data.{section}.type={cfg['type']!r} has no cache; leave it out with --sections")
        if not dataset.cache_layout().arrays:
            continue
        folder = Path(named) if named else Path(out) / default_name(cfg)
        # val and test are most often one set; --force must not make its cache twice
        state = build_cache(folder, dataset, nproc, force and folder not in done, float16, f"cache of {section}")
        done.add(folder)
        made[section] = folder
        size = directory_size(folder) / 1e6
        print(f"{section}: {len(dataset):,} samples, {size:,.1f} MB in {folder} ({state})", flush=True)
    return made
