"""Image Motion-Extractor, IME: the image change of two consecutive day frames (CMDA, section 3.2).

The style-transfer generator that translates an image change to night-like events is in
``mmseg.models.resnet_generator``.
"""

from __future__ import annotations

import numpy as np
import torch

from mmseg.events.normalize import rescale_halves

LOG_OFFSET = 50
THRESHOLD = 0.1
CLIP_RANGE = 0.8


def image_change(
    current: np.ndarray,
    previous: np.ndarray,
    log_offset: float = LOG_OFFSET,
    threshold: float = THRESHOLD,
    clip_range: float = CLIP_RANGE,
) -> np.ndarray:
    """Log-intensity change between two frames as an 8-bit image.

    Args:
        current, previous: (H, W) uint8 grey frames at times t and t-1.
        log_offset: added to the grey level before the logarithm.
        threshold: smallest absolute change kept.
        clip_range: largest absolute change.

    Returns:
        (H, W) uint8, round((d + 1) / 2 * 255) of the change d in [-1, 1]; 128 where nothing changes.
    """
    log_current, log_previous = (np.log(f.astype(np.float32) + log_offset) for f in (current, previous))
    change = log_current - log_previous
    change[np.abs(change) <= threshold] = 0
    scaled = rescale_halves(torch.from_numpy(change), clip_range).numpy()
    return np.around((scaled + 1) / 2 * 255).astype(np.uint8)
