"""Base of the data sets whose images and label maps lie in folders by split and sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from mmseg.classes import CITYSCAPES_19, ClassSet
from mmseg.datasets.base import Size, pair
from mmseg.datasets.cache import ArrayCache, CacheLayout
from mmseg.datasets.crops import CropDraw, check_crop
from mmseg.datasets.labels import open_stored_label, to_classes
from mmseg.datasets.layouts import FolderLayout
from mmseg.datasets.preprocessing import resize_image, resize_label
from mmseg.errors import DataError
from mmseg.io.image_files import open_image

PathOf = Callable[[str], Path]


class ImageFolder(Dataset, ABC):
    """Images of one split, all resized to one size; training takes random crops of them.

    Args:
        root: folder of the data set.
        split: split to read.
        where: config section, for messages.
        size: (width, height) that images are resized to.
        crop: (width, height) of training crops; None for a test, which takes whole images.
        outputs: names of the entries of a sample.

    Attributes:
        names: ``<sequence>/<name>`` of every image, in the order of the indices.
        cache: resized images and labels, if the config names a cache.
        classes: class set of the labels in samples; files and caches hold stored label ids.

    Raises:
        DataError: the folder of the split is missing or empty.
        ConfigError: a crop larger than the images.
    """

    TITLE: ClassVar[str]
    LAYOUT: ClassVar[FolderLayout]
    LABEL_REMEDY: ClassVar[str]
    left_out = ""
    classes: ClassSet = CITYSCAPES_19

    def __init__(
        self,
        root: str | Path,
        split: str,
        where: str,
        size: Iterable[int],
        crop: Iterable[int] | None,
        outputs: frozenset[str],
    ) -> None:
        self.root, self.split, self.where = Path(root), split, where
        self.size: tuple[int, int] = pair(size)
        self.crop: tuple[int, int] = pair(crop) if crop else self.size
        check_crop(self.crop, self.size, f"{where}.image_crop_size")
        self.outputs = outputs
        self.read_from = f"frames are read from {self.root}"
        self.names = self._find_names()
        self.cache: ArrayCache | None = None

    def _find_names(self) -> list[str]:
        folder = self.LAYOUT.image_folder(self.root, self.split)
        if not folder.is_dir():
            raise DataError(
                f"{folder} does not exist; put {self.TITLE} there (see data/README.md) or set {self.where}.dataset_path"
            )
        names = self.LAYOUT.names(self.root, self.split)
        if not names:
            raise DataError(f"{folder} holds no <sequence>/*{self.LAYOUT.image_suffix}; see data/README.md")
        return names

    def check_files(self, output: str, path_of: PathOf, remedy: str) -> None:
        """Refuse a data set that lacks files of an output.

        Raises:
            DataError: naming the first missing file, and ``remedy``.
        """
        missing = [path for path in map(path_of, self.names) if not path.is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(self.names)} files are missing for the output {output!r}, the first is "
                f"{missing[0]}; {remedy}"
            )

    def open_cache(self, folder: str | Path | None) -> None:
        """Read from a cache, see :class:`.ArrayCache`; None reads from the files."""
        self.cache = ArrayCache(folder, self.cache_layout()) if folder else None

    def image_path(self, name: str) -> Path:
        """Image file of a name."""
        return self.LAYOUT.image(self.root, self.split, name)

    def label_path(self, name: str) -> Path:
        """Train id map of a name."""
        return self.LAYOUT.label(self.root, self.split, name)

    @property
    def sample_size(self) -> Size:
        """(height, width) of a training sample."""
        return self.crop[1], self.crop[0]

    def __len__(self) -> int:
        return len(self.names)

    def describe(self, index: int) -> str:
        """Image file of a sample, for messages."""
        return str(self.image_path(self.names[index]))

    def draw(self, rng: np.random.Generator) -> CropDraw:
        """Draw crop and flip of a training sample."""
        return CropDraw.make(rng, *self.size, *self.crop)

    @abstractmethod
    def sample(self, index: int, draw: Any) -> dict[str, Any]:
        """Load one sample."""

    def load_label(self, index: int) -> Image.Image:
        """Resized label map, in the classes of the class set."""
        return to_classes(self.resized("label", index), self.classes, self.label_path(self.names[index]))

    def resized(self, array: str, index: int) -> Image.Image:
        """Resized image (``image``), label map (``label``) or other file of a sample, from the cache if that has it."""
        if self.cache is not None and array in self.cache:
            return Image.fromarray(self.cache.row(array, index))
        return self.read_resized(array, self.names[index])

    def read_resized(self, array: str, name: str) -> Image.Image:
        """Read and resize a file of a name."""
        size = self.size[1], self.size[0]
        if array == "label":
            remedy = self.LABEL_REMEDY.format(self.root)
            return resize_label(open_stored_label(self.label_path(name), remedy, self.classes), size)
        return resize_image(open_image(self.image_path(name), "RGB"), size)

    @abstractmethod
    def cached_files(self) -> Mapping[str, PathOf]:
        """Arrays that a cache holds: name -> file of an image name. ``image`` is RGB, the others have one channel."""

    def cache_parameters(self) -> dict[str, Any]:
        """Settings that a cache depends on, besides the files and the size."""
        return {"dataset": type(self).__name__, "split": self.split}

    def cache_layout(self) -> CacheLayout:
        """Resized files, as far as the outputs need them."""
        files, shape = self.cached_files(), (self.size[1], self.size[0])
        return CacheLayout(
            where=self.where,
            parameters=self.cache_parameters(),
            rows=self.names,
            root=self.root,
            sources=[path_of(name) for path_of in files.values() for name in self.names],
            arrays={array: ((*shape, 3) if array == "image" else shape, "uint8") for array in files},
        )

    def cache_row(self, index: int) -> dict[str, np.ndarray]:
        """Arrays of :meth:`cache_layout` for one image."""
        return {array: np.asarray(self.resized(array, index)) for array in self.cached_files()}
