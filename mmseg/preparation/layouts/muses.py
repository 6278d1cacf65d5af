"""MUSES (Brödermann et al., ECCV 2024): images and events by day and night, in four weathers.

``meta.json`` lists the scenes, ``calib.json`` the cameras. The events of a scene are the last 30 ms of a file of its
own; they are projected into the image as if everything were at infinity, as its development kit does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmseg.errors import DataError
from mmseg.events.event_index import last_window
from mmseg.io.image_files import read_header
from mmseg.io.json_files import read_json
from mmseg.preparation.layouts import Selection
from mmseg.preparation.layouts.common import Lines, inside, marked_root, thinned
from mmseg.preparation.manifests import NO_EVENTS, ManifestContent

META, CALIBRATION = "meta.json", "calib.json"
IMAGES, LABELS = "frame_camera", "gt_semantic"
IMAGE_SUFFIX, LABEL_SUFFIX = "_frame_camera.png", "_gt_labelTrainIds.png"
TEXTS = ("split", "weather", "time_of_day", "path_to_frame_camera")
# (width, height) of the images that calib.json is for, and of the event camera.
CALIBRATED_SIZE = (1920, 1080)
SENSOR = (1280, 720)
WINDOW_US = 30_000
REMEDY = "download it again"


def find(root: Path, selection: Selection) -> ManifestContent:
    """Scenes of a split, weathers and times of day; labels unless they are withheld.

    Raises:
        DataError: ``meta.json``, ``calib.json`` or a recording is missing or damaged, or nothing is left.
    """
    path = marked_root(root, META, "MUSES")
    scenes = list(_scenes(path))
    chosen = [(name, scene) for name, scene in scenes if _is_chosen(scene, selection)]
    if not chosen:
        found = Counter(f"{scene['split']} {scene['weather']} {scene['time_of_day']}" for _, scene in scenes)
        listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(found.items())) or "none"
        raise DataError(f"{path}: no scene is of this split, weather and time of day; its scenes: {listed}")
    lines = Lines("MUSES", LABELS)
    has_labels = selection.labels and selection.split != "test"
    for name, scene in thinned(chosen, selection):
        _add(lines, root, name, scene, has_labels, selection.events)
    content = lines.done()
    if selection.events:
        content.header |= _event_header(root, content)
    return content


def _scenes(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Scenes by name, checked."""
    for name, scene in sorted(read_json(path, REMEDY).items()):
        where = f"{path}, scene {name!r}"
        if not isinstance(scene, dict):
            raise DataError(f"{where} is not an object; {REMEDY}")
        for key in TEXTS:
            if not isinstance(scene.get(key), str):
                raise DataError(f"{where} has no text {key!r}; {REMEDY}")
        yield name, scene


def _is_chosen(scene: Mapping[str, Any], selection: Selection) -> bool:
    wanted = {"split": (selection.split,), "weather": selection.weather, "time_of_day": selection.time_of_day}
    return all(not values or scene[key] in values for key, values in wanted.items())


def _add(lines: Lines, root: Path, name: str, scene: Mapping[str, Any], has_labels: bool, has_events: bool) -> None:
    """Add a scene."""
    where = f"{root / META}, scene {name!r}"
    image = inside(root, scene["path_to_frame_camera"], f"{where}: path_to_frame_camera")
    label = _label(root, image) if has_labels else None
    keys: dict[str, Any] = {"name": name, "sequence": f"{scene['weather']}_{scene['time_of_day']}"}
    if has_events and image.is_file() and (label is None or label.is_file()):
        given = scene.get("path_to_event_camera")
        if not isinstance(given, str):
            raise DataError(f"{where} has no text 'path_to_event_camera'; {REMEDY}, or give --without-events")
        events = inside(root, given, f"{where}: path_to_event_camera")
        if not events.is_file():
            raise DataError(f"{events} does not exist; download event_camera, or give --without-events")
        time, count = last_window(events, WINDOW_US)
        if count < 2:
            lines.content.left_out[NO_EVENTS] += 1
            return
        # A file may hold exactly this window, so that no event precedes it.
        keys |= {"events": events, "time": time, "window": {"count": count}}
    lines.add(image, label, **keys)


def _label(root: Path, image: Path) -> Path:
    """Label map of an image, by the names of the data set."""
    folders = image.relative_to(root).parts[1:-1]
    return root.joinpath(LABELS, *folders, image.name.removesuffix(IMAGE_SUFFIX) + LABEL_SUFFIX)


def _event_header(root: Path, content: ManifestContent) -> dict[str, Any]:
    """How events map onto images: keys of the first line."""
    first = content.lines[0]["image"]
    size = read_header(first).size
    for line in content.lines:
        found = read_header(line["image"]).size
        if found != size:
            raise DataError(
                f"{line['image']} is {found[0]}x{found[1]}, {first} {size[0]}x{size[1]}; one calibration is for images "
                "of one size: resize them alike"
            )
    calibration = Calibration(root / CALIBRATION)
    return {"sensor": list(SENSOR), "events": calibration.mapping(size)}


class Calibration:
    """The cameras of ``calib.json``.

    Args:
        path: the file.

    Raises:
        DataError: it is missing, or lacks a matrix of frame or event camera.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_json(path, f"{REMEDY}, or give --without-events")
        self.image = self._matrix(content, "intrinsics.rgb.K", 3)
        self.events = self._matrix(content, "intrinsics.event.K", 3)
        self.event_to_image = self._matrix(content, "extrinsics.event2rgb", 4)

    def _matrix(self, content: Mapping[str, Any], key: str, side: int) -> list[list[float]]:
        value: Any = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        rows = value if isinstance(value, list) and len(value) == side else []
        numbers = [n for row in rows if isinstance(row, list) and len(row) == side for n in row]
        is_number = all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
        if len(numbers) != side * side or not is_number:
            raise DataError(f"{self.path}: {key} is not a matrix of {side}x{side} numbers; {REMEDY}")
        return [numbers[start : start + side] for start in range(0, side * side, side)]

    def mapping(self, size: tuple[int, int]) -> dict[str, Any]:
        """The key ``events`` of a first line, for images of a size (width, height)."""
        factors = (size[0] / CALIBRATED_SIZE[0], size[1] / CALIBRATED_SIZE[1], 1)
        return {
            "mapping": "calibration",
            "image": [[n * factor for n in row] for row, factor in zip(self.image, factors, strict=True)],
            "events": self.events,
            "rotation": [row[:3] for row in self.event_to_image[:3]],
        }
