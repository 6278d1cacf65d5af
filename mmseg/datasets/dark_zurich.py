"""Dark Zurich: night images without events; the target domain of the image-only task."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from mmseg.datasets.base import Size, check_choice, check_outputs
from mmseg.datasets.crops import CropDraw
from mmseg.datasets.image_folder import ImageFolder, PathOf
from mmseg.datasets.layouts import DARK_ZURICH, DARK_ZURICH_SPLITS, dark_zurich_split
from mmseg.datasets.preprocessing import ContentSettings, image_tensor, label_tensor, three_channels
from mmseg.errors import ConfigError, DataError
from mmseg.extractors.content import NIGHT_PARAMS, SHIFT_TYPES, ContentParams, IsrParms, params_of_data_type
from mmseg.io.image_files import open_image
from mmseg.registry import DATASETS

OUTPUTS = ("image", "night_isr", "label", "img_metas")
# Parameters of the content map by dz_isr_data_type, used if isr_parms gives none.
DATA_TYPES = {"night": NIGHT_PARAMS, "new_night": ContentParams((500.0, 1000.0), 0.02, 0.12, 3)}


@DATASETS.register_module()
class DarkZurichICDataset(ImageFolder):
    """Night images of one split; random crops for training, whole images for testing.

    Files are sorted by sequence and name. An image is resized, its content map is extracted from the whole resized
    image, and both are cropped and flipped together.

    Args:
        dataset_path: root with ``rgb_anon/<split>/night/<sequence>`` and ``gt/<split>/night/<sequence>``.
        test_mode: whole images of ``val`` in place of crops of ``train``.
        outputs: any of ``image`` (3, H, W) normalised, ``night_isr`` (3, H, W) in [-1, 1], ``label`` (1, H, W) int64,
            ``img_metas`` (``name``, ``sequence``); a test always gives the last.
        image_resize_size, image_crop_size: (width, height).
        image_resize_size2: only None.
        shift_type: shift of the content map; ``random`` derives it from the crop's corner.
        isr_parms: parameters of the content map; '' or None for those of ``dz_isr_data_type``.
        dz_isr_data_type: ``night`` (published) or ``new_night``.
        high_resolution_isr: see :class:`.ContentSettings`.
        auto_threshold, shift_3_channel: only False.
        split: ``train``, ``val`` or ``test``; None derives it from ``test_mode``. The test split has no labels.
        cache: folder made by ``tools/cache_events.py``, to read resized images from.

    Raises:
        DataError: a folder or file is missing, or two images have the same name.
        ConfigError: a value that cannot be used.
    """

    TITLE = "Dark Zurich"
    LAYOUT = DARK_ZURICH
    LABEL_REMEDY = f"extract *{DARK_ZURICH.label_suffix} again from the Dark Zurich archive of the split (docs/data.md)"
    # Input stream of the network -> output of a test sample. The content map takes the place of the events.
    TEST_STREAMS = {"image": "image", "events": "night_isr", "img_self_res": "night_isr"}
    ABSENT_CLASSES: tuple[int, ...] = ()

    def __init__(
        self,
        dataset_path: str | Path,
        test_mode: bool = False,
        outputs: Iterable[str] = ("image", "night_isr"),
        image_resize_size: tuple[int, int] = (960, 540),
        image_crop_size: tuple[int, int] = (512, 512),
        image_resize_size2: None = None,
        shift_type: str = "rightdown",
        isr_parms: IsrParms = None,
        dz_isr_data_type: str = "night",
        high_resolution_isr: bool = False,
        auto_threshold: bool = False,
        shift_3_channel: bool = False,
        split: str | None = None,
        cache: str | Path | None = None,
    ) -> None:
        where = type(self).__name__
        for key, value, off in (
            ("image_resize_size2", image_resize_size2, None),
            ("auto_threshold", auto_threshold, False),
            ("shift_3_channel", shift_3_channel, False),
        ):
            if value:
                raise ConfigError(f"{where}.{key}={value!r} is not available; set it to {off}")
        split = check_choice(dark_zurich_split(split, test_mode), DARK_ZURICH_SPLITS, f"{where}.split")
        self.content = self.content_settings(
            where,
            isr_parms=isr_parms,
            shift_type=shift_type,
            dz_isr_data_type=dz_isr_data_type,
            high_resolution_isr=high_resolution_isr,
        )
        outputs = check_outputs(outputs, OUTPUTS, f"{where}.outputs")
        if test_mode:
            outputs |= {"img_metas"}
        if split == "test" and not (Path(dataset_path) / "gt" / "test").is_dir():
            outputs -= {"label"}
        super().__init__(dataset_path, split, where, image_resize_size, None if test_mode else image_crop_size, outputs)
        self._check_names()
        if "label" in self.outputs:
            remedy = f"add them (see data/README.md) or take 'label' out of the outputs of the {split} split"
            self.check_files("label", self.label_path, remedy)
        self.open_cache(cache)

    @staticmethod
    def content_settings(
        where: str,
        *,
        isr_parms: IsrParms,
        shift_type: str,
        dz_isr_data_type: str,
        high_resolution_isr: bool,
        **_: Any,
    ) -> ContentSettings:
        """How the arguments of this class say that content maps are extracted; ``where`` is for messages."""
        return ContentSettings(
            params_of_data_type(isr_parms, dz_isr_data_type, DATA_TYPES, where, "dz_isr_data_type"),
            check_choice(shift_type, SHIFT_TYPES, f"{where}.shift_type"),
            high_resolution_isr,
        )

    def _check_names(self) -> None:
        first: dict[str, str] = {}
        for name in self.names:
            file = self.image_path(name).name
            if file in first:
                paths = [self.image_path(each) for each in (first[file], name)]
                raise DataError(f"{paths[0]} and {paths[1]} have the same name, and so would their predictions")
            first[file] = name

    @property
    def file_names(self) -> list[str]:
        """File names of the images, which are also those of their predictions."""
        return [self.image_path(name).name for name in self.names]

    @property
    def prediction_size(self) -> Size:
        """(height, width) of labels and predictions of a test."""
        return self.size[1], self.size[0]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A whole image, for testing."""
        return self.sample(index, None)

    def sample(self, index: int, draw: CropDraw | None) -> dict[str, Any]:
        """Load one sample; ``draw`` None gives the whole resized image."""
        name, sample = self.names[index], dict[str, Any]()
        if self.outputs & {"image", "night_isr"}:
            image = self.resized("image", index)
            if "image" in self.outputs:
                sample["image"] = image_tensor(self._cut(image, draw))
            if "night_isr" in self.outputs:
                original = open_image(self.image_path(name), "RGB") if self.content.from_original else image
                sample["night_isr"] = three_channels(self._content_map(original, draw))
        if "label" in self.outputs:
            sample["label"] = label_tensor(self._cut(self.load_label(index), draw))
        if "img_metas" in self.outputs:
            path = self.image_path(name)
            sample["img_metas"] = {"name": path.stem, "sequence": path.parent.name}
        return sample

    def _cut(self, image: Image.Image, draw: CropDraw | None) -> Image.Image:
        return image if draw is None else draw.apply(image, *self.crop)

    def _content_map(self, image: Image.Image, draw: CropDraw | None) -> Tensor:
        """Content map (H, W) of a whole image, resized like the image, then cropped and flipped."""
        content = self.content.content_map(image, self.prediction_size, None if draw is None else (draw.x, draw.y))
        if draw is None:
            return content
        width, height = self.crop
        content = content[draw.y : draw.y + height, draw.x : draw.x + width]
        return content.flip(-1) if draw.flip else content

    def cached_files(self) -> dict[str, PathOf]:
        """Images."""
        return {"image": self.image_path}
