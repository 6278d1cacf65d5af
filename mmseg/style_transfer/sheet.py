"""Sample sheets: held-out pictures of both domains, translated there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from mmseg.style_transfer.cyclegan import CycleGAN
from mmseg.style_transfer.measure import translate
from mmseg.style_transfer.pictures import whole_picture
from mmseg.visualization.panels import panel, save_picture, signed_picture

# Rows of a sheet, and the largest side of its pictures.
ROWS = 3
SIDE = 256


class SampleSheet:
    """Draws the first held-out pictures.

    Args:
        held_out: their files by domain, ``change`` before ``events``.
    """

    def __init__(self, held_out: dict[str, list[Path]]) -> None:
        self.pairs = list(zip(*(paths[:ROWS] for paths in held_out.values()), strict=False))

    def write(self, model: CycleGAN, path: Path) -> np.ndarray:
        """Write a sheet; return it as (H, W, 3) uint8 RGB.

        Raises:
            OSError: the file cannot be written.
        """
        model.eval()
        shown = {}
        for row, paths in enumerate(self.pairs, start=1):
            change, events = (_centre(whole_picture(path)) for path in paths)
            fake_events, fake_change = translate(model.to_events, change), translate(model.to_change, events)
            for title, picture in (
                ("image change", change),
                ("to events", fake_events),
                ("and back", translate(model.to_change, fake_events)),
                ("night events", events),
                ("to change", fake_change),
                ("and back to events", translate(model.to_events, fake_change)),
            ):
                shown[f"{row}: {title}"] = signed_picture(picture)
        model.train()
        sheet = panel(shown, columns=6)
        save_picture(path, sheet)
        return sheet


def _centre(picture: Tensor) -> Tensor:
    """Middle of a picture (1, H, W), at most ``SIDE`` pixels per side."""
    height, width = picture.shape[1:]
    side = min(SIDE, height, width)
    y, x = (height - side) // 2, (width - side) // 2
    return picture[:, y : y + side, x : x + side]
