"""DSEC_Night: night images warped into the event camera's frame, and event voxel grids; the target domain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mmseg.classes import CITYSCAPES_19, DSEC_ABSENT_CLASSES, ClassSet
from mmseg.datasets.base import Size, check_choice, check_outputs, pair
from mmseg.datasets.cache import ArrayCache, CacheLayout
from mmseg.datasets.crops import CropDraw, check_crop
from mmseg.datasets.dsec_frames import TEST_ROWS, DSECFrame, describe_folders, read_event_index, read_frame_list
from mmseg.datasets.labels import open_stored_label, to_classes
from mmseg.datasets.preprocessing import (
    ContentSettings,
    EventSettings,
    event_tensor,
    image_tensor,
    label_tensor,
    resize_image,
    three_channels,
)
from mmseg.errors import ConfigError, DataError
from mmseg.events.normalize import standardize_events
from mmseg.events.recording import HEIGHT, WIDTH, EventRecording
from mmseg.extractors.content import NIGHT_PARAMS, SHIFT_TYPES, ContentParams, IsrParms
from mmseg.io.image_files import open_image
from mmseg.registry import DATASETS

OUTPUTS = ("warp_image", "events_vg", "warp_img_self_res", "label", "img_metas")
LABEL_REMEDY = (
    "take labels/<sequence>_<frame>_grey_gtFine_labelTrainIds.png of the DSEC Night-Semantic labels, not the coloured "
    "pictures of them (docs/data.md)"
)
FRAME: Size = (HEIGHT, WIDTH)


@dataclass(frozen=True)
class DSECDraw:
    """Random draw of a training sample; ``clip_range`` is None where the config does not draw it."""

    crop: CropDraw
    clip_range: float | None


@DATASETS.register_module()
class DSECDataset(Dataset):
    """Frames of a list file; with ``crop_size`` random crops for training, without it whole frames for testing.

    Args:
        dataset_txt_path: list written by ``create_dsec_dataset_txt.py``.
        outputs: any of ``warp_image`` (3, H, W) normalised, ``events_vg`` and ``warp_img_self_res`` (3, H, W) in
            [-1, 1], ``label`` (H, W) int64, ``img_metas`` (``name``, ``sequence``, ``frame``).
        crop_size, after_crop_resize_size: (height, width) of the training crop before and after resizing.
        test_resize_size: (height, width) of the network's input in a test; None leaves the frame as it is. Labels and
            predictions keep the frame's size.
        events_bins: temporal bins of the voxel grid; only 1 gives the network its three channels.
        events_bins_5_avg_1: accumulate five bins and take their mean.
        events_clip_range: (low, high) to draw the clip range from; None derives it from the number of events.
        events_num: number of events that end with the frame; 0 takes those since an earlier frame.
        image_change_range: how many frames earlier the window starts.
        isr_type: ``real_time``, the content map is extracted while loading.
        shift_type: shift of the content map; ``random`` derives it from the crop's corner.
        isr_parms: parameters of the content map.
        skip_frames_without_events: leave frames without events out of a test, too, as training does.
        cache: folder made by ``tools/cache_events.py``, to read voxel grids and images from.
        root_path: folder in which the sequences of the list are looked for first, see
            :func:`mmseg.datasets.dsec_frames.find_sequence`.

    Attributes:
        read_from: message that names the folders the frames are read from.
        left_out: message about frames of the list that training leaves out; '' if there are none.
        classes: class set of the labels in samples; files hold stored label ids.

    Raises:
        DataError: a list or file is missing, a recording is too short, or a test frame has no events.
        ConfigError: a value that cannot be used.
    """

    # Input stream of the network -> output of a test sample.
    TEST_STREAMS = {"image": "warp_image", "events": "events_vg", "img_self_res": "warp_img_self_res"}
    ABSENT_CLASSES = DSEC_ABSENT_CLASSES
    classes: ClassSet = CITYSCAPES_19
    # (height, width) of labels and predictions of a test.
    prediction_size: Size = (TEST_ROWS, WIDTH)

    def __init__(
        self,
        dataset_txt_path: str | Path,
        outputs: Iterable[str] = ("warp_image", "events_vg"),
        crop_size: tuple[int, int] | None = None,
        after_crop_resize_size: tuple[int, int] | None = None,
        test_resize_size: tuple[int, int] | None = None,
        events_bins: int = 1,
        events_bins_5_avg_1: bool = False,
        events_clip_range: tuple[float, float] | None = None,
        events_num: int = 0,
        image_change_range: int = 1,
        isr_type: str = "real_time",
        shift_type: str = "rightdown",
        isr_parms: IsrParms = None,
        skip_frames_without_events: bool = False,
        cache: str | Path | None = None,
        root_path: str | Path | None = None,
    ) -> None:
        where = type(self).__name__
        self.outputs = check_outputs(outputs, OUTPUTS, f"{where}.outputs")
        self.is_training = bool(crop_size)
        self.skips_without_events = self.is_training or skip_frames_without_events
        self.crop: Size = pair(crop_size or FRAME)
        check_crop(self.crop[::-1], FRAME[::-1], f"{where}.crop_size")
        self.test_size: Size = pair(test_resize_size or self.prediction_size)
        self.sample_size: Size = pair(after_crop_resize_size or self.crop) if self.is_training else self.test_size
        if events_bins != 1:
            raise ConfigError(
                f"{where}.events_bins is {events_bins}; the encoder takes one bin, repeated to three "
                "channels: set 1, or events_bins_5_avg_1=True for the mean of five"
            )
        if isr_type != "real_time":
            raise ConfigError(f"{where}.isr_type is {isr_type!r}; the only one is 'real_time'")
        self.content = self.content_settings(where, isr_parms=isr_parms, shift_type=shift_type)
        self.events = EventSettings.from_arguments(events_bins_5_avg_1, events_clip_range)
        self.events_num = events_num
        self.image_change_range = image_change_range
        frames = read_frame_list(dataset_txt_path, root_path)
        self.read_from = describe_folders(dataset_txt_path, frames)
        self._check_files(frames, dataset_txt_path)
        self.recordings = {f.sequence_dir: EventRecording(f.events_file, f.rectify_map_file) for f in frames}
        self.left_out = ""
        self.frames, self.windows = self._event_windows(frames, dataset_txt_path)
        for recording in self.recordings.values():
            if "events_vg" in self.outputs:
                # A damaged map must be reported now, not when a sample first needs it.
                recording.rectify_map  # noqa: B018
            recording.close()
        self.cache = ArrayCache(cache, self.cache_layout()) if cache else None

    @staticmethod
    def content_settings(where: str, *, isr_parms: IsrParms, shift_type: str, **_: Any) -> ContentSettings:
        """How the arguments of this class say that content maps are extracted; ``where`` is for messages."""
        params = ContentParams.from_config(isr_parms, NIGHT_PARAMS, f"{where}.isr_parms")
        return ContentSettings(params, check_choice(shift_type, SHIFT_TYPES, f"{where}.shift_type"))

    def _check_files(self, frames: list[DSECFrame], list_path: str | Path) -> None:
        needed = {frame.warp_image for frame in frames}
        if "events_vg" in self.outputs:
            needed |= {path for f in frames for path in (f.events_file, f.rectify_map_file)}
        if "label" in self.outputs:
            needed |= {frame.label for frame in frames}
        missing = sorted(path for path in needed if not path.is_file())
        if missing:
            _, _, named = self.read_from.partition("; ")
            elsewhere = f" ({named})" if named else ""
            raise DataError(
                f"{len(missing)} files that {list_path} needs are missing, the first is {missing[0]}{elsewhere}; add "
                "them (docs/data.md; tools/warp_images.py makes warp images) or make the list again with "
                "create_dsec_dataset_txt.py"
            )

    def _event_windows(
        self, frames: list[DSECFrame], list_path: str | Path
    ) -> tuple[list[DSECFrame], list[tuple[int, int]]]:
        """First and last event of every frame. Training leaves out frames without events, a test on request."""
        if "events_vg" not in self.outputs:
            return frames, [(0, 0)] * len(frames)
        index = {f.sequence_dir: read_event_index(f.index_file) for f in frames} if not self.events_num else {}
        usable, windows, empty = list[DSECFrame](), list[tuple[int, int]](), list[DSECFrame]()
        for frame in frames:
            if self.events_num:
                start = frame.event_index - self.events_num + 1
            else:
                earlier = frame.frame - self.image_change_range
                known = index[frame.sequence_dir]
                start = int(known[earlier]) if 0 <= earlier < len(known) else -1
            lasts = 0 <= start < frame.event_index
            if lasts and self.recordings[frame.sequence_dir].duration(start, frame.event_index) > 0:
                usable.append(frame)
                windows.append((start, frame.event_index))
            else:
                empty.append(frame)
        if empty:
            first = f"{empty[0].sequence} frame {empty[0].frame}"
            message = f"{list_path}: {len(empty)} of {len(frames)} frames have no events to look back on ({first})"
            if not usable or not self.skips_without_events:
                raise DataError(f"{message}; take them off the list or lower image_change_range")
            self.left_out = f"{message}; they are left out" + (" of training" if self.is_training else "")
        return usable, windows

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A whole frame, for testing."""
        return self.sample(index, None)

    def describe(self, index: int) -> str:
        """Which files a sample is made of, for messages."""
        frame, (start, finish) = self.frames[index], self.windows[index]
        events = f" with events {start}..{finish} of {frame.events_file}" if "events_vg" in self.outputs else ""
        return f"{frame.warp_image}{events}"

    def draw(self, rng: np.random.Generator) -> DSECDraw:
        """Draw crop, flip and clip range of a training sample."""
        crop = CropDraw.make(rng, WIDTH, HEIGHT, self.crop[1], self.crop[0])
        clip_range = self.events.clip_range
        return DSECDraw(crop, float(rng.uniform(*clip_range)) if clip_range else None)

    def sample(self, index: int, draw: DSECDraw | None) -> dict[str, Any]:
        """Load one sample; ``draw`` None gives the top 440 rows of the whole frame."""
        frame, sample = self.frames[index], dict[str, Any]()
        if self.outputs & {"warp_image", "warp_img_self_res"}:
            image = self._cut(self._image(index), draw)
            if "warp_image" in self.outputs:
                sample["warp_image"] = image_tensor(image)
            if "warp_img_self_res" in self.outputs:
                parities = None if draw is None else (draw.crop.x, draw.crop.y)
                content = self.content.content_map(image, (image.height, image.width), parities)
                sample["warp_img_self_res"] = three_channels(content)
        if "events_vg" in self.outputs:
            sample["events_vg"] = self._event_tensor(index, draw)
        if "label" in self.outputs:
            sample["label"] = label_tensor(self._label(frame.label))[0, :TEST_ROWS]
        if "img_metas" in self.outputs:
            name = f"{frame.sequence}_{frame.frame:06d}"
            sample["img_metas"] = {"name": name, "sequence": frame.sequence, "frame": frame.frame}
        return sample

    def _image(self, index: int) -> Image.Image:
        if self.cache is not None:
            return Image.fromarray(self.cache.row("image", index))
        return self._open(open_image, self.frames[index].warp_image, "RGB")

    def _label(self, path: Path) -> Image.Image:
        reader = partial(open_stored_label, classes=self.classes)
        return to_classes(self._open(reader, path, LABEL_REMEDY), self.classes, path)

    @staticmethod
    def _open(reader: Callable[..., Image.Image], path: Path, argument: str) -> Image.Image:
        image = reader(path, argument)
        if image.size != (WIDTH, HEIGHT):
            raise DataError(
                f"{path} is {image.width}x{image.height}; warp images and labels are in the event camera's frame, "
                f"{WIDTH}x{HEIGHT} (see data/README.md)"
            )
        return image

    def _cut(self, image: Image.Image, draw: DSECDraw | None) -> Image.Image:
        if draw is None:
            return resize_image(image.crop((0, 0, image.width, TEST_ROWS)), self.test_size)
        return resize_image(draw.crop.apply(image, self.crop[1], self.crop[0]), self.sample_size)

    def _event_tensor(self, index: int, draw: DSECDraw | None) -> Tensor:
        """Events (3, H, W) of a frame, normalised over the whole frame, then cut."""
        standard = self._standard_grid(index) if self.cache is None else self.cache.row("events", index)
        if draw is None:
            return event_tensor(standard, self.events.clip(*self.windows[index]), self.test_size, slice(TEST_ROWS))
        crop, (height, width) = draw.crop, self.crop
        rows, columns = slice(crop.y, crop.y + height), slice(crop.x, crop.x + width)
        clip = self.events.clip(*self.windows[index], draw.clip_range)
        return event_tensor(standard, clip, self.sample_size, rows, columns, crop.flip)

    def _standard_grid(self, index: int) -> np.ndarray:
        """Voxel grid of a frame, (bins, 480, 640), standardised."""
        frame = self.frames[index]
        grid = self.recordings[frame.sequence_dir].voxel_grid(*self.windows[index], self.events.bins)
        return standardize_events(grid)

    def cache_layout(self) -> CacheLayout:
        """Images and standardised voxel grids, which are not clipped yet since training may draw the clip range."""
        arrays: dict[str, tuple[tuple[int, ...], str]] = {}
        sources: set[Path] = set()
        if self.outputs & {"warp_image", "warp_img_self_res"}:
            arrays["image"] = ((HEIGHT, WIDTH, 3), "uint8")
            sources |= {frame.warp_image for frame in self.frames}
        parameters: dict[str, Any] = {"dataset": type(self).__name__}
        if "events_vg" in self.outputs:
            arrays["events"] = ((self.events.bins, HEIGHT, WIDTH), "float32")
            sources |= {path for f in self.frames for path in (f.events_file, f.rectify_map_file)}
            parameters["bins"] = self.events.bins
        frames = zip(self.frames, self.windows, strict=True)
        return CacheLayout(
            where="DSECDataset",
            parameters=parameters,
            rows=[f"{f.sequence}/{f.frame} events {start}..{finish}" for f, (start, finish) in frames],
            root=self.frames[0].sequence_dir.parent,
            sources=sorted(sources),
            arrays=arrays,
        )

    def cache_row(self, index: int) -> dict[str, np.ndarray]:
        """Arrays of :meth:`cache_layout` for one frame."""
        row = {}
        if self.outputs & {"warp_image", "warp_img_self_res"}:
            row["image"] = np.asarray(self._image(index))
        if "events_vg" in self.outputs:
            row["events"] = self._standard_grid(index)
        return row
