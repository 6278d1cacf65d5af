"""Tiny runs and tests for the report, written by the evaluation itself."""

import json
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from mmseg.classes import CITYSCAPES_19, DSEC_ABSENT_CLASSES
from mmseg.evaluation.evaluator import evaluate
from mmseg.work_dir.log_file import PERCENT

HEIGHT, WIDTH = 48, 64
ROAD, BUILDING, SKY, CAR, TRAIN = 0, 2, 10, 13, 16
# Share of the pixels that an output gets wrong.
NOISE = {"image": 0.4, "events": 0.6, "fusion": 0.2}


class Streets(Dataset):
    """Frames with sky, building and road; cars in every second one, a train in the last."""

    TEST_STREAMS = {"image": "warp_image", "events": "events_vg"}
    ABSENT_CLASSES = DSEC_ABSENT_CLASSES
    classes = CITYSCAPES_19
    prediction_size = (HEIGHT, WIDTH)

    def __init__(self, frames: int, labelled: bool = True) -> None:
        self.frames, self.labelled = frames, labelled

    def __len__(self) -> int:
        return self.frames

    def label(self, index: int) -> torch.Tensor:
        """(H, W) int64 train ids."""
        label = torch.full((HEIGHT, WIDTH), BUILDING)
        label[:12], label[30:] = SKY, ROAD
        if index % 2:
            label[28:40, 10 : 20 + 4 * index] = CAR
        if index == self.frames - 1:
            label[20:30, 40:60] = TRAIN
        label[-2:] = 255
        return label

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng(index)
        image = torch.from_numpy(rng.normal(-1, 0.4, (3, HEIGHT, WIDTH)))
        events = torch.from_numpy(rng.normal(0, 0.4, (1, HEIGHT, WIDTH))).clamp(-1, 1).repeat(3, 1, 1)
        sample = {"warp_image": image, "events_vg": events, "img_metas": {"name": f"night_{index:02d}"}}
        return {**sample, "label": self.label(index)} if self.labelled else sample


class NoisyTruth:
    """Stands for a segmentor: the label with wrong pixels, the more the later the frame."""

    def __init__(self, streets: Streets, noise: float) -> None:
        self.streets, self.noise, self.index = streets, noise, -1

    def required_streams(self, output: str) -> tuple[str, ...]:
        """Streams that an output needs."""
        return {"image": ("image",), "events": ("events",)}.get(output, ("image", "events"))

    def predict(self, inputs: dict, output: str, size: tuple[int, int]) -> torch.Tensor:
        """(1, H, W) int64."""
        self.index += 1
        truth = self.streets.label(self.index)
        rng = np.random.default_rng(self.index)
        wrong = torch.from_numpy(rng.random((HEIGHT, WIDTH)) < self.noise * (1 + self.index) / len(self.streets))
        predicted = torch.where(truth == 255, ROAD, truth)
        return torch.where(wrong, torch.where(predicted == BUILDING, SKY, BUILDING), predicted)[None]


def make_test(folder: Path, output: str = "fusion", frames: int = 5, labelled: bool = True, **options) -> Path:
    """Folder of a test."""
    streets = Streets(frames, labelled)
    tested = {"checkpoint": "runs/x/iter_40.pth", "model": "student", "config": "runs/x/x.json"}
    tested |= options.pop("tested", {})
    options = {"panels": True, **options}
    model = NoisyTruth(streets, options.pop("noise", NOISE[output]))
    evaluate(model, streets, output, torch.device("cpu"), folder, tested=tested, **options)
    return folder


def make_run(
    folder: Path, outputs: tuple[str, ...] = ("fusion", "image", "events"), points: int = 20, **options
) -> Path:
    """Work dir with a log and a test of each output."""
    folder.mkdir(parents=True)
    (folder / f"{folder.name}.json").write_text("{}")
    lines = [
        {"mode": "train", "iter": i, "decode.loss_seg": 2 / i, "mix.decode.loss_seg": 3 / i, "lr": 1e-4, "time": 0.1}
        for i in range(1, points + 1)
    ]
    scores = ({"mIoU": i / 0.6, "mIoU_18": i / 0.57, "aAcc": 60.0, "IoU.road": 70.0} for i in (10, 20))
    lines += [{"mode": "val", "iter": i, **PERCENT, **of} for i, of in zip((10, 20), scores, strict=True)]
    (folder / f"{folder.name}.log.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for number, output in enumerate(outputs):
        make_test(folder / ("preds" if not number else f"preds_{output}"), output, **options)
    return folder
