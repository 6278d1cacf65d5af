"""Images, labels and events of a manifest: footage of any camera as source, target or test set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mmseg.classes import CITYSCAPES_19, IGNORE_LABEL, ClassSet
from mmseg.datasets.base import Size, check_choice, check_outputs, pair
from mmseg.datasets.cache import ArrayCache, CacheLayout
from mmseg.datasets.crops import CropDraw, check_crop
from mmseg.datasets.frame_events import FrameRecording, PositionMaps
from mmseg.datasets.frame_files import CONTENTS, by_recording, check_frame, lacks, open_recording
from mmseg.datasets.labels import open_stored_label, stored_class_set, to_classes
from mmseg.datasets.manifest import ManifestFrame, read_manifest
from mmseg.datasets.preprocessing import (
    ContentSettings,
    EventSettings,
    event_tensor,
    image_tensor,
    label_tensor,
    resize_image,
    resize_label,
    signed_tensor,
    three_channels,
)
from mmseg.errors import ConfigError, DataError
from mmseg.events.normalize import standardize_events
from mmseg.extractors.content import CITYSCAPES_PARAMS, NIGHT_PARAMS, SHIFT_TYPES, ContentParams, IsrParms
from mmseg.extractors.motion import image_change
from mmseg.io.image_files import open_image
from mmseg.registry import DATASETS

OUTPUTS = tuple(CONTENTS)
# With more recordings than this, a file is closed after each sample: a process may open about a thousand.
KEPT_OPEN = 64
# Decoding does not hold Python's lock.
LABEL_THREADS = 8
LABEL_REMEDY = "save a PNG of train ids 0..18, and 255 where nothing is labelled (docs/own_data.md)"


@dataclass(frozen=True)
class FrameDraw(CropDraw):
    """Random draw of a training sample; ``clip_range`` is None where the config does not draw it."""

    clip_range: float | None = None


@DATASETS.register_module()
class FramesDataset(Dataset):
    """Images of a manifest; with ``image_crop_size`` random crops for training, without it whole images for testing.

    Args:
        manifest: file in the format of :mod:`mmseg.datasets.manifest`.
        image_resize_size: (width, height) that images, labels and events are resized to.
        outputs: any of ``image`` or ``warp_image`` (3, H, W) normalised; ``events_vg``, the content map
            ``img_self_res``, ``warp_img_self_res`` or ``night_isr``, and the image change ``img_time_res`` (3, H, W) in
            [-1, 1]; ``label`` (1, H, W) int64; ``img_metas`` (``name``, ``sequence``), which a test always gives.
        image_crop_size, crop_resize_size: (width, height) of the training crop before and after resizing.
        ignored_bottom_rows: rows of the resized image that a test leaves out, such as those of the car's hood.
        events_bins_5_avg_1: accumulate five bins and take their mean.
        events_clip_range: (low, high) to draw the clip range from; None derives it from the number of events.
        shift_type: shift of the content map; ``random`` derives it from the crop.
        isr_parms: parameters of the content map; None for those of day images in ``img_self_res``, else of night
            images.
        cache: folder made by ``tools/cache_events.py``, to read voxel grids and images from.

    The content maps differ as in the published sets: that of the crop, or (``night_isr``) a crop of the whole image's.

    Attributes:
        root: folder of the manifest.
        names: name of every image, in the order of the indices.
        crop: (width, height) of a training crop.

    Raises:
        DataError: manifest and line of a file that is missing or does not fit, or of a stream that cannot be made.
        ConfigError: a value that cannot be used.
    """

    ABSENT_CLASSES: tuple[int, ...] = ()
    _classes: ClassSet = CITYSCAPES_19
    left_out = ""

    def __init__(
        self,
        manifest: str | Path,
        image_resize_size: tuple[int, int],
        outputs: Iterable[str] = ("image",),
        image_crop_size: tuple[int, int] | None = None,
        crop_resize_size: tuple[int, int] | None = None,
        ignored_bottom_rows: int = 0,
        events_bins_5_avg_1: bool = False,
        events_clip_range: tuple[float, float] | None = None,
        shift_type: str = "rightdown",
        isr_parms: IsrParms = None,
        cache: str | Path | None = None,
    ) -> None:
        where = type(self).__name__
        self.outputs = check_outputs(outputs, OUTPUTS, f"{where}.outputs")
        self.is_training = bool(image_crop_size)
        self.TEST_STREAMS: Mapping[str, str] = self.streams_for(self.outputs)
        width, height = pair(image_resize_size)
        self.size: Size = (height, width)
        self.crop: tuple[int, int] = pair(image_crop_size or (width, height))
        check_crop(self.crop, (width, height), f"{where}.image_crop_size")
        if ignored_bottom_rows >= height:
            raise ConfigError(f"{where}.ignored_bottom_rows is {ignored_bottom_rows}; images have {height} rows")
        self.prediction_size: Size = (height - ignored_bottom_rows, width)
        after = pair(crop_resize_size or self.crop)
        if "night_isr" in self.outputs and after != self.crop:
            raise ConfigError(f"{where}.crop_resize_size does not go with night_isr; leave it out")
        self.sample_size: Size = (after[1], after[0]) if self.is_training else self.prediction_size
        self.content = self.content_settings(where, outputs=self.outputs, isr_parms=isr_parms, shift_type=shift_type)
        self.events = EventSettings.from_arguments(events_bins_5_avg_1, events_clip_range)
        self.manifest = read_manifest(manifest)
        self.frames = self.manifest.frames
        self.names = [frame.name for frame in self.frames]
        self.root = self.manifest.path.parent
        self.read_from = f"frames are read from {self.manifest.path}"
        self._by_name = {frame.name: frame for frame in self.frames}
        if not self.is_training:
            self.outputs |= {"img_metas"}
            # A set whose lines name no labels is predicted without scores.
            if not any(frame.label for frame in self.frames):
                self.outputs -= {"label"}
        self._sizes = [check_frame(self.manifest, frame, self.outputs) for frame in self.frames]
        self.recordings: dict[Path, FrameRecording] = {}
        self.windows: list[tuple[int, int]] = []
        if "events_vg" in self.outputs:
            self._open_recordings()
        self.cache = ArrayCache(cache, self.cache_layout()) if cache else None

    @classmethod
    def streams_for(cls, outputs: Iterable[str]) -> Mapping[str, str]:
        """Input stream of the network -> output of a test sample.

        The outputs decide between the names of DSEC and those of Dark Zurich, where the content map takes the place of
        the events.

        Raises:
            ConfigError: the image or the content map has two names.
        """
        by_content: dict[str, str] = {}
        for output in sorted(set(outputs) & set(OUTPUTS)):
            first = by_content.setdefault(CONTENTS[output], output)
            if first != output:
                raise ConfigError(
                    f"{cls.__name__}.outputs has both {first} and {output}, both the {CONTENTS[output]}; keep "
                    "the one that uda.train_type reads"
                )
        image = by_content.get("image", "image" if "night_isr" in by_content.values() else "warp_image")
        content = by_content.get("content map", "night_isr" if image == "image" else "warp_img_self_res")
        has_events = "events" in by_content or image == "warp_image"
        return {"image": image, "events": "events_vg" if has_events else content, "img_self_res": content}

    @staticmethod
    def content_settings(
        where: str, *, outputs: Iterable[str], isr_parms: IsrParms, shift_type: str, **_: Any
    ) -> ContentSettings:
        """How the arguments of this class say that content maps are extracted; ``where`` is for messages."""
        usual = CITYSCAPES_PARAMS if "img_self_res" in outputs else NIGHT_PARAMS
        params = ContentParams.from_config(isr_parms, usual, f"{where}.isr_parms")
        return ContentSettings(params, check_choice(shift_type, SHIFT_TYPES, f"{where}.shift_type"))

    def _open_recordings(self) -> None:
        """Find the window of every frame."""
        windows: dict[int, tuple[int, int]] = {}
        maps = PositionMaps()
        for path, indices in by_recording(self.frames).items():
            frames = [self.frames[index] for index in indices]
            sizes = [self._sizes[index] for index in indices]
            recording = open_recording(self.manifest, frames, sizes, maps)
            self.recordings[path] = recording
            windows.update(zip(indices, recording.windows, strict=True))
        self.windows = [windows[index] for index in range(len(self.frames))]

    # ----------------------------------------------------------------------------------------- samples

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A whole image, for testing."""
        return self.sample(index, None)

    def describe(self, index: int) -> str:
        """Files of a sample, for messages."""
        frame = self.frames[index]
        events = ""
        if self.windows:
            start, finish = self.windows[index]
            events = f" with events {start}..{finish} of {frame.events}"
        return f"{frame.image}{events} ({self.manifest.where(frame)})"

    def label_path(self, name: str) -> Path:
        """Label map of a name."""
        frame = self._by_name[name]
        if frame.label is None:
            raise lacks(self.manifest, frame, "label")
        # Class statistics know a label by the end of its path, which must not depend on the working directory.
        return Path(os.path.abspath(frame.label))

    def draw(self, rng: np.random.Generator) -> FrameDraw:
        """Draw crop, flip and clip range of a training sample."""
        crop = CropDraw.make(rng, *self.size[::-1], *self.crop)
        clip_range = self.events.clip_range
        return FrameDraw(crop.x, crop.y, crop.flip, float(rng.uniform(*clip_range)) if clip_range else None)

    def load_label(self, index: int) -> Image.Image:
        """Resized label map."""
        try:
            path = self.label_path(self.names[index])
            stored = self.stored_classes
            label = self._all_rows(open_stored_label(path, LABEL_REMEDY, stored), self._sizes[index])
            return to_classes(resize_label(label, self.size), stored, path)
        except DataError as error:
            raise DataError(f"{self.manifest.where(self.frames[index])}: {error}") from error

    def check_labels(self) -> None:
        """Read all label maps, so that a bad one is reported before a training and not by its first evaluation.

        Raises:
            DataError: naming manifest, line and file.
        """
        if "label" not in self.outputs:
            return

        def check(index: int) -> None:
            self.load_label(index)

        with ThreadPoolExecutor(LABEL_THREADS) as threads:
            for _ in threads.map(check, range(len(self))):
                pass

    def _all_rows(self, label: Image.Image, size: Size) -> Image.Image:
        """A label map with all rows of its image; those below ``label_rows`` are ignored."""
        if self.manifest.label_rows is None:
            return label
        whole = Image.new("L", (size[1], size[0]), IGNORE_LABEL)
        whole.paste(label)
        return whole

    @property
    def stored_classes(self) -> ClassSet:
        """The class set, with the label ids that the manifest's label maps hold."""
        return stored_class_set(self.manifest.class_set, self._classes, self.manifest.path)

    @property
    def classes(self) -> ClassSet:
        """Class set of the labels in samples."""
        return self._classes

    @classes.setter
    def classes(self, classes: ClassSet) -> None:
        """Map the labels into another class set.

        Raises:
            ConfigError: labels are read, and those of the manifest cannot be mapped.
        """
        self._classes = classes
        if "label" in self.outputs:
            self.stored_classes  # noqa: B018  it is checked before training

    def sample(self, index: int, draw: CropDraw | None, label: Image.Image | None = None) -> dict[str, Any]:
        """Load one sample.

        Args:
            index: position in ``names``.
            draw: what :meth:`draw` returned; None for the whole image without its ignored rows.
            label: what :meth:`load_label` returned, to avoid reading it twice.
        """
        frame, sample = self.frames[index], dict[str, Any]()
        named = {CONTENTS[output]: output for output in self.outputs}
        if {"image", "content map"} & named.keys():
            whole = self._image(index)
            image = self._cut(whole, draw)
            if "image" in named:
                sample[named["image"]] = image_tensor(image)
            if "content map" in named:
                sample[named["content map"]] = three_channels(
                    self._content_map(named["content map"], whole, image, draw)
                )
        if "events" in named:
            sample["events_vg"] = self._event_tensor(index, draw)
        if "label" in named:
            sample["label"] = label_tensor(self._cut(label or self.load_label(index), draw, is_label=True))
        if "image change" in named:
            sample["img_time_res"] = three_channels(signed_tensor(self._cut(self._image_change(frame), draw)))
        if "description" in named:
            sample["img_metas"] = {"name": frame.name, "sequence": frame.sequence}
        return sample

    def _image(self, index: int) -> Image.Image:
        """Resized image."""
        if self.cache is not None and "image" in self.cache:
            return Image.fromarray(self.cache.row("image", index))
        return resize_image(open_image(self.frames[index].image, "RGB"), self.size)

    def _image_change(self, frame: ManifestFrame) -> Image.Image:
        """Resized image change."""
        if frame.image_change is not None:
            return resize_image(open_image(frame.image_change, "L"), self.size)
        assert frame.previous_image is not None, "checked before"
        current, previous = (np.array(open_image(path, "L")) for path in (frame.image, frame.previous_image))
        return resize_image(Image.fromarray(image_change(current, previous)), self.size)

    def _cut(self, image: Image.Image, draw: CropDraw | None, is_label: bool = False) -> Image.Image:
        if draw is None:
            return image.crop((0, 0, image.width, self.prediction_size[0]))
        return (resize_label if is_label else resize_image)(draw.apply(image, *self.crop), self.sample_size)

    def _content_map(self, output: str, whole: Image.Image, image: Image.Image, draw: CropDraw | None) -> Tensor:
        """Content map (H, W) of a sample whose image is ``image``, cut out of ``whole``."""
        if draw is None:
            return self.content.content_map(image, self.sample_size)
        if output != "night_isr":
            second = int(draw.flip) if output == "img_self_res" else draw.y
            return self.content.content_map(image, self.sample_size, (draw.x, second))
        content = self.content.content_map(whole, self.size, (draw.x, draw.y))
        width, height = self.crop
        content = content[draw.y : draw.y + height, draw.x : draw.x + width]
        return content.flip(-1) if draw.flip else content

    def _event_tensor(self, index: int, draw: CropDraw | None) -> Tensor:
        """Events (3, H, W) of a frame, normalised over the sensor's whole frame, then cut."""
        cached = self.cache is not None and "events" in self.cache
        standard = self.cache.row("events", index) if self.cache and cached else self._standard_grid(index)
        frame: Size = (standard.shape[1], standard.shape[2])
        clip = self.events.clip(*self.windows[index], draw.clip_range if isinstance(draw, FrameDraw) else None)
        if draw is None:
            # As in inference: the rows of the sensor that show those of the image.
            shown = round(self.prediction_size[0] * frame[0] / self.size[0])
            return event_tensor(standard, clip, self.sample_size, slice(shown))
        width, height = self.crop
        rows, columns = slice(draw.y, draw.y + height), slice(draw.x, draw.x + width)
        if frame == self.size:
            return event_tensor(standard, clip, self.sample_size, rows, columns, draw.flip)
        cut = event_tensor(standard, clip, self.size)[:1, rows, columns]
        cut = cut.flip(-1) if draw.flip else cut
        if cut.shape[1:] != self.sample_size:
            cut = F.interpolate(cut[None], size=self.sample_size, mode="bilinear", align_corners=False)[0]
        return three_channels(cut)

    def _standard_grid(self, index: int) -> np.ndarray:
        """Voxel grid of a frame, (bins, height, width) of the sensor, standardised."""
        events = self.frames[index].events
        assert events is not None, "checked before"
        recording = self.recordings[events]
        try:
            return standardize_events(recording.grid(*self.windows[index], self.events.bins))
        finally:
            if len(self.recordings) > KEPT_OPEN:
                recording.close()

    # ------------------------------------------------------------------------------------------- cache

    def cache_layout(self) -> CacheLayout:
        """Resized images, and standardised voxel grids where all recordings are of one sensor size."""
        arrays: dict[str, tuple[tuple[int, ...], str]] = {}
        sources: set[Path] = set()
        size = [*self.size]
        parameters: dict[str, Any] = {"dataset": type(self).__name__}
        if {CONTENTS[output] for output in self.outputs} & {"image", "content map"}:
            arrays["image"] = ((*self.size, 3), "uint8")
            sources |= {frame.image for frame in self.frames}
            parameters["size"] = size
        sensors = {recording.size for recording in self.recordings.values()}
        if len(sensors) == 1:
            arrays["events"] = ((self.events.bins, *sensors.pop()), "float32")
            # The manifest holds the mapping, so that a change of it makes the cache stale.
            sources |= {*self.recordings, self.manifest.path}
            sources |= {frame.rectify_map for frame in self.frames if frame.rectify_map}
            sources |= {path for path in [self.manifest.alignment.rectify_map] if path}
            parameters["bins"] = self.events.bins
        rows = [f"{frame.name} {frame.image.name}" for frame in self.frames]
        if self.windows:
            rows = [f"{row} events {a}..{b}" for row, (a, b) in zip(rows, self.windows, strict=True)]
        return CacheLayout("FramesDataset", parameters, rows, self.root, sorted(sources), arrays)

    def cache_row(self, index: int) -> dict[str, np.ndarray]:
        """Arrays of :meth:`cache_layout` for one frame."""
        wanted, row = self.cache_layout().arrays, {}
        if "image" in wanted:
            row["image"] = np.asarray(self._image(index))
        if "events" in wanted:
            row["events"] = self._standard_grid(index)
        return row
