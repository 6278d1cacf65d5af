"""Unpaired pictures that train the style-transfer generator: image changes (A) and night event frames (B).

Folders, as CycleGAN names them: ``trainA``, ``trainB``, and ``testA``, ``testB`` with held-out pictures; 8-bit grey
PNG of one size, 128 where nothing changes. :mod:`mmseg.style_transfer.make_pictures` writes them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mmseg.datasets.crops import CropDraw
from mmseg.datasets.preprocessing import signed_tensor
from mmseg.errors import ConfigError, DataError
from mmseg.io.files import visible
from mmseg.io.image_files import open_image
from mmseg.io.json_files import read_json

MANIFEST = "style_transfer_data.json"
MAKE_COMMAND = "python tools/make_style_transfer_data.py"
# Domain -> letter of its folders.
DOMAINS = {"change": "A", "events": "B"}
# separates the random stream of the training pairs from those of other samples
PAIR_KEY = 3


def to_levels(signed: Tensor) -> np.ndarray:
    """Map in [-1, 1] -> uint8 levels of the same shape, round((v + 1) / 2 * 255)."""
    return np.around((signed.numpy() + 1) / 2 * 255).astype(np.uint8)


def from_levels(image: Image.Image) -> Tensor:
    """8-bit grey picture -> (1, H, W) float32 in [-1, 1], as in the training of CMDA."""
    return signed_tensor(image)[None]


def _is_complete(manifest: Path) -> bool:
    try:
        return read_json(manifest).get("complete") is True
    except DataError:
        return False


def domain_pictures(root: str | Path, part: str, domain: str) -> list[Path]:
    """Pictures of a domain, by name.

    Args:
        root: folder of the four folders.
        part: ``train`` or ``test``.
        domain: ``change`` or ``events``.

    Raises:
        DataError: there are none, or they are incomplete.
    """
    root = Path(root)
    folder = root / f"{part}{DOMAINS[domain]}"
    found = visible(folder, "*.png")
    if not found:
        raise DataError(f"{folder} holds no *.png; make them with '{MAKE_COMMAND} {root}'")
    if (root / MANIFEST).is_file() and not _is_complete(root / MANIFEST):
        raise DataError(f"{root} is incomplete; run '{MAKE_COMMAND} {root}' again with its options")
    return found


class UnpairedPictures(Dataset):
    """Pairs of random crops for training, one per domain. Sample k depends only on (seed, k).

    Args:
        root: folder of ``trainA`` and ``trainB``.
        crop: side of the square crop in pixels.
        seed: seed of the draws.

    Raises:
        DataError: a folder has no pictures.
        ConfigError: pictures are smaller than the crop (the first of each domain is checked).
    """

    def __init__(self, root: str | Path, crop: int, seed: int) -> None:
        self.paths = {domain: domain_pictures(root, "train", domain) for domain in DOMAINS}
        self.root = root
        self.crop = crop
        self.seed = seed
        for paths in self.paths.values():
            self._check_size(paths[0], open_image(paths[0], "L"))

    def _check_size(self, path: Path, picture: Image.Image) -> None:
        if min(picture.size) < self.crop:
            raise ConfigError(
                f"{path} is {picture.width}x{picture.height}: a crop of {self.crop}x{self.crop} does not fit; give a "
                "smaller --crop"
            )

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """``change`` and ``events``, (1, crop, crop) in [-1, 1]."""
        rng = np.random.default_rng([PAIR_KEY, self.seed, number])
        return {domain: self._draw(paths, rng) for domain, paths in self.paths.items()}

    def describe(self, number: int) -> str:
        """Which sample it is, for messages."""
        return f"pair {number} from {self.root}"

    def _draw(self, paths: list[Path], rng: np.random.Generator) -> Tensor:
        path = paths[int(rng.integers(len(paths)))]
        picture = open_image(path, "L")
        self._check_size(path, picture)
        draw = CropDraw.make(rng, *picture.size, self.crop, self.crop)
        return from_levels(draw.apply(picture, self.crop, self.crop))


def whole_picture(path: Path) -> Tensor:
    """A picture cropped to multiples of 4, whose size the generator preserves: (1, H, W) in [-1, 1].

    Raises:
        DataError: it cannot be read.
    """
    picture = open_image(path, "L")
    return from_levels(picture.crop((0, 0, picture.width // 4 * 4, picture.height // 4 * 4)))
