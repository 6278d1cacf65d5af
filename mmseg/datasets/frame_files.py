"""Checks of the files that the lines of a manifest name; every message names manifest and line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from mmseg.datasets.base import Size
from mmseg.datasets.frame_events import FrameRecording, PositionMaps
from mmseg.datasets.manifest import Manifest, ManifestFrame
from mmseg.errors import DataError
from mmseg.io.image_files import read_header

# Name of an output -> what it holds. The names are those of the published data sets, which training variants read.
CONTENTS = {
    "image": "image",
    "warp_image": "image",
    "events_vg": "events",
    "img_self_res": "content map",
    "warp_img_self_res": "content map",
    "night_isr": "content map",
    "img_time_res": "image change",
    "label": "label",
    "img_metas": "description",
}
# Output -> what the method needs it for, for messages.
PARTS = {"img_time_res": "image change, from which the Image Motion-Extractor makes day events"}
# Key of a manifest's line -> how to get it.
REMEDIES = {
    "events": "add events, time and window to the line, or train a variant without events (docs/own_data.md)",
    "previous_image": "add the image taken just before it, or its image_change, or train a variant whose source has "
    "none (docs/own_data.md)",
    "label": "add the label map, or take 'label' out of the outputs; only a target needs none",
}


def check_frame(manifest: Manifest, frame: ManifestFrame, outputs: Collection[str]) -> Size:
    """Check that the files of a line that some outputs need are there and fit.

    Returns:
        (height, width) of the image.

    Raises:
        DataError: a file is missing, damaged or of another size, or the line lacks what an output is made of.
    """
    where = manifest.where(frame)
    width, height = _image_size(where, "image", frame.image)
    others: dict[str, Path | None] = {}
    if "label" in outputs:
        others["label"] = frame.label
    if "img_time_res" in outputs:
        key = "image_change" if frame.image_change else "previous_image"
        others[key] = frame.image_change or frame.previous_image
    for key, path in others.items():
        if path is None:
            raise lacks(manifest, frame, key)
        found = _image_size(where, key, path)
        rows = manifest.label_rows if key == "label" else None
        if rows is not None and rows > height:
            raise DataError(f"{where}: the image has {height} rows, fewer than label_rows, {rows}; correct line 1")
        if found != (width, rows or height):
            upper = f", of which the upper {rows} rows have labels (label_rows)" if rows else ""
            raise DataError(
                f"{where}: {key} {path} is {found[0]}x{found[1]}, its image {width}x{height}{upper}; both must "
                "have the same size"
            )
    if "events_vg" in outputs and frame.events is None:
        raise lacks(manifest, frame, "events")
    return height, width


def _image_size(where: str, key: str, path: Path) -> tuple[int, int]:
    """(width, height) of an image file."""
    if not path.is_file():
        raise DataError(f"{where}: {key} {path} does not exist; correct the path, which is relative to the manifest")
    try:
        return read_header(path).size
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def lacks(manifest: Manifest, frame: ManifestFrame, key: str) -> DataError:
    """Error of a line that lacks a key which an output is made of."""
    output = {"events": "events_vg", "label": "label"}.get(key, "img_time_res")
    what = PARTS.get(output, CONTENTS[output])
    return DataError(
        f"{manifest.where(frame)}: the output {output!r} ({what}) needs {key}, which it lacks; {REMEDIES[key]}"
    )


def by_recording(frames: Sequence[ManifestFrame]) -> dict[Path, list[int]]:
    """Recordings of frames, with the indices of the frames of each; frames without events are left out."""
    groups: dict[Path, list[int]] = {}
    for index, frame in enumerate(frames):
        if frame.events is not None:
            groups.setdefault(frame.events, []).append(index)
    return groups


def open_recording(
    manifest: Manifest, frames: Sequence[ManifestFrame], sizes: Sequence[Size], maps: PositionMaps
) -> FrameRecording:
    """The recording of some frames, with the window of each.

    Args:
        manifest: it names the mapping.
        frames: frames with the same recording.
        sizes: (height, width) of their images.
        maps: maps of the recordings of a manifest, which most of them share.

    Raises:
        DataError: frames of several image sizes or maps, or as in :class:`.FrameRecording`.
    """
    first = frames[0]
    for frame, size in zip(frames, sizes, strict=True):
        if (size, frame.rectify_map) != (sizes[0], first.rectify_map):
            raise DataError(
                f"{manifest.where(frame)}: image size or rectify map differ from those of line {first.line}, with the "
                f"same recording {first.events}; give them one size and one map"
            )
    return FrameRecording(manifest, frames, sizes[0], maps)
