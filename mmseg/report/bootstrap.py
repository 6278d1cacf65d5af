"""Paired bootstrap over the frames of a test set: how certain the difference of two mean IoUs is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmseg.errors import ConfigError
from mmseg.evaluation.metrics import FrameScores
from mmseg.report.comparison import NO_SCORE, Row
from mmseg.report.data import Test, read_test
from mmseg.report.gallery import frame_ids
from mmseg.system.printing import TextTable

RESAMPLES = 10_000
CONFIDENCE = 0.95
# Resamples that are scored at once, to bound the memory.
CHUNK = 1000


@dataclass(frozen=True)
class FrameCounts:
    """Pixels of every frame of a test by class.

    Attributes:
        frames: names of the frames, sorted.
        hits, labelled, predicted: (frames, valid classes) int64; predictions without a label do not count.
    """

    frames: tuple[str, ...]
    hits: np.ndarray
    labelled: np.ndarray
    predicted: np.ndarray


@dataclass(frozen=True)
class Interval:
    """Difference of two mean IoUs and its confidence interval, in [-1, 1].

    Attributes:
        difference: of the scores on all frames.
        low, high: ends of the interval.
        other_sign: share of the resamples whose difference is 0 or has the other sign.
    """

    difference: float
    low: float
    high: float
    other_sign: float


def frame_counts(test: Test) -> FrameCounts:
    """Pixels of every frame with a label, by valid class.

    Tests of earlier versions did not store them: they are counted again, from predictions and the labels in panels.

    Raises:
        ConfigError: the test has no labels, or there are neither stored counts nor panels.
    """
    valid = [index for index in range(len(test.classes)) if index not in test.absent]
    scored = {name: frame for name, frame in test.frames.items() if frame is not None}
    if not scored:
        raise ConfigError(f"{test.folder}: no frame has a label")
    names = tuple(sorted(scored))
    counts = [_counts_of(test, scored[name]) for name in names]
    hits, labelled, predicted = (np.stack(of)[:, valid] for of in zip(*counts, strict=True))
    return FrameCounts(names, hits, labelled, predicted)


def _counts_of(test: Test, frame: FrameScores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, labelled and predicted pixels (classes,) of a frame."""
    if frame.hits is not None and frame.predicted_pixels is not None:
        return frame.hits, frame.label_pixels, frame.predicted_pixels
    pictures = frame_ids(test, frame.name)
    if pictures is None:
        raise ConfigError(f"{test.folder}: an earlier version tested this without panels; test the run again")
    prediction, label = pictures
    number = len(test.classes)
    counted = label < number
    labelled = np.bincount(label[counted], minlength=number)
    predicted = np.bincount(prediction[counted], minlength=number)[:number]
    hits = np.bincount(label[counted & (label == prediction)], minlength=number)
    if (labelled != frame.label_pixels).any():
        raise ConfigError(f"{test.folder}: the panel of {frame.name} shows another label; test the run again")
    return hits, labelled, predicted


def mean_ious(counts: FrameCounts, weights: np.ndarray) -> np.ndarray:
    """Mean IoU of every resample, as a test computes it from the pixels of all its frames.

    Args:
        counts: pixels of the frames.
        weights: (resamples, frames), how often each frame was drawn.

    Returns:
        (resamples,) in [0, 1]; a class that is neither labelled nor predicted in a resample is in no mean.
    """
    # Products of float64 are fast, and exact below 2^53 pixels.
    drawn = weights.astype(np.float64)
    hits = drawn @ counts.hits
    union = drawn @ (counts.labelled + counts.predicted) - hits
    defined = union > 0
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=defined)
    number = defined.sum(axis=1)
    return np.divide(iou.sum(axis=1), number, out=np.full(len(iou), np.nan), where=number > 0)


def draws(frames: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Weights (up to ``CHUNK``, frames) int64 of resamples: frames drawn with replacement, as many as there are."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        yield rng.multinomial(frames, np.full(frames, 1 / frames), size=min(CHUNK, resamples - start))


def paired_bootstrap(
    first: Sequence[FrameCounts],
    second: Sequence[FrameCounts],
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Percentile interval of the mean IoU of ``second`` minus that of ``first``.

    Every resample draws the same frames for all tests. A side with several tests (seeds) has the mean of their scores.

    Args:
        first, second: tests of the same frames.
        resamples: number of resamples.
        seed: seed of the draws.
        confidence: of the interval, in (0, 1).

    Raises:
        ConfigError: the tests are of different frames.
    """
    frames = first[0].frames
    if any(test.frames != frames for test in (*first, *second)):
        raise ConfigError("the tests are of different frames")

    def difference(weights: np.ndarray) -> np.ndarray:
        means = [np.mean([mean_ious(test, weights) for test in side], axis=0) for side in (second, first)]
        return means[0] - means[1]

    observed = float(difference(np.ones((1, len(frames)), np.int64))[0])
    drawn = np.concatenate([difference(weights) for weights in draws(len(frames), resamples, seed)])
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    other = np.mean(drawn <= 0 if observed > 0 else drawn >= 0)
    return Interval(observed, float(low), float(high), float(other))


def differences(rows: Sequence[Row], resamples: int = RESAMPLES, seed: int = 0) -> list[Interval | str]:
    """Interval of every row after the first against the first; a message where a row cannot be compared.

    Raises:
        ConfigError: the files of the first row cannot be read.
    """
    first = _row_counts(rows[0])
    found: list[Interval | str] = []
    for row in rows[1:]:
        try:
            found.append(paired_bootstrap(first, _row_counts(row), resamples, seed))
        except ConfigError as error:
            found.append(str(error))
    return found


def difference_table(rows: Sequence[Row], resamples: int = RESAMPLES, seed: int = 0) -> TextTable:
    """Table of :func:`differences` in points of mIoU, that is of the mean over the valid classes.

    Raises:
        ConfigError: there is only one row, or the files of the first cannot be read.
    """
    if len(rows) < 2:
        raise ConfigError("a difference needs two rows; give another run, or choose other rows")
    table = TextTable(title=f"mIoU over the valid classes, difference to row 1 ({resamples:,} resamples of the frames)")
    for title, justify in (("", "left"), ("run", "left"), ("output", "left"), ("difference", "right")):
        table.add_column(title, justify=justify)
    table.add_column(f"{100 * CONFIDENCE:g} % interval")
    table.add_column("other sign", justify="right")
    for number, (row, found) in enumerate(zip(rows[1:], differences(rows, resamples, seed), strict=True), 2):
        line = [str(number), row.name, row.output]
        if isinstance(found, str):
            table.add_row(*line, NO_SCORE, found, NO_SCORE)
        else:
            interval = f"{100 * found.low:+.2f} to {100 * found.high:+.2f}"
            table.add_row(*line, f"{100 * found.difference:+.2f}", interval, f"{100 * found.other_sign:.1f} %")
    return table


def _row_counts(row: Row) -> list[FrameCounts]:
    folders: list[Path] = [scores[-1].folder for scores in row.series if scores[-1].folder is not None]
    if not folders or len(folders) < len(row.series):
        raise ConfigError(f"{row.name}: the files of a test are gone; test the run again")
    return [frame_counts(read_test(folder)) for folder in folders]
