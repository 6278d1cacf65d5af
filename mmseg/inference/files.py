"""A trained network on files: reads images, folders or a video, writes label maps and pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from mmseg.engine.prediction import one_behind
from mmseg.engine.stages import Stages, one_message
from mmseg.errors import ConfigError, DataError
from mmseg.events.files import EventSource, find_windows, open_events
from mmseg.inference.model import BegunPredictions, InferenceModel, Prediction, Size, Task, begin, prepare
from mmseg.inference.outcome import OVERLAY_VIDEO, InferenceReport
from mmseg.inference.pictures import ImageFiles, live_source, open_pictures, picture_times
from mmseg.inference.progress import files_progress, live_progress
from mmseg.io.streams import Stream
from mmseg.io.videos import Picture, Video
from mmseg.system.printing import say
from mmseg.system.signals import signals_handled, stop_now
from mmseg.visualization.films import Film, film_file
from mmseg.visualization.panels import confidence_picture, save_picture

# Kind of file -> its folder below the output folder.
SAVED = {"label": "", "overlay": "overlay", "color": "color", "confidence": "confidence"}
USUAL_FRAME_RATE = 25.0
# Few frames of a stream wait between its reader and its writer.
LIVE_THREADS = 2


@dataclass(frozen=True)
class Recording:
    """Events, and the first and last one of every image; None if it has none."""

    source: EventSource
    windows: Sequence[tuple[int, int] | None]


@dataclass(frozen=True)
class _Failed:
    """An image that could not be predicted, and why."""

    name: str
    message: str


@dataclass(frozen=True)
class _Prepared:
    """An image (H, W, 3) that is ready for the network."""

    name: str
    image: np.ndarray
    task: Task
    lacks_events: bool


@dataclass(frozen=True)
class _Predicted:
    """An image with its prediction."""

    name: str
    image: np.ndarray
    prediction: Prediction
    lacks_events: bool


@dataclass(frozen=True)
class _Written:
    """A prediction whose files are written; ``overlay`` is (H, W, 3) uint8 RGB, or None if it is not saved."""

    name: str
    prediction: Prediction
    lacks_events: bool
    overlay: np.ndarray | None


def infer(
    model: InferenceModel,
    inputs: Sequence[str | Path],
    out_dir: str | Path,
    events: str | Path | None = None,
    rectify_map: str | Path | None = None,
    timestamps: str | Path | None = None,
    start_time: int | None = None,
    window: int | None = None,
    output: str | None = None,
    save: Sequence[str] = ("label", "overlay"),
    opacity: float = 0.5,
    batch: int = 1,
    size: Size | str | None = None,
    rows: int | None = None,
    console: Console | None = None,
    sensor: Size | None = None,
    frames: int | None = None,
) -> InferenceReport:
    """Predict images, folders of images, a video, or a camera or stream, and write the requested files.

    Writes into ``out_dir``: ``<name>.png`` (train ids), ``overlay/<name>.png`` (colours over the picture),
    ``color/<name>.png``, ``confidence/<name>.png`` (softmax probability of the label, 0..255), and for a video, with
    its overlays, ``overlay.mp4``. Existing files are replaced. An image that cannot be read is reported, and the others
    are still predicted.

    Args:
        model: from :func:`mmseg.apis.init_model`.
        inputs: see :func:`.open_pictures`; or the number of a camera, or the address of a stream, whose newest frame is
            taken each time the network is free, until it ends or a signal to stop comes.
        out_dir: output folder, created if missing.
        events, rectify_map, sensor: event recording, see :func:`.open_events`; None for none.
        timestamps, start_time: when the images were taken, see :func:`.picture_times`.
        window: length of the events' window in µs; None for that of :func:`.find_windows`.
        output, size, rows: see :func:`mmseg.apis.inference_model`. An image without events is predicted by the image
            output unless an output is named.
        save: files to write, keys of :data:`SAVED`.
        opacity: of the colours in the overlay, 0..1.
        batch: images per call of the network.
        console: receives messages and the progress bar; stdout by default.
        frames: of a camera or stream, end after this many; None for no limit.

    Raises:
        CMDAError: bad input that affects all images.
    """
    console = console or Console()
    out_dir = Path(out_dir)
    _check_values(save, opacity, batch)
    pictures = _source(inputs, frames, events)
    _check_folders(pictures, out_dir, save)
    recording = None
    if events is not None and not isinstance(pictures, Stream):
        recording = _recording(model, pictures, events, rectify_map, sensor, timestamps, start_time, window)
    elif any(value is not None for value in (rectify_map, sensor, timestamps, start_time, window)):
        raise ConfigError(
            "a rectify map, a sensor, times or a window were given, but no events; add --events, or leave them out"
        )
    if output is not None and model.needs_events(output) and recording is None:
        raise ConfigError(f"the output {output!r} needs events; add --events, or take --output image")
    report = InferenceReport(unit="pictures" if isinstance(pictures, ImageFiles) else "frames")
    started = time.perf_counter()
    made = _Maker(model, recording, output, size, rows)
    try:
        for kind in save:
            (out_dir / SAVED[kind]).mkdir(parents=True, exist_ok=True)
        film_path = out_dir / OVERLAY_VIDEO if isinstance(pictures, Video) and "overlay" in save else None
        with _stages(pictures) as stages, _film(pictures, film_path) as film, _progress(console, pictures) as advance:
            decoded = stages.beside(_decoded(pictures))
            prepared = stages.each(made.prepared, decoded)
            predicted = stages.beside(_predicted(model, prepared, batch, "confidence" in save, report))
            write = partial(_write, out_dir=out_dir, save=save, opacity=opacity)
            for step in stages.each(write, predicted):
                advance()
                if isinstance(step, _Failed):
                    report.failures.append(step.message)
                    continue
                if not report.written:
                    _report_sizes(model, step, size, console)
                report.add(step.name, step.prediction.output, step.lacks_events)
                if step.overlay is not None and film is not None:
                    film.add(step.overlay)
        if film is not None and film.codec is not None:
            report.film = film.codec
    except OSError as error:
        raise ConfigError(f"{out_dir} cannot be written ({error.strerror or error}); choose another folder") from error
    report.seconds = time.perf_counter() - started
    if isinstance(pictures, ImageFiles):
        report.skipped = pictures.skipped
    elif isinstance(pictures, Stream):
        report.passed_over = pictures.came - report.written - len(report.failures)
    return report


def _source(inputs: Sequence[str | Path], frames: int | None, events: object) -> ImageFiles | Video | Stream:
    live = live_source(inputs)
    if live is None and frames is not None:
        raise ConfigError("a number of frames is for a camera or stream; leave it out")
    if live is None:
        return open_pictures(inputs)
    if events is not None:
        raise ConfigError("frames of a camera or stream have no times on the clock of a recording; leave events out")
    return Stream(live, frames)


@contextmanager
def _stages(pictures: ImageFiles | Video | Stream) -> Iterator[Stages]:
    """Threads of the run. A signal to stop ends a stream, and a second one the run."""
    if not isinstance(pictures, Stream):
        with Stages() as stages:
            yield stages
        return

    def stop(number: int) -> None:
        if pictures.ended:
            stop_now(number)
        pictures.stop()

    with signals_handled(stop), Stages(LIVE_THREADS) as stages:
        yield stages


def _progress(console: Console, pictures: ImageFiles | Video | Stream) -> AbstractContextManager[Callable[[], None]]:
    if isinstance(pictures, Stream):
        return live_progress(console, pictures)
    return files_progress(console, len(pictures))


def _check_values(save: Sequence[str], opacity: float, batch: int) -> None:
    unknown = [kind for kind in save if kind not in SAVED]
    if unknown or not save:
        raise ConfigError(f"cannot save {', '.join(unknown) or 'nothing'}; choose from {', '.join(SAVED)}")
    if not 0 <= opacity <= 1 or batch < 1:
        raise ConfigError(f"opacity is {opacity}, batch {batch}: give an opacity of 0..1 and a batch of at least 1")


def _check_folders(pictures: ImageFiles | Video | Stream, out_dir: Path, save: Sequence[str]) -> None:
    """Refuse an output folder in which predictions would overwrite the images, whose names they share."""
    if isinstance(pictures, Stream):
        return
    places = {(out_dir / SAVED[kind]).resolve() for kind in save} | {out_dir.resolve()}
    for path in pictures.paths if isinstance(pictures, ImageFiles) else [pictures.path]:
        if path.parent.resolve() in places:
            raise ConfigError(
                f"{out_dir} holds the image {path}, which its prediction would overwrite; choose another --out"
            )


def _recording(
    model: InferenceModel,
    pictures: ImageFiles | Video,
    events: str | Path,
    rectify_map: str | Path | None,
    sensor: Size | None,
    timestamps: str | Path | None,
    start_time: int | None,
    window: int | None,
) -> Recording:
    if not model.takes_events:
        raise ConfigError("this network takes no events; leave --events out")
    times = picture_times(pictures, timestamps, start_time)
    source = open_events(events, rectify_map, sensor)
    frames = model.recipe.image_change_range
    number = model.recipe.events_num if window is None else 0
    windows = find_windows(source, times.times, times.earlier(frames), frames, window, number)
    if not any(windows):
        raise DataError(
            f"{events} has no events for any of {len(windows)} images, taken at {times.times[0]} to {times.times[-1]} "
            "µs; are these times on its clock?"
        )
    return Recording(source, windows)


@dataclass(frozen=True)
class _Maker:
    """Prepares images for the network; attributes as in :func:`infer`."""

    model: InferenceModel
    recording: Recording | None
    output: str | None
    size: Size | str | None
    rows: int | None

    def prepared(self, numbered: tuple[int, Picture]) -> _Prepared | _Failed:
        """Read an image and prepare it; an error that affects only this image becomes its failure."""
        number, picture = numbered
        with one_message(f"preparing {picture.name}"):
            return self._prepared(number, picture)

    def _prepared(self, number: int, picture: Picture) -> _Prepared | _Failed:
        try:
            image = picture.read()
        except DataError as error:
            return _Failed(picture.name, str(error))
        window, events = None, None
        try:
            if self.recording is not None and number < len(self.recording.windows):
                window = self.recording.windows[number]
                events = self.recording.source.events(*window) if window else None
            task = prepare(self.model, image, events, self.output, self.size, self.rows)
        except DataError as error:
            return _Failed(picture.name, f"{picture.name}: {error}")
        return _Prepared(picture.name, image, task, self.recording is not None and window is None)


def _decoded(pictures: ImageFiles | Video | Stream) -> Iterator[tuple[int, Picture]]:
    """The images with their numbers from 0."""
    with one_message("reading the pictures"):
        yield from enumerate(pictures)


def _predicted(
    model: InferenceModel, steps: Iterable[_Prepared | _Failed], batch: int, confidence: bool, report: InferenceReport
) -> Iterator[_Predicted | _Failed]:
    """Predict images in order; consecutive ones of one kind share a call of the network.

    Each call starts before the results of the previous one are fetched, so that a GPU does not wait for the host.
    """

    def finish(group: Sequence[_Prepared], begun: BegunPredictions) -> list[_Predicted | _Failed]:
        predictions = begun.predictions()
        report.network_seconds += begun.copies.seconds
        return [
            _Predicted(step.name, step.image, prediction, step.lacks_events)
            for step, prediction in zip(group, predictions, strict=True)
        ]

    def begin_all() -> Iterator[Callable[[], list[_Predicted | _Failed]]]:
        for group in _groups(steps, batch):
            if isinstance(group, _Failed):
                yield partial(list, [group])
            else:
                yield partial(finish, group, begin(model, [step.task for step in group], confidence))

    with one_message("predicting"):
        for finished in one_behind(begin_all()):
            yield from finished


def _groups(steps: Iterable[_Prepared | _Failed], batch: int) -> Iterator[list[_Prepared] | _Failed]:
    """Consecutive images that share a call of the network, in order; failures separately."""
    group: list[_Prepared] = []
    for step in steps:
        if group and (isinstance(step, _Failed) or step.task.kind != group[0].task.kind or len(group) == batch):
            yield group
            group = []
        if isinstance(step, _Failed):
            yield step
        else:
            group.append(step)
    if group:
        yield group


def _write(step: _Predicted | _Failed, out_dir: Path, save: Sequence[str], opacity: float) -> _Written | _Failed:
    """Write the files of an image."""
    if isinstance(step, _Failed):
        return step
    with one_message(f"drawing and writing {step.name}", OSError):
        pictures = _drawn(step, save, opacity)
        for kind in save:
            save_picture(out_dir / SAVED[kind] / f"{step.name}.png", pictures[kind])
        return _Written(step.name, step.prediction, step.lacks_events, pictures.get("overlay"))


def _drawn(step: _Predicted, save: Sequence[str], opacity: float) -> dict[str, np.ndarray]:
    """Pictures of a prediction by kind."""
    prediction = step.prediction
    pictures = {"label": prediction.label}
    if "color" in save:
        pictures["color"] = prediction.picture()
    if "overlay" in save:
        pictures["overlay"] = prediction.overlay(step.image, opacity)
    if "confidence" in save and prediction.confidence is not None:
        pictures["confidence"] = confidence_picture(prediction.confidence)
    return pictures


def _film(pictures: ImageFiles | Video | Stream, path: Path | None) -> AbstractContextManager[Film | None]:
    """Film of a video's overlays, at the video's frame rate; None if there is no path for it."""
    if path is None or not isinstance(pictures, Video):
        return nullcontext()
    return film_file(path, pictures.frame_rate or USUAL_FRAME_RATE)


def _report_sizes(model: InferenceModel, step: _Written, size: Size | str | None, console: Console) -> None:
    """Report the size at which the network saw the first image, and whether that is far from its training."""
    label, (height, width) = step.prediction.label, step.prediction.input_size
    text = f"{step.name}: {label.shape[1]}x{label.shape[0]}, in the network {width}x{height}"
    if size is None and label.shape != (height, width):
        text += ", about the size it was trained on; --no-resize keeps sizes, --resize sets one"
    elif model.is_far_from_training(height, width):
        trained = f"{model.trained_size[1]}x{model.trained_size[0]}"
        text += f"; it was trained on images of {trained} and is less accurate far from that size (see --resize)"
    say(console, text)
