"""The toy city: geometry, camera, event simulator, formats and determinism."""

import json

import numpy as np
import pytest
from PIL import Image

from mmseg.classes import IGNORE_LABEL
from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.datasets.uda import UDADataset
from mmseg.errors import ConfigError, DataError
from mmseg.events.recording import EventRecording
from mmseg.toy import dataset, scenes
from mmseg.toy.camera import NIGHT_SENSOR, expose, glare
from mmseg.toy.events import EventSensor, EventSimulator, on_sensor, rectify_map
from mmseg.toy.geometry import Street, facing, flat, plain
from mmseg.toy.lighting import NightLight
from mmseg.toy.objects import ID
from mmseg.toy.render import Camera, Headlights, Pose, Renderer, project
from mmseg.toy.settings import SIZES, TEST_SEQUENCES, TRAIN_SEQUENCES
from mmseg.toy.world import build_street

TINY = SIZES["tiny"].with_changes({"day": 3, "night_streets": 1, "frames": 2})
ISR = dict(val_range=[0.01, 1.01], _threshold=0.005, _clip_range=0.1, shift_pixel=1)
CAMERA = Camera(640, 480, 557.0, 216.0)
DAYLIGHT = NightLight(np.ones(3), [])


@pytest.fixture(scope="module")
def city(toy_city):
    """A city of these numbers and seed 3."""
    assert json.loads((toy_city / "toy_city.json").read_text())["complete"]
    return toy_city


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------------------------------ the whole


@pytest.mark.slow
def test_equal_seeds_give_equal_bytes_with_any_number_of_jobs(city, tmp_path):
    again = tmp_path / "city"
    (again / "data").mkdir(parents=True)
    for name in ("data/left_over.png", "toy_city.json", "notes.txt"):
        (again / name).write_text("{}")
    assert not dataset.is_complete(again)
    dataset.make_toy_city(again, TINY, seed=3, jobs=2, force=True)
    assert dataset.is_complete(again)
    for name in ("data/left_over.png", "notes.txt"):
        (again / name).unlink()  # what is not of the toy city stays
    first, second = files(city), files(again)
    assert first.keys() == second.keys()
    for path, content in first.items():
        other = second[path]
        if path.suffix == ".txt":  # the lists hold absolute paths
            content, other = content.replace(bytes(city), b""), other.replace(bytes(again), b"")
        assert content == other, path


def test_another_seed_gives_another_street():
    one, two = (scenes.day_picture(np.random.default_rng(seed), 128, 64, 0.06) for seed in (1, 2))
    assert (one.label != two.label).mean() > 0.05


def test_only_a_toy_city_is_replaced(city, tmp_path):
    with pytest.raises(DataError, match="holds a toy city"):
        dataset.make_toy_city(city, TINY, seed=3)
    (tmp_path / "thesis.tex").write_text("dear to someone")
    for force in (False, True):
        with pytest.raises(DataError, match="not empty and holds no toy city"):
            dataset.make_toy_city(tmp_path, TINY, seed=3, force=force)


def test_an_interrupted_run_is_no_city(tmp_path, monkeypatch):
    out = tmp_path / "city"
    monkeypatch.setattr(dataset, "write_sequences", lambda tasks: (_ for _ in ()).throw(KeyboardInterrupt))
    one = TINY.with_changes({"day": 1, "day_val": 0, "night_streets": 1, "test_streets": 1, "frames": 1})
    with pytest.raises(KeyboardInterrupt):
        dataset.make_toy_city(out, one, seed=0)
    assert not out.exists()
    assert not list(tmp_path.iterdir())


def test_settings_out_of_range():
    with pytest.raises(ConfigError, match="day is 0"):
        TINY.with_changes({"day": 0})
    with pytest.raises(ConfigError, match="even"):
        TINY.with_changes({"substeps": 5})
    with pytest.raises(ConfigError, match="500 test streets"):
        TINY.with_changes({"test_streets": 500})


# -------------------------------------------------------------------------------------------------- formats


def test_cityscapes_loads_as_published(city):
    root = city / "data/cityscapes"
    outputs = {"image", "label", "img_time_res", "img_self_res"}
    source = CityscapesICDataset(str(root), (512, 256), (256, 256), outputs, shift_type="random")
    assert len(source) == TINY.day
    sample = source.sample(0, source.draw(np.random.default_rng(0)))
    assert all(sample[key].isfinite().all() for key in ("image", "img_time_res", "img_self_res"))
    assert sample["img_time_res"].abs().max() > 0.5
    ids = {int(v) for v in sample["label"].unique()}
    assert ids <= {*range(19), IGNORE_LABEL}
    assert len(ids) > 4


def test_night_loads_as_published(city):
    common = dict(crop_size=(400, 400), after_crop_resize_size=(512, 512), shift_type="random", isr_parms=ISR)
    train = DSECDataset(
        str(city / "night_dataset_warp.txt"), {"warp_image", "events_vg", "warp_img_self_res"}, **common
    )
    test = DSECDataset(str(city / "night_test_dataset_warp.txt"), {"warp_image", "events_vg", "label", "img_metas"})
    assert len(train) == TINY.night_streets * TINY.frames
    assert len(test) == TINY.test_streets * TINY.frames
    assert {f.sequence for f in train.frames} <= set(TRAIN_SEQUENCES)
    assert {f.sequence for f in test.frames} <= set(TEST_SEQUENCES)
    for start, finish in (*train.windows, *test.windows):
        assert 20_000 < finish - start < 600_000
    sample = test[0]
    assert sample["label"].shape == (440, 640)
    assert sample["events_vg"].abs().max() > 0.9
    assert (sample["label"] != IGNORE_LABEL).float().mean() > 0.95
    label = np.asarray(Image.open(test.frames[0].label))
    assert label.shape == (480, 640)
    assert (label[440:] == IGNORE_LABEL).all()
    pair = UDADataset(
        CityscapesICDataset(str(city / "data/cityscapes"), (512, 256), (256, 256), {"image", "label"}),
        train,
        str(city / "data/cityscapes"),
        {"min_pixels": 30, "class_temp": 0.01, "min_crop_ratio": 0.5},
    )
    assert pair[0]["target"]["events_vg"].shape == (3, 512, 512)


def test_recording_is_in_order_and_indexed(city):
    import h5py

    folder = city / "data/DSEC_Night" / next(iter(TRAIN_SEQUENCES))
    with h5py.File(folder / "events/left/events.h5") as file:
        t, index = file["events/t"][:].astype(np.int64), file["ms_to_idx"][:]
        assert file["events/t"].dtype == np.uint32
        assert file["events/x"].dtype == np.uint16
        assert file["t_offset"].dtype == np.int64
        assert file["events/p"][:].max() == 1
    assert (np.diff(t) >= 0).all()
    for ms in (0, len(index) // 2, len(index) - 1):
        assert index[ms] == np.searchsorted(t, ms * 1000)
    recording = EventRecording(folder / "events/left/events.h5", folder / "events/left/rectify_map.h5")
    assert len(recording.window(0, 99).t) == 100


def test_marker_tells_classes_and_edges(city):
    report = json.loads((city / "toy_city.json").read_text())
    assert {"road", "building", "sky", "car", "pole"} <= set(report["classes"]["day"])
    edges = report["night_edges"]
    assert edges["of_these_invisible_in_the_image"] > 0.15 * edges["with_contrast_in_the_scene"]
    assert edges["of_these_with_events"] > 0.6 * edges["of_these_invisible_in_the_image"]


def test_at_least_13_classes_occur():
    seen = np.zeros(19, np.int64)
    for seed in range(8):
        seen += scenes.class_pixels(scenes.day_picture(np.random.default_rng(seed), 128, 64, 0.06).label)
    assert (seen > 0).sum() >= 13


# ------------------------------------------------------------------------------------------------- geometry


def board(z, color=(0.9, 0.9, 0.9), label="building"):
    return facing(-50, 50, -50, 50, z, albedo=plain(color), label=ID[label])


def test_a_point_of_the_world_is_seen_where_it_projects():
    """A pole's corner moves outwards by the correct parallax as the camera moves forward, and stays on its surface."""
    corners = np.array([[1.0, 0.0, 12.0], [1.4, 2.5, 12.0]])
    mark = facing(1.0, 1.4, 0.0, 2.5, 12.0, albedo=plain((0.1, 0.1, 0.1)), label=ID["pole"])
    street = Street(ground=[board(60.0), mark])
    renderer = Renderer(street, DAYLIGHT, CAMERA, (0.0, 1.5, 0.0))
    columns = []
    for pose in (Pose((0.0, 1.5, 0.0)), Pose((0.1, 1.5, 3.0), yaw=0.05, pitch=-0.02)):
        view = renderer.render(pose, 0.0)
        rows, cols = np.nonzero(view.label == ID["pole"])
        (x0, y1, z), (x1, y0, _) = project(CAMERA, pose, corners)
        assert z > 8
        np.testing.assert_allclose([cols.min(), cols.max() + 1], [x0, x1], atol=2.0)
        np.testing.assert_allclose([rows.min(), rows.max() + 1], [y0, y1], atol=2.5)
        columns.append(x0)
        assert view.radiance[rows, cols].mean() < 0.3
    assert abs(columns[1] - columns[0]) > 3


def test_project_by_hand():
    x, y, z = project(CAMERA, Pose((0.0, 1.5, 2.0)), np.array([1.0, 0.5, 12.0]))
    assert (x, y, z) == pytest.approx((319.5 + 55.7, 216 + 55.7, 10.0))


def test_label_and_radiance_share_their_edges():
    """In a scene of uniform colours the label can be read from the image, except for the soft pixel at an edge."""
    box = facing(-1, 2, 0.3, 2.7, 9.0, albedo=plain((0.2, 0.2, 0.2)), label=ID["car"])
    street = Street(ground=[board(60.0)])
    street.ground.append(box)
    view = Renderer(street, DAYLIGHT, CAMERA, (0, 1.5, 0)).render(Pose((0.0, 1.5, 0.0), yaw=0.1), 0.0)
    middle = view.radiance.mean(axis=-1)
    dark = middle < (middle.max() + middle.min()) / 2
    assert ((view.label == ID["car"]) != dark).sum() < 40


def test_day_street_label_edges_lie_on_image_edges():
    gradients = []
    picture = scenes.day_picture(np.random.default_rng(5), 512, 256, 0.06)
    grey = picture.image.astype(np.float32).mean(axis=-1)
    change = np.abs(np.diff(grey, axis=1))
    edge = picture.label[:, 1:] != picture.label[:, :-1]
    for shift in range(-6, 7):
        gradients.append(change[np.roll(edge, shift, axis=1)].mean())
    assert abs(int(np.argmax(gradients)) - 6) <= 1


def test_surfaces_behind_the_camera_and_edge_on_are_left_out():
    street = Street(ground=[board(60.0), board(-5.0, label="car"), flat(-2, 2, -9, 300, 1.5, albedo=plain((1, 1, 1)),
                                                                        label=ID["road"])])  # fmt: skip
    view = Renderer(street, DAYLIGHT, CAMERA, (0, 1.5, 0)).render(Pose((0.0, 1.5, 0.0)), 0.0)
    assert (view.label == ID["building"]).mean() > 0.98
    assert np.isfinite(view.radiance).all()


def test_street_is_finite_and_night_is_dark():
    rng = np.random.default_rng(1)
    street = build_street(rng, True, 280.0)
    camera = scenes.night_camera(320, 240)
    light = NightLight(np.full(3, 0.005), street.lights)
    view = Renderer(street, light, camera, (street.lane, 1.5, 0), Headlights(np.ones(3) * 12)).render(
        Pose((street.lane, 1.5, 0.0)), 0.0
    )
    assert np.isfinite(view.radiance).all()
    assert view.radiance.min() >= 0
    assert np.percentile(view.radiance, 99.99) > 500 * np.median(view.radiance)


# --------------------------------------------------------------------------------------------------- camera


def test_glare_keeps_the_light_and_saturates_around_a_lamp():
    scene = np.zeros((120, 160, 3), np.float32)
    scene[58:62, 78:82] = 200
    spread = glare(scene, 1.0)
    assert spread.sum() == pytest.approx(scene.sum(), rel=0.02)
    image = expose(np.random.default_rng(0), [scene], 1.5, NIGHT_SENSOR)
    assert (image.min(axis=-1) == 255).sum() > 40
    assert image[0, 0].max() < 128


# --------------------------------------------------------------------------------------------------- events

SHAPE = (40, 50)
QUIET = EventSensor(noise_rate=0.0, spread=0.0, refractory=0.0)


def test_a_static_scene_gives_background_noise_only():
    scene = np.full(SHAPE, 0.3, np.float32)
    assert len(EventSimulator(np.random.default_rng(0), scene, QUIET).step(scene, 0, 0.05).t) == 0
    sensor = EventSensor(noise_rate=10.0)
    count = len(EventSimulator(np.random.default_rng(0), scene, sensor).step(scene, 0, 1.0).t)
    assert count == pytest.approx(10 * scene.size, rel=0.05)


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_events_count_contrast_over_threshold(factor):
    scene = np.full(SHAPE, 0.3, np.float32)
    scene[:, :10] *= factor
    simulator = EventSimulator(np.random.default_rng(0), np.full(SHAPE, 0.3, np.float32), QUIET)
    events = simulator.step(scene, 0.1, 0.2)
    assert (events.x < 10).all()
    assert (events.p == (factor > 1)).all()
    # the last crossing is not reached: half a threshold is lost on the mean
    assert len(events.t) / (10 * SHAPE[0]) == pytest.approx(np.log(4.0) / 0.25 - 0.5, rel=0.02)
    assert (np.diff(events.t) >= 0).all()
    assert 100_000 <= events.t[0] <= events.t[-1] <= 200_000


def test_dark_edges_give_events_as_bright_ones_do():
    counts = []
    for level in (0.01, 10.0):
        before, after = np.full(SHAPE, level, np.float32), np.full(SHAPE, 2 * level, np.float32)
        counts.append(len(EventSimulator(np.random.default_rng(0), before, QUIET).step(after, 0, 0.01).t))
    assert counts[0] > 0.9 * counts[1]


def test_refractory_time_limits_the_rate():
    before, after = np.full(SHAPE, 0.001, np.float32), np.full(SHAPE, 100.0, np.float32)
    sensor = EventSensor(noise_rate=0.0, refractory=0.002)
    events = EventSimulator(np.random.default_rng(0), before, sensor).step(after, 0, 0.01)
    per_pixel = np.bincount(events.y.astype(int) * SHAPE[1] + events.x)
    assert 2 <= per_pixel.max() <= 5


def test_rectify_map_brings_events_back():
    """A flashing spot in the rectified view is reported by pixels that the map sends back to it."""
    mapping = rectify_map(np.random.default_rng(4))
    grid = np.stack(np.meshgrid(np.arange(640), np.arange(480)), axis=-1)
    assert 2 < np.abs(mapping - grid).max() < 30
    dark = np.full((480, 640), 0.01, np.float32)
    simulator = EventSimulator(np.random.default_rng(0), on_sensor(dark, mapping), QUIET)
    spots = np.array([[40, 30], [600, 50], [320, 240], [80, 450], [580, 440]])
    bright = dark.copy()
    for x, y in spots:
        bright[y - 1 : y + 2, x - 1 : x + 2] = 1.0
    events = simulator.step(on_sensor(bright, mapping), 0, 0.01)
    back = mapping[events.y, events.x]
    distance = np.abs(back[:, None] - spots[None]).max(axis=-1)
    assert distance.min(axis=1).max() < 2.0
    for index, spot in enumerate(spots):
        own = back[distance.argmin(axis=1) == index]
        np.testing.assert_allclose(own.mean(axis=0), spot, atol=0.5)
