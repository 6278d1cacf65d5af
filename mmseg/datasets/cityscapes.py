"""Cityscapes with labels, image change and content maps: the source domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
    CITYSCAPES_PARAMS,
    SHIFT_TYPES,
    ContentParams,
    content_map,
    params_of_data_type,
    random_direction,
    resized_content_map,
)
from mmseg.io.files import visible
from mmseg.io.image_files import open_image, open_label
from mmseg.registry import DATASETS

OUTPUTS = ("image", "label", "img_time_res", "img_self_res")
LABEL_REMEDY = "draw it anew from polygons or label ids: 'python tools/convert_datasets/cityscapes.py {} --force'"
# Where the input of the Image Motion-Extractor comes from, by return_GI_or_IC.
MOTION_FOLDERS = {"image_change": "leftImg8bit_IC1", "gray_image": "leftImg8bit"}
# Parameters of the content map by cs_isr_data_type, where isr_parms gives none.
DATA_TYPES = {"day": CITYSCAPES_PARAMS, "new_day": ContentParams((1e-5, 255 + 1e-5), 0.0, 0.04, 3)}


@DATASETS.register_module()
class CityscapesICDataset(Dataset):
    """Day images with labels; every sample is a random crop of the resized image.

    Files are taken in order of name, so an index means the same image on every machine.

    Args:
        dataset_path: root with ``leftImg8bit``, ``gtFine`` and ``leftImg8bit_IC1``.
        image_resize_size, image_crop_size: (width, height).
        outputs: any of ``image`` (3, H, W) normalised, ``label`` (1, H, W) int64, ``img_time_res`` and
            ``img_self_res`` (3, H, W) in [-1, 1].
        return_GI_or_IC: ``image_change`` or ``gray_image`` as ``img_time_res``.
        shift_type: shift of the content map; ``random`` takes it from the crop's x and the flip.
        isr_parms: parameters of the content map; '' or None for those of ``cs_isr_data_type``.
        cs_isr_data_type: ``day`` (published) or ``new_day``, the parameters where ``isr_parms`` gives none.
        high_resolution_isr: extract the content map from the image at its own size and resize the map. The published
            configs do not use it; that the map is resized bilinearly, with smoothing, is our reading.
        split: folder below ``leftImg8bit``.
        cache: folder made by ``tools/cache_events.py``, to read resized images and labels from.

    Raises:
        DataError: a folder or file is missing.
        ConfigError: an unknown output or shift, or a crop larger than the image.
    """

    def __init__(
        self,
        dataset_path: str,
        image_resize_size: tuple[int, int] = (1024, 512),
        image_crop_size: tuple[int, int] = (512, 512),
        outputs: Iterable[str] = ("image", "label"),
        return_GI_or_IC: str = "image_change",
        shift_type: str = "rightdown",
        isr_parms: Mapping[str, Any] | str | None = None,
        cs_isr_data_type: str = "day",
        high_resolution_isr: bool = False,
        split: str = "train",
        cache: str | None = None,
    ) -> None:
        where = "data.train.source"
        self.root = Path(dataset_path)
        self.size = tuple(image_resize_size)
        self.crop = tuple(image_crop_size)
        check_crop(self.crop, self.size, f"{where}.image_crop_size")
        self.outputs = check_outputs(outputs, OUTPUTS, f"{where}.outputs")
        if return_GI_or_IC not in MOTION_FOLDERS:
            raise ConfigError(
                f"{where}.return_GI_or_IC is {return_GI_or_IC!r}; choose one of {', '.join(MOTION_FOLDERS)}"
            )
        if shift_type not in SHIFT_TYPES:
            raise ConfigError(f"{where}.shift_type is {shift_type!r}; choose one of {', '.join(SHIFT_TYPES)}")
        self.shift_type = shift_type
        self.params = params_of_data_type(isr_parms, cs_isr_data_type, DATA_TYPES, where, "cs_isr_data_type")
        self.high_resolution_isr = high_resolution_isr
        self.split = split
        self.motion_folder = MOTION_FOLDERS[return_GI_or_IC]
        self.names = self._find_images()
        self._check_companions()
        self.cache = ArrayCache(cache, self.cache_layout()) if cache else None

    def _find_images(self) -> list[str]:
        """Names ``<city>/<city>_<sequence>_<frame>`` of the split, sorted."""
        folder = self.root / "leftImg8bit" / self.split
        if not folder.is_dir():
            raise DataError(
                f"{folder} does not exist; put Cityscapes there (see data/README.md) or set "
                "data.train.source.dataset_path"
            )
        suffix = "_leftImg8bit.png"
        names = [f"{path.parent.name}/{path.name.removesuffix(suffix)}" for path in visible(folder, f"*/*{suffix}")]
        if not names:
            raise DataError(f"{folder} holds no <city>/*{suffix}; see data/README.md")
        return sorted(names)

    def image_path(self, name: str) -> Path:
        """Image file of a name."""
        return self.root / "leftImg8bit" / self.split / f"{name}_leftImg8bit.png"

    def label_path(self, name: str) -> Path:
        """Train id map of a name."""
        return self.root / "gtFine" / self.split / f"{name}_gtFine_labelTrainIds.png"

    def motion_path(self, name: str) -> Path:
        """Image change (or image) of a name."""
        return self.root / self.motion_folder / self.split / f"{name}_leftImg8bit.png"

    def _check_companions(self) -> None:
        remedies = {
            "label": (
                self.label_path,
                "run 'python tools/convert_datasets/cityscapes.py' on the Cityscapes folder",
            ),
            "img_time_res": (
                self.motion_path,
                "make them with tools/make_image_change.py, or set return_GI_or_IC='gray_image'",
            ),
        }
        for output, (path_of, remedy) in remedies.items():
            if output not in self.outputs:
                continue
            missing = [path for path in map(path_of, self.names) if not path.is_file()]
            if missing:
                raise DataError(
                    f"{len(missing)} of {len(self.names)} files are missing for the output {output!r}, the first "
                    f"is {missing[0]}; {remedy}"
                )

    @property
    def sample_size(self) -> tuple[int, int]:
        """(height, width) of a sample."""
        return self.crop[::-1]

    def __len__(self) -> int:
        return len(self.names)

    def describe(self, index: int) -> str:
        """Which file a sample is made of, for messages."""
        return str(self.image_path(self.names[index]))

    def draw(self, rng: np.random.Generator) -> CropDraw:
        """Draw crop and flip of a sample."""
        return CropDraw.make(rng, *self.size, *self.crop)

    def load_label(self, index: int) -> Image.Image:
        """Resized label map."""
        return self._resized("label", index)

    def _resized(self, array: str, index: int) -> Image.Image:
        """A file of a sample, resized; ``array`` is one of :meth:`cache_layout`."""
        if self.cache is not None:
            return Image.fromarray(self.cache.row(array, index))
        name = self.names[index]
        if array == "label":
            return open_label(self.label_path(name), LABEL_REMEDY.format(self.root)).resize(
                self.size, Image.Resampling.NEAREST
            )
        path, mode = (self.image_path(name), "RGB") if array == "image" else (self.motion_path(name), "L")
        return open_image(path, mode).resize(self.size, Image.Resampling.BILINEAR)

    def sample(self, index: int, draw: CropDraw, label: Image.Image | None = None) -> dict[str, Tensor]:
        """Load one sample.

        Args:
            index: position in ``names``.
            draw: crop and flip.
            label: the resized label, where it is at hand already.
        """
        sample = {}
        if self.outputs & {"image", "img_self_res"}:
            image = draw.apply(self._resized("image", index), *self.crop)
            if "image" in self.outputs:
                sample["image"] = normalize_image(np.asarray(image))
            if "img_self_res" in self.outputs:
                direction = self.shift_type
                if direction == "random":
                    direction = random_direction(draw.x, int(draw.flip))
                if self.high_resolution_isr:
                    content = self._high_resolution_content(index, draw, direction)
                else:
                    content = content_map(grey_tensor(image), self.params, direction)
                sample["img_self_res"] = three_channels(content)
        if "label" in self.outputs:
            label = label or self.load_label(index)
            sample["label"] = label_tensor(draw.apply(label, *self.crop))
        if "img_time_res" in self.outputs:
            change = draw.apply(self._resized("img_time_res", index), *self.crop)
            change = torch.from_numpy(np.array(change)).float()
            sample["img_time_res"] = three_channels((change / 255 - 0.5) / 0.5)
        return sample

    def _high_resolution_content(self, index: int, draw: CropDraw, direction: str) -> Tensor:
        """Content map of the flipped whole image at its own size, resized and cropped."""
        original = open_image(self.image_path(self.names[index]), "RGB")
        if draw.flip:
            original = original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        content = resized_content_map(grey_tensor(original), self.params, direction, self.size[::-1])
        width, height = self.crop
        x = self.size[0] - draw.x - width if draw.flip else draw.x
        return content[draw.y : draw.y + height, x : x + width]

    def cache_layout(self) -> CacheLayout:
        """Resized images, labels and image changes, as far as the outputs need them."""
        paths = {"image": self.image_path, "label": self.label_path, "img_time_res": self.motion_path}
        shape = self.size[::-1]
        arrays = {"image": ((*shape, 3), "uint8"), "label": (shape, "uint8"), "img_time_res": (shape, "uint8")}
        needed = self._cached_arrays()
        parameters = {"dataset": type(self).__name__, "split": self.split}
        if "img_time_res" in needed:
            parameters["motion"] = self.motion_folder
        return CacheLayout(
            where="data.train.source",
            parameters=parameters,
            rows=self.names,
            root=self.root,
            sources=[paths[array](name) for array in needed for name in self.names],
            arrays={array: arrays[array] for array in needed},
        )

    def cache_row(self, index: int) -> dict[str, np.ndarray]:
        """Arrays of :meth:`cache_layout` for one image."""
        return {array: np.asarray(self._resized(array, index)) for array in self._cached_arrays()}

    def _cached_arrays(self) -> list[str]:
        """Names of the arrays that the outputs need; rare class sampling reads labels whatever the outputs are."""
        readers = {"image": {"image", "img_self_res"}, "label": {"label"}, "img_time_res": {"img_time_res"}}
        return [array for array, outputs in readers.items() if outputs & (self.outputs | {"label"})]
