"""Dark Zurich: night images without events; the target domain of the image-only task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mmseg.datasets.cache import ArrayCache, CacheLayout
from mmseg.datasets.crops import (
    CropDraw,
    check_crop,
    check_outputs,
    grey_tensor,
    label_tensor,
    three_channels,
)
from mmseg.datasets.normalization import normalize_image
from mmseg.errors import ConfigError, DataError
from mmseg.extractors.content import (
    NIGHT_PARAMS,
    SHIFT_TYPES,
    ContentParams,
    params_of_data_type,
    random_direction,
    resized_content_map,
)
from mmseg.io.files import visible
from mmseg.io.image_files import open_image, open_label
from mmseg.registry import DATASETS

OUTPUTS = ("image", "night_isr", "label", "img_metas")
SPLITS = ("train", "val", "test")
# Parameters of the content map by dz_isr_data_type, where isr_parms gives none.
DATA_TYPES = {"night": NIGHT_PARAMS, "new_night": ContentParams((500.0, 1000.0), 0.02, 0.12, 3)}
IMAGE_SUFFIX, LABEL_SUFFIX = "_rgb_anon.png", "_gt_labelTrainIds.png"
LABEL_REMEDY = f"extract *{LABEL_SUFFIX} again from the Dark Zurich archive of the split (docs/data.md)"


@DATASETS.register_module()
class DarkZurichICDataset(Dataset):
    """Night images of one split; random crops for training, whole images for testing.

    Files are taken in order of sequence and name. An image is resized, its content map is extracted from the whole
    resized image, and both are cropped and flipped alike.

    Args:
        dataset_path: root with ``rgb_anon/<split>/night/<sequence>`` and ``gt/<split>/night/<sequence>``.
        test_mode: whole images of ``val`` in place of crops of ``train``.
        outputs: any of ``image`` (3, H, W) normalised, ``night_isr`` (3, H, W) in [-1, 1], ``label`` (1, H, W) int64,
            ``img_metas`` (``name``, ``sequence``); a test always gives the last.
        image_resize_size, image_crop_size: (width, height).
        image_resize_size2: only None.
        shift_type: shift of the content map; ``random`` takes it from the crop's corner.
        isr_parms: parameters of the content map; '' or None for those of ``dz_isr_data_type``.
        dz_isr_data_type: ``night`` or ``new_night``, the parameters where ``isr_parms`` gives none.
        high_resolution_isr: extract the content map from the image at its own size and resize the map. The published
            configs do not use it; that the map is resized bilinearly, with smoothing, is our reading.
        auto_threshold, shift_3_channel: only False.
        split: ``train``, ``val`` or ``test``; None takes it from ``test_mode``. The test split has no labels to give.
        cache: folder made by ``tools/cache_events.py``, to read resized images from.

    Raises:
        DataError: a folder or file is missing, or two images bear one name.
        ConfigError: a value that cannot be used.
    """

    # Input stream of the network -> output of a test sample. The content map takes the place of the events.
    TEST_STREAMS = {"image": "image", "events": "night_isr", "img_self_res": "night_isr"}
    ABSENT_CLASSES = ()
    left_out = ""

    def __init__(
        self,
        dataset_path: str,
        test_mode: bool = False,
        outputs: Iterable[str] = ("image", "night_isr"),
        image_resize_size: tuple[int, int] = (960, 540),
        image_crop_size: tuple[int, int] = (512, 512),
        image_resize_size2: None = None,
        shift_type: str = "rightdown",
        isr_parms: Mapping[str, Any] | str | None = None,
        dz_isr_data_type: str = "night",
        high_resolution_isr: bool = False,
        auto_threshold: bool = False,
        shift_3_channel: bool = False,
        split: str | None = None,
        cache: str | None = None,
    ) -> None:
        for key, value, off in (
            ("image_resize_size2", image_resize_size2, None),
            ("auto_threshold", auto_threshold, False),
            ("shift_3_channel", shift_3_channel, False),
        ):
            if value:
                raise ConfigError(f"DarkZurichICDataset.{key}={value!r} is not available; set it to {off}")
        if shift_type not in SHIFT_TYPES:
            raise ConfigError(
                f"DarkZurichICDataset.shift_type is {shift_type!r}; choose one of {', '.join(SHIFT_TYPES)}"
            )
        self.split = split or ("val" if test_mode else "train")
        if self.split not in SPLITS:
            raise ConfigError(f"DarkZurichICDataset.split is {split!r}; choose one of {', '.join(SPLITS)}")
        self.root = Path(dataset_path)
        self.size = tuple(image_resize_size)
        self.crop = None if test_mode else tuple(image_crop_size)
        if self.crop:
            check_crop(self.crop, self.size, "DarkZurichICDataset.image_crop_size")
        self.shift_type = shift_type
        self.params = params_of_data_type(
            isr_parms, dz_isr_data_type, DATA_TYPES, "DarkZurichICDataset", "dz_isr_data_type"
        )
        self.high_resolution_isr = high_resolution_isr
        self.outputs = check_outputs(outputs, OUTPUTS, "DarkZurichICDataset.outputs")
        if test_mode:
            self.outputs |= {"img_metas"}
        if self.split == "test" and not (self.root / "gt" / "test").is_dir():
            self.outputs -= {"label"}
        self.read_from = f"frames are read from {self.root}"
        self.names = self._find_images()
        if "label" in self.outputs:
            self._check_labels()
        self.cache = ArrayCache(cache, self.cache_layout()) if cache else None

    def _find_images(self) -> list[str]:
        """Names ``<sequence>/<sequence>_frame_<number>`` of the split, sorted."""
        folder = self.root / "rgb_anon" / self.split / "night"
        if not folder.is_dir():
            raise DataError(f"{folder} does not exist; put Dark Zurich there (see data/README.md) or set dataset_path")
        files = visible(folder, f"*/*{IMAGE_SUFFIX}")
        if not files:
            raise DataError(f"{folder} holds no <sequence>/*{IMAGE_SUFFIX}; see data/README.md")
        first: dict[str, Path] = {}
        for path in files:
            if path.name in first:
                raise DataError(f"{first[path.name]} and {path} bear one name, and so would their predictions")
            first[path.name] = path
        return [f"{path.parent.name}/{path.name.removesuffix(IMAGE_SUFFIX)}" for path in files]

    def _check_labels(self) -> None:
        missing = [path for path in map(self.label_path, self.names) if not path.is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(self.names)} labels are missing, the first is {missing[0]}; add them (see "
                f"data/README.md) or take 'label' out of the outputs of the {self.split} split"
            )

    def image_path(self, name: str) -> Path:
        """Image file of a name."""
        return self.root / "rgb_anon" / self.split / "night" / f"{name}{IMAGE_SUFFIX}"

    def label_path(self, name: str) -> Path:
        """Train id map of a name."""
        return self.root / "gt" / self.split / "night" / f"{name}{LABEL_SUFFIX}"

    @property
    def file_names(self) -> list[str]:
        """File names of the images, which their predictions bear too."""
        return [self.image_path(name).name for name in self.names]

    @property
    def sample_size(self) -> tuple[int, int]:
        """(height, width) of a sample."""
        return (self.crop or self.size)[::-1]

    @property
    def prediction_size(self) -> tuple[int, int]:
        """(height, width) of labels and predictions of a test."""
        return self.size[::-1]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A whole image, for testing."""
        return self.sample(index, None)

    def describe(self, index: int) -> str:
        """Which file a sample is made of, for messages."""
        return str(self.image_path(self.names[index]))

    def draw(self, rng: np.random.Generator) -> CropDraw:
        """Draw crop and flip of a training sample."""
        return CropDraw.make(rng, *self.size, *self.crop)

    def sample(self, index: int, draw: CropDraw | None) -> dict[str, Any]:
        """Load one sample; ``draw`` None gives the whole resized image."""
        name, sample = self.names[index], {}
        if self.outputs & {"image", "night_isr"}:
            image = self._resized(index)
            if "image" in self.outputs:
                sample["image"] = normalize_image(np.asarray(self._cut(image, draw)))
            if "night_isr" in self.outputs:
                original = open_image(self.image_path(name), "RGB") if self.high_resolution_isr else image
                content = self._content_map(original, draw)
                sample["night_isr"] = three_channels(content)
        if "label" in self.outputs:
            label = open_label(self.label_path(name), LABEL_REMEDY).resize(self.size, Image.Resampling.NEAREST)
            sample["label"] = label_tensor(self._cut(label, draw))
        if "img_metas" in self.outputs:
            path = self.image_path(name)
            sample["img_metas"] = {"name": path.stem, "sequence": path.parent.name}
        return sample

    def _resized(self, index: int) -> Image.Image:
        if self.cache is not None:
            return Image.fromarray(self.cache.row("image", index))
        return open_image(self.image_path(self.names[index]), "RGB").resize(self.size, Image.Resampling.BILINEAR)

    def _cut(self, image: Image.Image, draw: CropDraw | None) -> Image.Image:
        return image if draw is None else draw.apply(image, *self.crop)

    def _content_map(self, image: Image.Image, draw: CropDraw | None) -> Tensor:
        """Content map (H, W) of a whole image; it is resized as the image is, then cut."""
        direction = self.shift_type
        if direction == "random":
            direction = random_direction(draw.x, draw.y) if draw else "rightdown"
        content = resized_content_map(grey_tensor(image), self.params, direction, self.size[::-1])
        if draw is None:
            return content
        width, height = self.crop
        content = content[draw.y : draw.y + height, draw.x : draw.x + width]
        return content.flip(-1) if draw.flip else content

    def cache_layout(self) -> CacheLayout:
        """Resized images."""
        return CacheLayout(
            where="DarkZurichICDataset",
            parameters={"dataset": type(self).__name__, "split": self.split},
            rows=self.names,
            root=self.root,
            sources=list(map(self.image_path, self.names)),
            arrays={"image": ((*self.size[::-1], 3), "uint8")},
        )

    def cache_row(self, index: int) -> dict[str, np.ndarray]:
        """Arrays of :meth:`cache_layout` for one image."""
        return {"image": np.asarray(self._resized(index))}
