"""DSEC_Night: night images warped into the event camera's frame, and event voxel grids; the target domain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mmseg.classes import DSEC_ABSENT_CLASSES
from mmseg.datasets.cache import ArrayCache, CacheLayout
from mmseg.datasets.crops import (
    CropDraw,
    check_crop,
    check_outputs,
    grey_tensor,
    label_tensor,
    three_channels,
)
from mmseg.datasets.dsec_frames import DSECFrame, describe_folders, read_event_index, read_frame_list
from mmseg.datasets.normalization import normalize_image
from mmseg.errors import ConfigError, DataError
from mmseg.events.normalize import event_clip_range, rescale_array, standardize_events
from mmseg.events.recording import HEIGHT, WIDTH, EventRecording
from mmseg.extractors.content import (
    NIGHT_PARAMS,
    SHIFT_TYPES,
    ContentParams,
    content_map,
    random_direction,
)
from mmseg.io.image_files import open_image, open_label
from mmseg.registry import DATASETS

OUTPUTS = ("warp_image", "events_vg", "warp_img_self_res", "label", "img_metas")
LABEL_REMEDY = (
    "take labels/<sequence>_<frame>_grey_gtFine_labelTrainIds.png of the DSEC Night-Semantic labels, not the coloured "
    "pictures of them (docs/data.md)"
)
# The car's hood covers the rows below.
TEST_ROWS = 440


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
        events_clip_range: (low, high) to draw the clip range from; None takes it from the number of events.
        events_num: number of events that end with the frame; 0 takes those since an earlier frame.
        image_change_range: how many frames earlier the window starts.
        isr_type: ``real_time``, the content map is extracted while loading.
        shift_type: shift of the content map; ``random`` takes it from the crop's corner.
        isr_parms: parameters of the content map.
        cache: folder made by ``tools/cache_events.py``, to read voxel grids and images from.
        root_path: folder below which the sequences of the list are looked for first, see
            :func:`mmseg.datasets.dsec_frames.find_sequence`.

    Attributes:
        read_from: says which folders the frames are read from.
        left_out: says which frames of the list are left out of training, if any.

    Raises:
        DataError: a list or file is missing, a recording is too short, or a test frame has no events.
        ConfigError: a value that cannot be used.
    """

    # Input stream of the network -> output of a test sample.
    TEST_STREAMS = {"image": "warp_image", "events": "events_vg", "img_self_res": "warp_img_self_res"}
    ABSENT_CLASSES = DSEC_ABSENT_CLASSES
    # (height, width) of labels and predictions of a test.
    prediction_size = (TEST_ROWS, WIDTH)

    def __init__(
        self,
        dataset_txt_path: str,
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
        isr_parms: Mapping[str, Any] | str | None = None,
        cache: str | None = None,
        root_path: str | None = None,
    ) -> None:
        self.outputs = check_outputs(outputs, OUTPUTS, "DSECDataset.outputs")
        self.crop = tuple(crop_size) if crop_size else None
        self.resized = tuple(after_crop_resize_size or self.crop) if self.crop else None
        self.test_size = tuple(test_resize_size or self.prediction_size)
        if self.crop:
            check_crop(self.crop[::-1], (WIDTH, HEIGHT), "DSECDataset.crop_size")
        if events_bins != 1:
            raise ConfigError(
                f"DSECDataset.events_bins is {events_bins}; the encoder takes one bin, repeated to three "
                "channels: set 1, or events_bins_5_avg_1=True for the mean of five"
            )
        if isr_type != "real_time":
            raise ConfigError(f"DSECDataset.isr_type is {isr_type!r}; the only one is 'real_time'")
        if shift_type not in SHIFT_TYPES:
            raise ConfigError(f"DSECDataset.shift_type is {shift_type!r}; choose one of {', '.join(SHIFT_TYPES)}")
        self.bins = 5 if events_bins_5_avg_1 else 1
        self.clip_range = tuple(events_clip_range) if events_clip_range is not None else None
        self.events_num = events_num
        self.image_change_range = image_change_range
        self.shift_type = shift_type
        self.params = ContentParams.from_config(isr_parms, NIGHT_PARAMS, "DSECDataset.isr_parms")
        frames = read_frame_list(dataset_txt_path, root_path)
        self.read_from = describe_folders(dataset_txt_path, frames)
        self._check_files(frames, dataset_txt_path)
        self.recordings = {f.sequence_dir: EventRecording(f.events_file, f.rectify_map_file) for f in frames}
        self.left_out = ""
        self.frames, self.windows = self._event_windows(frames, dataset_txt_path)
        for recording in self.recordings.values():
            if "events_vg" in self.outputs:
                # a bad map shall show now, not when a sample first needs it
                recording.rectify_map  # noqa: B018
            recording.close()
        self.cache = ArrayCache(cache, self.cache_layout()) if cache else None

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
        """First and last event of every frame. Training leaves out frames without events; a test must not."""
        if "events_vg" not in self.outputs:
            return frames, [(0, 0)] * len(frames)
        index = {f.sequence_dir: read_event_index(f.index_file) for f in frames} if not self.events_num else {}
        usable, windows, empty = [], [], []
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
            if not usable or not self.crop:
                raise DataError(f"{message}; take them off the list or lower image_change_range")
            self.left_out = f"{message}; they are left out of training"
        return usable, windows

    @property
    def sample_size(self) -> tuple[int, int]:
        """(height, width) of a training sample, or of a test sample where no crop is set."""
        return self.resized or self.test_size

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
        return DSECDraw(crop, float(rng.uniform(*self.clip_range)) if self.clip_range else None)

    def sample(self, index: int, draw: DSECDraw | None) -> dict[str, Any]:
        """Load one sample; ``draw`` None gives the top 440 rows of the whole frame."""
        frame, sample = self.frames[index], {}
        if self.outputs & {"warp_image", "warp_img_self_res"}:
            image = self._cut(self._image(index), draw)
            if "warp_image" in self.outputs:
                sample["warp_image"] = normalize_image(np.asarray(image))
            if "warp_img_self_res" in self.outputs:
                direction = self.shift_type
                if direction == "random":
                    direction = random_direction(draw.crop.x, draw.crop.y) if draw else "rightdown"
                content = content_map(grey_tensor(image), self.params, direction)
                sample["warp_img_self_res"] = three_channels(content)
        if "events_vg" in self.outputs:
            sample["events_vg"] = three_channels(self._events(index, draw))
        if "label" in self.outputs:
            sample["label"] = label_tensor(self._open(open_label, frame.label, LABEL_REMEDY))[0, :TEST_ROWS]
        if "img_metas" in self.outputs:
            name = f"{frame.sequence}_{frame.frame:06d}"
            sample["img_metas"] = {"name": name, "sequence": frame.sequence, "frame": frame.frame}
        return sample

    def _image(self, index: int) -> Image.Image:
        if self.cache is not None:
            return Image.fromarray(self.cache.row("image", index))
        return self._open(open_image, self.frames[index].warp_image, "RGB")

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
            image, size = image.crop((0, 0, image.width, TEST_ROWS)), self.test_size
        else:
            image, size = draw.crop.apply(image, self.crop[1], self.crop[0]), self.resized
        return image.resize(size[::-1], Image.Resampling.BILINEAR)

    def _events(self, index: int, draw: DSECDraw | None) -> Tensor:
        """Normalised voxel grid, (1, H, W). It is normalised over the whole frame, then cut."""
        standard = self._standard_grid(index) if self.cache is None else self.cache.row("events", index)
        clip = self._clip_range(*self.windows[index], draw)
        if draw is None:
            rows, columns, size = slice(TEST_ROWS), slice(None), self.test_size
        else:
            size = self.resized
            rows = slice(draw.crop.y, draw.crop.y + self.crop[0])
            columns = slice(draw.crop.x, draw.crop.x + self.crop[1])
        normal = torch.from_numpy(rescale_array(standard, clip, rows, columns)).mean(dim=0, keepdim=True)
        if draw is not None and draw.crop.flip:
            normal = normal.flip(-1)
        if size != normal.shape[1:]:
            normal = F.interpolate(normal[None], size=size, mode="bilinear", align_corners=False)[0]
        return normal

    def _standard_grid(self, index: int) -> np.ndarray:
        """Voxel grid of a frame, (bins, 480, 640), standardised."""
        frame = self.frames[index]
        grid = self.recordings[frame.sequence_dir].voxel_grid(*self.windows[index], self.bins)
        return standardize_events(grid)

    def _clip_range(self, start: int, finish: int, draw: DSECDraw | None) -> float:
        if draw is not None and draw.clip_range is not None:
            return draw.clip_range
        if self.clip_range is not None:
            # A test draws nothing: the middle of the range stands for it.
            return sum(self.clip_range) / 2
        return event_clip_range(start, finish)

    def cache_layout(self) -> CacheLayout:
        """Images, and standardised voxel grids, which are not clipped yet: training may draw the clip range."""
        arrays, sources = {}, set()
        if self.outputs & {"warp_image", "warp_img_self_res"}:
            arrays["image"] = ((HEIGHT, WIDTH, 3), "uint8")
            sources |= {frame.warp_image for frame in self.frames}
        parameters = {"dataset": type(self).__name__}
        if "events_vg" in self.outputs:
            arrays["events"] = ((self.bins, HEIGHT, WIDTH), "float32")
            sources |= {path for f in self.frames for path in (f.events_file, f.rectify_map_file)}
            parameters["bins"] = self.bins
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
