"""Pseudo-labels as files: label, confidence and overlay of every image of a set, whether it has labels or not.

A run that ended early goes on where it stopped. Results of another checkpoint, other settings or other images are never
mixed in: a record of what was predicted is written before the first of them, and compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from mmseg.classes import ClassSet
from mmseg.datasets.base import EvaluationSet
from mmseg.datasets.frames import FramesDataset
from mmseg.engine.data import Loader, read
from mmseg.engine.prediction import Copies, Predictor, one_behind
from mmseg.engine.stages import Stages
from mmseg.errors import CMDAError, ConfigError, own_message
from mmseg.evaluation.evaluator import sample_pictures
from mmseg.evaluation.missing import with_zeros
from mmseg.io.files import write_text
from mmseg.visualization.panels import color_label, confidence_picture, overlay_picture, save_picture
from mmseg.work_dir.layout import TestFolder

# Opacity of the colours in overlays.
OPACITY = 0.5


@dataclass(frozen=True)
class PseudoLabels:
    """Result of a run: numbers of images in the set and of those predicted before, and the mean confidence of all."""

    samples: int
    before: int
    confidence: float

    def headline(self) -> str:
        """One line for people."""
        before = f", {self.before:,} of them before" if self.before else ""
        return f"{self.samples:,} images predicted{before}; mean confidence {self.confidence:.3f}"


def identity(dataset: EvaluationSet, checkpoint: str | Path) -> dict[str, Any]:
    """What decides on pseudo-labels besides the settings: the content of the checkpoint, and the images.

    Raises:
        ConfigError: the checkpoint cannot be read.
    """
    try:
        with open(checkpoint, "rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{checkpoint} cannot be read ({error.strerror})") from error
    described = "\n".join(map(dataset.describe, range(len(dataset))))
    if isinstance(dataset, FramesDataset):
        # Its first line says how events map onto images.
        with dataset.manifest.path.open(encoding="utf-8") as file:
            described += f"\n{file.readline()}"
    images = hashlib.sha256(described.encode("utf-8", "surrogateescape")).hexdigest()
    return {"weights": weights, "images": images, "samples": len(dataset)}


def write_pseudo_labels(
    predictor: Predictor,
    dataset: EvaluationSet,
    output: str,
    out_dir: str | Path,
    workers: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
    missing: frozenset[str] = frozenset(),
) -> PseudoLabels:
    """Predict every image of a set that has no pseudo-label in the folder yet.

    Writes ``<name>.png`` (classes), ``confidence/<name>.png`` (probability of the class, 0..255),
    ``overlay/<name>.png``, and, when these are complete, a line in ``frames.jsonl``.

    Args:
        predictor: predicts with a model in eval mode.
        dataset: test set; its labels are not read.
        output: name of the model's output.
        out_dir: folder of the files. What is in it must be of this run.
        workers: loader processes.
        progress: wraps the loader, e.g. with a progress bar.
        missing: input streams that are replaced by zeros.

    Raises:
        DataError: an image has unusable files. Those before it are kept.
    """
    files = TestFolder(out_dir)
    for folder in (files.path, files.confidence, files.overlay):
        folder.mkdir(parents=True, exist_ok=True)
    done = _done(files)
    left = [index for index in range(len(dataset)) if index not in done]
    on_gpu = predictor.device.type == "cuda"
    loader = Loader(_Some(dataset, left), batch_size=1, num_workers=workers, pin_memory=on_gpu)
    confidences = [entry["confidence"] for entry in done.values()]
    lock = Lock()
    try:
        # Without what a crash may have left of a line.
        write_text(files.frames, "".join(map(_line, done.values())))
        with open(files.frames, "a", encoding="utf-8") as lines, Stages() as stages:
            # By the threads that write the files, so that a run that ends early loses no finished image.
            write = partial(_write, files=files, classes=dataset.classes, lines=lines, lock=lock)
            batches = zip(left, read(loader, progress), strict=True)
            predicted = one_behind(_begun(predictor, batches, dataset, output, missing))
            confidences += stages.each(write, predicted)
    except CMDAError as error:
        raise own_message(error) from error
    return PseudoLabels(len(dataset), len(done), float(np.mean(confidences)))


class _Some(Dataset):
    """Some samples of a set, by their indices."""

    def __init__(self, dataset: EvaluationSet, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.dataset[self.indices[position]]


@dataclass(frozen=True)
class _Frame:
    """A predicted image: index in the set, name, label and confidence (H, W), and its picture, drawn on demand."""

    index: int
    name: str
    label: np.ndarray
    confidence: np.ndarray
    draw: Callable[[], dict[str, np.ndarray]]


def _begun(
    predictor: Predictor,
    batches: Iterable[tuple[int, Mapping[str, Any]]],
    dataset: EvaluationSet,
    output: str,
    missing: frozenset[str],
) -> Iterator[Callable[[], _Frame]]:
    """Start the prediction of each sample; calling a result waits for it."""

    def finish(copies: Copies, index: int, name: str, streams: Mapping[str, Tensor]) -> _Frame:
        maps = copies.arrays()
        draw = partial(sample_pictures, streams, dataset.TEST_STREAMS, dataset.prediction_size)
        return _Frame(index, name, maps["label"][0], maps["confidence"][0], draw)

    for index, batch in batches:
        streams = {stream: batch[key] for stream, key in dataset.TEST_STREAMS.items() if key in batch}
        copies = predictor.begin(with_zeros(streams, missing), output, dataset.prediction_size, confidence=True)
        yield partial(finish, copies, index, batch["img_metas"]["name"][0], streams)


def _write(frame: _Frame, files: TestFolder, classes: ClassSet, lines: TextIO, lock: AbstractContextManager) -> float:
    """Write the files of an image, then its line; returns its mean confidence."""
    pictures = frame.draw()
    shown = pictures.get("image", next(iter(pictures.values())))
    overlay = overlay_picture(color_label(frame.label, classes), shown, OPACITY)
    save_picture(files.overlay / f"{frame.name}.png", overlay)
    save_picture(files.confidence / f"{frame.name}.png", confidence_picture(frame.confidence))
    save_picture(files.prediction(frame.name), frame.label)
    confidence = round(float(frame.confidence.mean()), 6)
    with lock:
        lines.write(_line({"index": frame.index, "name": frame.name, "confidence": confidence}))
        lines.flush()
    return confidence


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _done(files: TestFolder) -> dict[int, dict[str, Any]]:
    """Entries of the images whose files are complete, by index."""
    found: dict[int, dict[str, Any]] = {}
    if not files.frames.is_file():
        return found
    for line in files.frames.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            index, name, confidence = int(entry["index"]), str(entry["name"]), float(entry["confidence"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if all(path.is_file() for path in files.pseudo_label(name)):
            found[index] = {"index": index, "name": name, "confidence": confidence}
    return found
