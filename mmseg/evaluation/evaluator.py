"""Evaluation of a segmentor on a test set: predictions as files, scores, panels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmseg.classes import CITYSCAPES_19, ClassSet
from mmseg.datasets.base import EvaluationSet
from mmseg.engine.data import Loader, read
from mmseg.engine.prediction import Copies, Predictor, one_behind
from mmseg.engine.stages import Stages
from mmseg.errors import CMDAError, DataError, own_message
from mmseg.evaluation.metrics import FrameScores, Scores, none_if_nan, scores
from mmseg.evaluation.missing import with_zeros
from mmseg.evaluation.regions import RegionScores, count_pixels, input_grey, region_scores, whole
from mmseg.io.files import write_text
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.visualization.panels import (
    color_label,
    image_picture,
    label_picture,
    panel,
    save_picture,
    signed_picture,
)
from mmseg.work_dir.layout import TestFolder

# Key of the error message that replaces a sample whose files are unusable
UNUSABLE = "unusable"


@dataclass(frozen=True)
class Evaluation:
    """Result of a test run.

    Attributes:
        samples: number of predicted frames.
        scores: None if the samples have no labels.
        left_out: why frames were not predicted, one message each.
        regions: scores by region of the image, empty without labels.
    """

    output: str
    samples: int
    scores: Scores | None
    left_out: tuple[str, ...] = ()
    regions: tuple[RegionScores, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``metrics.json``; undefined values are None."""
        result: dict[str, Any] = {"output": self.output, "samples": self.samples}
        if self.left_out:
            result["left_out"] = list(self.left_out)
        if self.scores is not None:
            result["scores"] = {key: none_if_nan(value) for key, value in self.scores.summary().items()}
            result["per_class"] = self.scores.per_class()
            result["regions"] = {region.name: region.as_dict() for region in self.regions}
        return result

    def headline(self) -> str:
        """One line with the main scores, in percent."""
        if self.scores is None:
            return f"{self.samples} images predicted ({self.output} output); no labels, no score"
        shown = ", ".join(f"{k} {100 * v:.2f}" for k, v in list(self.scores.summary().items())[:4])
        without = f" ({len(self.left_out)} left out)" if self.left_out else ""
        return f"{self.output} output on {self.samples} images{without}: {shown}"


def evaluate(
    model: BaseSegmentor,
    dataset: EvaluationSet,
    output: str,
    device: torch.device,
    out_dir: str | Path,
    panels: bool = False,
    color: bool = False,
    workers: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
    tested: Mapping[str, Any] | None = None,
    skip_bad_samples: bool = False,
    predictor: Predictor | None = None,
    missing: frozenset[str] = frozenset(),
) -> Evaluation:
    """Predict every sample of a test set with a model in eval mode.

    Threads write the files of a frame while the next frames are predicted.

    Writes ``<name>.png`` (classes), ``metrics.json`` and ``details.json`` (:func:`details`), with ``color`` also
    ``color/<name>.png`` and with ``panels`` ``panels/<name>.png``.

    Args:
        model: the segmentor, on ``device``.
        dataset: test set.
        output: name of the model's output.
        out_dir: folder of the files; created if missing.
        panels: draw inputs, prediction and label side by side.
        color: also write predictions in the colours of the classes.
        workers: loader processes.
        progress: wraps the loader, e.g. with a progress bar.
        tested: what was tested, for ``metrics.json``.
        skip_bad_samples: leave out frames with unusable files, and list them in ``metrics.json`` (``left_out``).
        predictor: predicts with the model; by default in the precision of its weights, without CUDA graphs.
        missing: input streams that are replaced by zeros, see :func:`.missing_streams`. Panels still show them.

    Raises:
        DataError: a frame has unusable files; with ``skip_bad_samples``, all frames have.
    """
    files = TestFolder(out_dir)
    for folder, wanted in ((files.path, True), (files.color, color), (files.panels, panels)):
        if wanted:
            folder.mkdir(parents=True, exist_ok=True)
    predictor = predictor or Predictor(model, device)
    counts: np.ndarray | None = None
    frames: list[FrameScores | str] = []
    titles: list[str] = []
    left_out: list[str] = []
    samples = _UsableSamples(dataset) if skip_bad_samples else dataset
    on_gpu = device.type == "cuda"
    loader = Loader(samples, batch_size=1, num_workers=workers, pin_memory=on_gpu)
    write = partial(_write_frame, output=output, files=files, color=color, panels=panels, classes=dataset.classes)
    try:
        with Stages() as stages:
            predicted = one_behind(_begun(predictor, read(loader, progress), dataset, output, left_out, missing))
            for frame in stages.each(write, predicted):
                titles = frame.titles
                if frame.counts is None:
                    frames.append(frame.name)
                else:
                    counts = frame.counts if counts is None else counts + frame.counts
                    frames.append(FrameScores.of(frame.name, whole(frame.counts)))
    except CMDAError as error:
        raise own_message(error) from error
    if not frames:
        raise DataError(f"no frame of the test set is usable; the first: {left_out[0]}")
    absent = dataset.classes.absent(dataset.ABSENT_CLASSES)
    total, found, regions = None, None, []
    if counts is not None:
        total, names = whole(counts), dataset.classes.names
        found, regions = scores(total, absent, names), region_scores(counts, absent, names)
    result = Evaluation(output, len(frames), found, tuple(left_out), tuple(regions))
    write_text(files.details, details(frames, titles, total, absent, dataset.classes))
    write_text(files.metrics, json.dumps({**(tested or {}), **result.as_dict()}, indent=1) + "\n")
    return result


@dataclass(frozen=True)
class _Frame:
    """A predicted frame.

    Attributes:
        name: name of the frame.
        predicted: (H, W) uint8 classes.
        label: true label, (1, H, W) or (1, 1, H, W), if any.
        image: input image (3, h, w) if the samples have one.
        draw: draws the inputs.
    """

    name: str
    predicted: np.ndarray
    label: Tensor | None
    image: Tensor | None
    draw: Callable[[], dict[str, np.ndarray]]


@dataclass(frozen=True)
class _WrittenFrame:
    """A frame whose files are written: name, counts of :func:`count_pixels` if it has a label, titles of its panel."""

    name: str
    counts: np.ndarray | None
    titles: list[str]


def _begun(
    predictor: Predictor,
    batches: Iterable[Mapping[str, Any]],
    dataset: EvaluationSet,
    output: str,
    left_out: list[str],
    missing: frozenset[str],
) -> Iterator[Callable[[], _Frame]]:
    """Start the prediction of each sample; calling a result waits for it. Fills ``left_out``."""

    def finish(copies: Copies, batch: Mapping[str, Any], streams: Mapping[str, Tensor]) -> _Frame:
        draw = partial(sample_pictures, streams, dataset.TEST_STREAMS, dataset.prediction_size)
        image = streams["image"][0] if "image" in streams else None
        return _Frame(batch["img_metas"]["name"][0], copies.arrays()["label"][0], batch.get("label"), image, draw)

    for batch in batches:
        if UNUSABLE in batch:
            left_out += batch[UNUSABLE]
            continue
        streams = {stream: batch[key] for stream, key in dataset.TEST_STREAMS.items() if key in batch}
        begun = predictor.begin(with_zeros(streams, missing), output, dataset.prediction_size)
        yield partial(finish, begun, batch, streams)


def _write_frame(
    frame: _Frame, output: str, files: TestFolder, color: bool, panels: bool, classes: ClassSet
) -> _WrittenFrame:
    """Write the files of a frame and count its pixels."""
    counts, titles = None, []
    if frame.label is not None:
        size = frame.predicted.shape
        grey = None if frame.image is None else input_grey(frame.image, size)
        counts = count_pixels(frame.predicted, frame.label.numpy().reshape(size), grey, len(classes))
    save_picture(files.prediction(frame.name), frame.predicted)
    if color:
        save_picture(files.color_prediction(frame.name), color_label(frame.predicted, classes))
    if panels:
        pictures = {**frame.draw(), f"prediction ({output})": color_label(frame.predicted, classes)}
        pictures |= {} if frame.label is None else {"label": label_picture(frame.label[0], classes)}
        save_picture(files.panel(frame.name), panel(pictures))
        titles = list(pictures)
    return _WrittenFrame(frame.name, counts, titles)


class _UsableSamples(Dataset):
    """A test set in which an error message replaces a sample with unusable files."""

    def __init__(self, dataset: EvaluationSet) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return self.dataset[index]
        except CMDAError as error:
            return {UNUSABLE: str(error)}


def details(
    frames: Sequence[FrameScores | str],
    panel_titles: Sequence[str],
    counts: np.ndarray | None,
    absent_classes: Iterable[int],
    classes: ClassSet = CITYSCAPES_19,
) -> str:
    """Text of ``details.json``, which reports need in addition to ``metrics.json``: a JSON object, one line per frame.

    Undefined values are null. Keys:

    * ``classes``, ``absent``: names of all classes, and of those that the labels of the set never contain;
    * ``palette``: colours of the classes; left out for the 19 of Cityscapes;
    * ``panel``: titles of the pictures of a panel from left to right; null without panels;
    * ``confusion``: pixels by label (row) and prediction (column); null without labels;
    * ``frames``: the name of each frame and, with labels, ``mIoU`` over the classes in its label, and by class ``IoU``,
      ``label_pixels``, ``predicted_pixels`` (of those with a label) and ``hits``.

    Args:
        frames: scores by frame, or only the names if there are no labels.
        panel_titles: titles, empty without panels.
        counts: (classes, classes) int64; None without labels.
        absent_classes: indices of the classes.
        classes: all classes.
    """

    def rounded(value: float) -> float | None:
        return None if math.isnan(value) else round(float(value), 6)

    def line(frame: FrameScores | str) -> dict[str, Any]:
        if isinstance(frame, str):
            return {"name": frame}
        counts = {"label_pixels": frame.label_pixels, "predicted_pixels": frame.predicted_pixels, "hits": frame.hits}
        return {
            "name": frame.name,
            "mIoU": rounded(frame.mean_iou),
            "IoU": [rounded(value) for value in frame.iou],
            **{key: of.tolist() for key, of in counts.items() if of is not None},
        }

    def lines(rows: Iterable[Any]) -> str:
        return "[\n  " + ",\n  ".join(map(json.dumps, rows)) + "\n ]"

    parts = {
        "classes": json.dumps(classes.names),
        **({} if classes == CITYSCAPES_19 else {"palette": json.dumps(classes.palette)}),
        "absent": json.dumps([classes.names[i] for i in absent_classes]),
        "panel": json.dumps(list(panel_titles) or None),
        "confusion": "null" if counts is None else lines(counts.tolist()),
        "frames": lines(map(line, frames)),
    }
    return "{\n " + ",\n ".join(f'"{key}": {text}' for key, text in parts.items()) + "\n}\n"


def sample_pictures(
    streams: Mapping[str, Tensor], keys: Mapping[str, str], size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Pictures (H, W, 3) of ``size`` by stream. If streams share an output of the sample, only the last is drawn."""
    by_key = {keys[stream]: stream for stream in streams}
    pictures = {
        stream: (image_picture if stream == "image" else signed_picture)(streams[stream][0])
        for stream in by_key.values()
    }
    return {
        stream: cv2.resize(picture, size[::-1], interpolation=cv2.INTER_NEAREST) for stream, picture in pictures.items()
    }
