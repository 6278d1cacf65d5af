"""One street of the toy city, rendered for each of the three data sets."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mmseg.classes import CLASSES, IGNORE_LABEL
from mmseg.datasets.dsec_frames import TEST_ROWS
from mmseg.events.recording import HEIGHT
from mmseg.extractors.motion import image_change
from mmseg.toy import camera as cam
from mmseg.toy.events import EventArrays, EventSimulator, on_sensor
from mmseg.toy.lighting import make_light
from mmseg.toy.render import Camera, Headlights, Renderer, View
from mmseg.toy.world import build_street
from mmseg.toy.writers import FRAME_TIME

HEADLIGHTS = np.array([1.0, 0.94, 0.82])
# Exposure of the night cameras: the mean grey value is about 57 of 255; in night images of DSEC it is 47 to 53.
NIGHT_GAIN = 3.4
# Labelled edges have contrast above this difference of log radiance, and are invisible in the image below this
# difference of grey levels. Both are measured EDGE_REACH pixels to either side of the edge.
EDGE_CONTRAST, EDGE_LEVELS, EDGE_REACH = 0.25, 8, 2


@dataclass(frozen=True, eq=False)
class DayPicture:
    """A labelled day image: (H, W, 3) uint8, train ids (H, W) and image change (H, W) uint8."""

    image: np.ndarray
    label: np.ndarray
    change: np.ndarray


@dataclass(frozen=True, eq=False)
class NightRide:
    """Consecutive night frames of a street.

    Attributes:
        images: per frame (H, W, 3) uint8.
        labels: per frame (H, W) train ids; the rows of the hood are ignored.
        events: times in µs since half a frame before the frame that precedes the first one; None without events.
        counts: per frame, the number of events since the frame before.
        edges: pixels of labelled edges: with contrast; of these, invisible; of these, with events.
    """

    images: list[np.ndarray]
    labels: list[np.ndarray]
    events: EventArrays | None
    counts: list[int]
    edges: np.ndarray


def day_camera(width: int, height: int) -> Camera:
    """Camera with a slightly wider view than the 50 degrees of Cityscapes, since toy streets are short."""
    return Camera(width, height, 0.95 * width, 0.44 * height)


def night_camera(width: int, height: int) -> Camera:
    """Camera similar to the left event camera of DSEC."""
    return Camera(width, height, 0.87 * width, 0.45 * height)


def day_picture(rng: np.random.Generator, width: int, height: int, step: float) -> DayPicture:
    """Render a day street at two moments ``step`` seconds apart; the second one is labelled."""
    camera = day_camera(width, height)
    street = build_street(rng, False, camera.focal)
    light = make_light(rng, street, False)
    ride = cam.Ride.draw(rng, street.lane)
    renderer = Renderer(street, light, camera, (street.lane, cam.CAR_HEIGHT, 0.0))
    views = [renderer.render(ride.pose(time), time, with_label=time == 0) for time in (-step, 0.0)]
    gain = cam.auto_gain(views[1].radiance) * rng.uniform(0.75, 1.3)
    tint = 1 + rng.normal(0, 0.03, 3)
    mask = cam.hood(camera, round(rng.uniform(0.93, 0.97) * height))
    for view in views:
        cam.cover_hood(view.radiance, mask, 0.06 / gain)
    before, now = (cam.expose(rng, [view.radiance], gain, cam.DAY_SENSOR, tint) for view in views)
    label = np.where(mask, IGNORE_LABEL, views[1].train_ids).astype(np.uint8)
    grey_now, grey_before = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (now, before))
    return DayPicture(now, label, image_change(grey_now, grey_before))


def rows_above_hood(height: int) -> int:
    """Rows of a night image that are labelled: of DSEC's, those of its test."""
    return height * TEST_ROWS // HEIGHT


class _NightCar:
    """A car in a night street with its camera."""

    def __init__(self, rng: np.random.Generator, camera: Camera, travel: float) -> None:
        self.street = build_street(rng, True, camera.focal)
        light = make_light(rng, self.street, True)
        self.ride = cam.Ride.draw(rng, self.street.lane)
        headlights = Headlights(HEADLIGHTS * rng.uniform(9, 18))
        middle = self.ride.pose(travel / 2).position
        self.renderer = Renderer(self.street, light, camera, middle, headlights)
        self.hood = cam.hood(camera, rows_above_hood(camera.height) + 2)
        self.gain = NIGHT_GAIN * float(np.exp(rng.normal(0, 0.2)))

    def view(self, time: float, with_label: bool) -> View:
        view = self.renderer.render(self.ride.pose(time), time, with_label)
        cam.cover_hood(view.radiance, self.hood, 0.004)
        return view


def night_ride(
    rng: np.random.Generator, frames: int, substeps: int, mapping: np.ndarray, measure: bool = False
) -> NightRide:
    """Drive through a night street with frame and event camera.

    The recording starts half a frame before the frame that precedes the first one, and ends a substep after the last
    one.

    Args:
        rng: for this street.
        frames: number of images, 50 ms apart.
        substeps: renderings per frame, even, at least 4.
        mapping: rectify map of the sequence, (height, width, 2); images have the size of the sensor.
        measure: count visible and invisible labelled edges.
    """
    height, width = mapping.shape[:2]
    camera, step = night_camera(width, height), FRAME_TIME / 1e6 / substeps
    lead = substeps // 2
    total = lead + frames * substeps + 1
    car = _NightCar(rng, camera, total * step)
    exposures: list[list[np.ndarray]] = [[] for _ in range(frames)]
    labels, parts, simulator, sharp = [], [], None, []
    for number in range(total + 1):
        frame, phase = divmod(number - lead, substeps)
        at_frame = phase == 0 and frame >= 1
        view = car.view(number * step, at_frame)
        if at_frame:
            labels.append(view.train_ids)
            sharp.append(view.radiance)
        # the shutter is open for a substep before and after the time of the frame
        nearest = (number - lead + 1) // substeps - 1
        if abs(number - lead - (nearest + 1) * substeps) <= 1 and 0 <= nearest < frames:
            exposures[nearest].append(view.radiance)
        seen = on_sensor(cam.luminance(view.radiance), mapping)
        if simulator is None:
            simulator = EventSimulator(rng, seen)
        else:
            parts.append(simulator.step(seen, (number - 1) * step, number * step))
    images = [cam.expose(rng, views, car.gain, cam.NIGHT_SENSOR) for views in exposures]
    events = EventArrays.joined(parts)
    bounds = np.searchsorted(events.t, [(lead + k * substeps) * step * 1e6 for k in range(frames + 1)])
    edges = np.zeros(3, np.int64)
    if measure:
        for k in range(frames):
            window = slice(bounds[k], bounds[k + 1])
            edges += _edges(sharp[k], labels[k], images[k], events, window, mapping)
    is_hood = np.arange(height)[:, None] >= rows_above_hood(height)
    labels = [np.where(is_hood, IGNORE_LABEL, label).astype(np.uint8) for label in labels]
    return NightRide(images, labels, events, np.diff(bounds).tolist(), edges)


def night_pictures(rng: np.random.Generator, width: int, height: int, frames: int, gap: float) -> NightRide:
    """Night images of a camera without events, ``gap`` seconds apart, for Dark Zurich."""
    camera = night_camera(width, height)
    car = _NightCar(rng, camera, frames * gap)
    images, labels = [], []
    for frame in range(frames):
        views = [car.view(frame * gap + shift, shift == 0) for shift in (-0.008, 0.0, 0.008)]
        images.append(cam.expose(rng, [v.radiance for v in views], car.gain, cam.PHONE_SENSOR))
        labels.append(np.where(car.hood, IGNORE_LABEL, views[1].train_ids).astype(np.uint8))
    return NightRide(images, labels, None, [], np.zeros(3, np.int64))


def _edges(
    radiance: np.ndarray,
    label: np.ndarray,
    image: np.ndarray,
    events: EventArrays,
    window: slice,
    mapping: np.ndarray,
) -> np.ndarray:
    """Pixels of vertical labelled edges above the hood: with contrast; of these, invisible; of these, with events."""
    reach, (height, width) = EDGE_REACH, label.shape
    rows = rows_above_hood(height)
    log = np.log(cv2.blur(cam.luminance(radiance), (1, 3)) + 3e-4)
    grey = cv2.blur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (3, 3))
    x, y = np.rint(mapping[events.y[window], events.x[window]].T).astype(np.int64)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    events_at = np.bincount(y[inside] * width + x[inside], minlength=width * height).reshape(height, width)
    count = cv2.blur(events_at.astype(np.float32), (3, 3)) * 9
    columns = np.s_[:rows, reach : width - reach - 1]
    left, right = label[:, :-1], label[:, 1:]
    edge = ((left != right) & (left != IGNORE_LABEL) & (right != IGNORE_LABEL))[columns]

    def difference(values: np.ndarray) -> np.ndarray:
        across = np.abs(values[:, 2 * reach + 1 :] - values[:, : -2 * reach - 1])
        return across[:rows]

    contrast = edge & (difference(log) > EDGE_CONTRAST)
    invisible = contrast & (difference(grey) < EDGE_LEVELS)
    # at least two events next to the edge: noise alone gives this at one pixel in fifty
    reported = invisible & (count[columns] >= 2)
    return np.array([contrast.sum(), invisible.sum(), reported.sum()])


def class_pixels(label: np.ndarray) -> np.ndarray:
    """(19,) pixels of every class."""
    return np.bincount(label.ravel(), minlength=256)[: len(CLASSES)]
