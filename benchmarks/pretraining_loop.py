"""The training of ``toy_pretraining.py``."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.engine.environment import choose_device
from mmseg.io.files import atomic_path
from mmseg.io.image_files import open_image
from mmseg.models.losses import resize_logits
from mmseg.registry import SEGMENTORS
from mmseg.uda.augment import gaussian_blur, renormalize

HEAD = dict(
    type="DAFormerHead",
    in_channels=[32, 64, 160, 256],
    channels=32,
    num_classes=19,
    decoder_params=dict(embed_dims=32, fusion_cfg=dict(type="aspp", sep=True, dilations=(1, 6, 12, 18), pool=False)),
)
# Side of a crop before it is resized, in pixels.
CROPS = (88, 256)
LEARNING_RATE, WARM_UP = 1e-3, 100


def load(data: str) -> tuple[Tensor, Tensor]:
    """All day images (N, 3, H, W) uint8 and labels (N, 1, H, W) uint8."""
    dataset = CityscapesICDataset(data, (512, 256), (256, 256))
    images = [np.asarray(open_image(dataset.image_path(name), "RGB")) for name in dataset.names]
    labels = [np.asarray(dataset.load_label(i)) for i in range(len(dataset))]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(labels))[:, None]


def crop(rng: np.random.Generator, images: Tensor, labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """One random crop, flipped or not, resized: image (3, S, S) in [0, 1], label (S, S) int64."""
    i, side = int(rng.integers(len(images))), int(rng.integers(*CROPS))
    y, x = (int(rng.integers(length - side + 1)) for length in images.shape[2:])
    image, label = (part[i : i + 1, :, y : y + side, x : x + side].float() for part in (images, labels))
    image = F.interpolate(image / 255, size=(size, size), mode="bilinear", antialias=True)[0]
    label = F.interpolate(label, size=(size, size), mode="nearest")[0, 0].long()
    return (image.flip(-1), label.flip(-1)) if rng.random() < 0.5 else (image, label)


def relight(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Change the light in an image (3, S, S) in [0, 1]: an uneven field, lamps, or the negative.

    The brightest regions by day need not be so at night; an encoder trained like this relies on shape and texture.
    """
    side = image.shape[-1]
    if rng.random() < 0.6:
        cells = int(rng.integers(2, 8))
        field = torch.from_numpy(rng.normal(0, 0.6, (1, 1, cells, cells)).astype(np.float32))
        image = image * F.interpolate(field, size=(side, side), mode="bicubic")[0].exp()
    if rng.random() < 0.2:
        image = 1 - image.clamp(0, 1)
    if rng.random() < 0.4:
        grid = torch.arange(side, dtype=torch.float32)
        for _ in range(rng.integers(1, 5)):
            x, y = rng.uniform(0, side, 2)
            square = ((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (side * rng.uniform(0.01, 0.15)) ** 2
            color = torch.from_numpy(rng.uniform(0.3, 1, (3, 1, 1)).astype(np.float32))
            image = image + color * (rng.uniform(0.3, 3) / (1 + square) ** 1.5)
    return image


def disturb(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Random light, exposure, contrast, colour, blur and noise of an image (3, S, S) in [0, 1]."""
    image = relight(rng, image)
    image = image.clamp(1e-4, 2) ** math.exp(rng.normal(0, 0.4))
    image = image * math.exp(rng.uniform(math.log(0.08), math.log(1.6)))
    image = image * torch.from_numpy(np.exp(rng.normal(0, 0.15, (3, 1, 1)))).float()
    if rng.random() < 0.3:
        image = image.mean(dim=0, keepdim=True).repeat(3, 1, 1)
    if rng.random() < 0.4:
        image = gaussian_blur(image[None].clamp(0, 1), rng.uniform(0.3, 1.5))[0]
    noise = torch.from_numpy(rng.standard_normal(image.shape, np.float32)) * rng.exponential(0.02)
    return (image + noise).clamp(0, 1)


def pretrain(data: str, out: Path, iterations: int, batch: int, size: int, seed: int) -> None:
    """Train, then write the encoder.

    Args:
        data: Cityscapes tree.
        out: file to write.
        iterations, batch, size, seed: options of the script.
    """
    device = choose_device()
    torch.manual_seed(seed)
    images, labels = load(data)
    model = SEGMENTORS.build(dict(type="EncoderDecoder", backbone=dict(type="mit_b0"), decode_head=HEAD)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / WARM_UP, 1) * (0.5 + 0.5 * math.cos(math.pi * i / iterations))
    )
    rng = np.random.default_rng(seed)
    right = []
    for iteration in track(range(iterations), description=f"pretraining on {device}"):
        samples = [crop(rng, images, labels, size) for _ in range(batch)]
        inputs = renormalize(torch.stack([disturb(rng, image) for image, _ in samples])).to(device)
        target = torch.stack([label for _, label in samples]).to(device)
        logits = resize_logits(model({"image": inputs}).logits["image"], target.shape[1:])
        loss = F.cross_entropy(logits, target, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        right.append((logits.argmax(1) == target).float().mean().item())
        if (iteration + 1) % 200 == 0:
            print(f"iteration {iteration + 1}: {100 * np.mean(right[-200:]):.1f} % pixel accuracy", flush=True)
    weights = {key: value.half().cpu() for key, value in model.backbone.state_dict().items()}
    with atomic_path(out) as path:
        torch.save(weights, path)
