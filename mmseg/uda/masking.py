"""Masked image consistency (MIC; Hoyer et al., CVPR 2023), for one stream and for several.

The student sees inputs whose cells are partly hidden, and learns the labels that the teacher gives to the whole ones.
With a single stream this is MIC. Several streams hide the same cells, or different ones: what an image hides, its
events or its content map may then show.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmseg.config.uda import Masking
from mmseg.uda.class_mix import Supervision
from mmseg.uda.draws import MaskDraws


def shown_cells(values: np.ndarray, ratio: float, streams: int, shared: bool) -> np.ndarray:
    """Which cells each stream shows: those whose value exceeds the ratio.

    Streams that do not share their cells take the values shifted by 0, 1/n, 2/n ... in a circle. Taken by itself, each
    is masked as MIC masks an image; together they show as many cells as they can: every cell is shown by
    ``n * (1 - ratio)`` of the ``n`` streams, rounded down or up.

    Args:
        values: uniform in [0, 1), (B, rows, columns).
        ratio: share of the cells that are hidden, in [0, 1).
        streams: number n of streams.

    Returns:
        (B, n, rows, columns) bool.
    """
    shifts = np.zeros(streams) if shared else np.arange(streams) / streams
    return (values[:, None] + shifts[:, None, None]) % 1 > ratio


@torch.no_grad()
def hide_cells(
    streams: Mapping[str, Tensor], masking: Masking, draws: MaskDraws, among: Container[str]
) -> dict[str, Tensor]:
    """Set cells of the inputs to 0: the mean colour in an image, nothing in events and content maps.

    Args:
        streams: inputs, (B, C, H, W) each; those that are not masked are returned as they are.
        draws: of these B samples.
        among: names of the streams to mask.

    Raises:
        ConfigError: a cell is larger than the inputs.
    """
    names = [name for name in streams if name in among]
    if not names:
        return dict(streams)
    some = streams[names[0]]
    size = (some.shape[2], some.shape[3])
    shown = shown_cells(draws.cells(*masking.grid(size)), masking.ratio, len(names), masking.shared)
    cells = torch.from_numpy(shown).to(some.device, non_blocking=True)
    mask = F.interpolate(cells.to(some.dtype), size=size)
    return {**streams, **{name: streams[name] * mask[:, i : i + 1] for i, name in enumerate(names)}}


def first_of_two(source: Tensor, target: Tensor) -> Tensor:
    """Of every two pairs, source and target of the first one; (B, ...) as the arguments, with an even B."""
    return torch.stack((source[::2], target[::2]), dim=1).flatten(0, 1)


def supervise_first_of_two(label: Tensor, target: Supervision) -> Supervision:
    """Supervision of :func:`first_of_two`; pixels of the source have weight 1.

    Args:
        label: of the source, (B, H, W) int64.
        target: with weight.
    """
    weight = target["weight"]
    return Supervision(label=first_of_two(label, target["label"]), weight=first_of_two(torch.ones_like(weight), weight))
