"""A manifest in place of a config's test set: images prepared as the config's tests prepare theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmseg.config.arguments import arguments_of, with_defaults
from mmseg.datasets.base import Size
from mmseg.datasets.dark_zurich import DATA_TYPES, DarkZurichICDataset
from mmseg.datasets.dsec_frames import TEST_ROWS
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.datasets.frame_events import SHAPE_TOLERANCE
from mmseg.datasets.frames import FramesDataset
from mmseg.datasets.manifest import Manifest, read_manifest
from mmseg.errors import ConfigError, DataError
from mmseg.events.recording import HEIGHT, WIDTH
from mmseg.extractors.content import ContentParams
from mmseg.io.image_files import read_header
from mmseg.registry import DATASETS


def use_manifest(config: Config, path: str) -> None:
    """Replace ``data.test`` of a config by a manifest, in place.

    Outputs, content maps and events are those of the config's test set. Images keep their shape: they get the rows of
    that test set, and its columns if that changes their shape by less than two percent. Rows below the manifest's
    ``label_rows`` are left out. A manifest without events is tested without.

    Args:
        config: with a section ``data.test``.
        path: manifest, relative to the working directory.

    Raises:
        DataError: the manifest or its first image cannot be read.
        ConfigError: the test set of the config cannot be transferred.
    """
    manifest = read_manifest(path)
    given = config.data.test
    kind = DATASETS.get(given.get("type") or "")
    if kind is None or not issubclass(kind, (DSECDataset, DarkZurichICDataset, FramesDataset)):
        raise ConfigError(
            f"--manifest: data.test.type is {given.get('type')!r}; it can replace 'DSECDataset', "
            "'DarkZurichICDataset', 'FramesDataset' or a class derived from one of them"
        )
    settings = with_defaults(kind, given, "data.test")
    if issubclass(kind, DarkZurichICDataset):
        settings["isr_parms"] = _content_map(settings)
    elif issubclass(kind, DSECDataset):
        # (height, width) of the upper TEST_ROWS rows; images of a manifest are whole, unless they have this shape
        rows, columns = settings["test_resize_size"] or (TEST_ROWS, WIDTH)
        width, height = _first_size(manifest)
        is_cut = abs(width * TEST_ROWS / (height * WIDTH) - 1) <= SHAPE_TOLERANCE
        settings["image_resize_size"] = (columns, rows if is_cut else round(rows * HEIGHT / TEST_ROWS))
    own = arguments_of(FramesDataset)
    section = {key: value for key, value in settings.items() if key in own and key not in ("image_crop_size", "cache")}
    outputs = {*settings["outputs"], "label"}
    if not any(frame.events for frame in manifest.frames):
        outputs -= {"events_vg"}
    size = _size(manifest, tuple(settings["image_resize_size"]))
    config.data.test = {
        **section,
        "type": "FramesDataset",
        "manifest": str(path),
        "outputs": sorted(outputs),
        "image_resize_size": size[::-1],
        "ignored_bottom_rows": settings.get("ignored_bottom_rows", 0) or _unlabelled(manifest, size[0]),
    }


def _content_map(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``isr_parms`` of a test on Dark Zurich."""
    if settings["high_resolution_isr"]:
        raise ConfigError(
            "--manifest does not go with data.test.high_resolution_isr; add --cfg-options "
            "data.test.high_resolution_isr=False"
        )
    default = DATA_TYPES[settings["dz_isr_data_type"]]
    params = ContentParams.from_config(settings["isr_parms"], default, "data.test.isr_parms")
    return {
        "val_range": list(params.val_range),
        "_threshold": params.threshold,
        "_clip_range": params.clip_range,
        "shift_pixel": params.shift_pixel,
    }


def _first_size(manifest: Manifest) -> tuple[int, int]:
    """(width, height) of the first image."""
    frame = manifest.frames[0]
    try:
        return read_header(frame.image).size
    except DataError as error:
        raise DataError(f"{manifest.where(frame)}: {error}") from error


def _size(manifest: Manifest, usual: tuple[int, int]) -> Size:
    """(height, width) of the images in the test."""
    width, height = _first_size(manifest)
    scaled = usual[1] * width / height
    return usual[1], usual[0] if abs(usual[0] / scaled - 1) <= SHAPE_TOLERANCE else max(round(scaled), 1)


def _unlabelled(manifest: Manifest, rows: int) -> int:
    """Rows at the bottom of an image with so many rows that have no labels."""
    if manifest.label_rows is None:
        return 0
    return rows - round(manifest.label_rows * rows / max(_first_size(manifest)[1], manifest.label_rows))
