"""Cityscapes with labels, image change and content maps: the source domain."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from mmseg.datasets.base import check_choice, check_outputs
from mmseg.datasets.crops import CropDraw
from mmseg.datasets.image_folder import ImageFolder, PathOf
from mmseg.datasets.layouts import CITYSCAPES, MOTION_FOLDERS
from mmseg.datasets.preprocessing import (
    ContentSettings,
    image_tensor,
    label_tensor,
    resize_image,
    signed_tensor,
    three_channels,
)
from mmseg.extractors.content import CITYSCAPES_PARAMS, SHIFT_TYPES, ContentParams, IsrParms, params_of_data_type
from mmseg.io.image_files import open_image
from mmseg.registry import DATASETS

OUTPUTS = ("image", "label", "img_time_res", "img_self_res")
# Parameters of the content map by cs_isr_data_type, used if isr_parms gives none.
DATA_TYPES = {"day": CITYSCAPES_PARAMS, "new_day": ContentParams((1e-5, 255 + 1e-5), 0.0, 0.04, 3)}


@DATASETS.register_module()
class CityscapesICDataset(ImageFolder):
    """Day images with labels; every sample is a random crop of the resized image.

    Files are sorted by name, so an index means the same image on every machine.

    Args:
        dataset_path: root with ``leftImg8bit``, ``gtFine`` and ``leftImg8bit_IC1``.
        image_resize_size, image_crop_size: (width, height).
        outputs: any of ``image`` (3, H, W) normalised, ``label`` (1, H, W) int64, ``img_time_res`` and
            ``img_self_res`` (3, H, W) in [-1, 1].
        return_GI_or_IC: ``image_change`` or ``gray_image`` as ``img_time_res``.
        shift_type: shift of the content map; ``random`` derives it from the crop's x and the flip.
        isr_parms: parameters of the content map; '' or None for those of ``cs_isr_data_type``.
        cs_isr_data_type: ``day`` (published) or ``new_day``.
        high_resolution_isr: see :class:`.ContentSettings`.
        split: folder below ``leftImg8bit``.
        cache: folder made by ``tools/cache_events.py``, to read resized images and labels from.

    Raises:
        DataError: a folder or file is missing.
        ConfigError: an unknown output or shift, or a crop larger than the image.
    """

    TITLE = "Cityscapes"
    LAYOUT = CITYSCAPES
    LABEL_REMEDY = "redraw it from polygons or label ids: 'python tools/convert_datasets/cityscapes.py {} --force'"

    def __init__(
        self,
        dataset_path: str | Path,
        image_resize_size: tuple[int, int] = (1024, 512),
        image_crop_size: tuple[int, int] = (512, 512),
        outputs: Iterable[str] = ("image", "label"),
        return_GI_or_IC: str = "image_change",
        shift_type: str = "rightdown",
        isr_parms: IsrParms = None,
        cs_isr_data_type: str = "day",
        high_resolution_isr: bool = False,
        split: str = "train",
        cache: str | Path | None = None,
    ) -> None:
        where = "data.train.source"
        self.motion_folder = MOTION_FOLDERS[check_choice(return_GI_or_IC, MOTION_FOLDERS, f"{where}.return_GI_or_IC")]
        self.content = ContentSettings(
            params_of_data_type(isr_parms, cs_isr_data_type, DATA_TYPES, where, "cs_isr_data_type"),
            check_choice(shift_type, SHIFT_TYPES, f"{where}.shift_type"),
            high_resolution_isr,
        )
        outputs = check_outputs(outputs, OUTPUTS, f"{where}.outputs")
        super().__init__(dataset_path, split, where, image_resize_size, image_crop_size, outputs)
        if "label" in self.outputs:
            remedy = "run 'python tools/convert_datasets/cityscapes.py' on the Cityscapes folder"
            self.check_files("label", self.label_path, remedy)
        if "img_time_res" in self.outputs:
            remedy = "make them with tools/make_image_change.py, or set return_GI_or_IC='gray_image'"
            self.check_files("img_time_res", self.motion_path, remedy)
        self.open_cache(cache)

    def _find_names(self) -> list[str]:
        # Sorted as text, which differs from the order of the paths if a city's name begins with that of another.
        return sorted(super()._find_names())

    def motion_path(self, name: str) -> Path:
        """Image change (or image) of a name."""
        return self.root / self.motion_folder / self.split / f"{name}{self.LAYOUT.image_suffix}"

    def read_resized(self, array: str, name: str) -> Image.Image:
        """Read and resize a file of a name; also ``img_time_res``."""
        if array == "img_time_res":
            return resize_image(open_image(self.motion_path(name), "L"), (self.size[1], self.size[0]))
        return super().read_resized(array, name)

    def sample(self, index: int, draw: CropDraw, label: Image.Image | None = None) -> dict[str, Tensor]:
        """Load one sample.

        Args:
            index: position in ``names``.
            draw: crop and flip.
            label: what :meth:`load_label` returned, to avoid reading it twice.
        """
        sample = {}
        if self.outputs & {"image", "img_self_res"}:
            image = draw.apply(self.resized("image", index), *self.crop)
            if "image" in self.outputs:
                sample["image"] = image_tensor(image)
            if "img_self_res" in self.outputs:
                sample["img_self_res"] = three_channels(self._content_map(index, image, draw))
        if "label" in self.outputs:
            label = label or self.load_label(index)
            sample["label"] = label_tensor(draw.apply(label, *self.crop))
        if "img_time_res" in self.outputs:
            change = draw.apply(self.resized("img_time_res", index), *self.crop)
            sample["img_time_res"] = three_channels(signed_tensor(change))
        return sample

    def _content_map(self, index: int, image: Image.Image, draw: CropDraw) -> Tensor:
        """Content map (H, W) of the cropped image, or a crop of the map of the flipped whole image."""
        parities = draw.x, int(draw.flip)
        width, height = self.crop
        if not self.content.from_original:
            return self.content.content_map(image, (height, width), parities)
        original = open_image(self.image_path(self.names[index]), "RGB")
        if draw.flip:
            original = original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        content = self.content.content_map(original, (self.size[1], self.size[0]), parities)
        x = self.size[0] - draw.x - width if draw.flip else draw.x
        return content[draw.y : draw.y + height, x : x + width]

    def cached_files(self) -> dict[str, PathOf]:
        """Files that the outputs need; labels always, since rare class sampling reads them."""
        files: dict[str, PathOf] = {}
        if self.outputs & {"image", "img_self_res"}:
            files["image"] = self.image_path
        files["label"] = self.label_path
        if "img_time_res" in self.outputs:
            files["img_time_res"] = self.motion_path
        return files

    def cache_parameters(self) -> dict[str, Any]:
        """Settings that a cache depends on, besides the files and the size."""
        motion = {"motion": self.motion_folder} if "img_time_res" in self.outputs else {}
        return {**super().cache_parameters(), **motion}
