"""Files with arbitrary content: they are read, or refused with one clear message; nothing hangs or is half-written.

``make fuzz`` tries 10,000 inputs and more, a test run 500; ``CMDA_FUZZ_INPUTS`` is the number.
"""

import io
import json
import os
import pickle
import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers import plain_forms
from helpers.golden_tools import GOLDEN
from helpers.hostile_events import as_lines, event_columns, usable
from helpers.loop_attacks import as_python, attack_events
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmseg.config.load import check_config, effective, load_config
from mmseg.config.run import RunConfig
from mmseg.datasets.dsec_frames import read_event_index, read_frame_list, read_timestamps
from mmseg.engine.checkpoint import load_training, save_checkpoint, segmentor_weights
from mmseg.errors import CMDAError
from mmseg.events import voxel_grid
from mmseg.events.files import open_events
from mmseg.events.normalize import rescale_array, standardize_events
from mmseg.events.recording import HEIGHT, WIDTH, EventRecording
from mmseg.io.image_files import open_image, open_label
from mmseg.preparation.cityscapes import convert_cityscapes

ROOT = Path(__file__).resolve().parents[2]
INPUTS = int(os.environ.get("CMDA_FUZZ_INPUTS", "500"))
# longest time for one input, in seconds; the first of a test also compiles the loops
DEADLINE = 60
PYTHON_LOOPS = as_python(voxel_grid)


def fuzz(share: float):
    """Settings of a test that tries a fraction of all inputs."""
    return settings(
        max_examples=max(1, round(share * INPUTS)),
        deadline=DEADLINE * 1000,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


@contextmanager
def ours_or_nothing():
    """Accept success, and errors with a message of this project."""
    message = "read"
    try:
        yield
    except CMDAError as error:
        message = str(error).strip()
    assert message
    assert "Traceback" not in message


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# ---------------------------------------------------------------- config files

NAMES = "model data uda optimizer lr_config runner evaluation checkpoint_config type train source target decode_head "
NAMES += "max_iters interval lr alpha precision seed workers_per_gpu"
KEYS = st.sampled_from(NAMES.split()) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def published() -> dict:
    return load_config(ROOT / "configs/fusion/cs2dsec_image+events_together_b5.py").to_dict()


def check(path: Path) -> None:
    cfg = effective(load_config(path))
    check_config(cfg, for_training=True)
    RunConfig.from_config(cfg)


@fuzz(0.1)
@given(content=st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_json_config(folder, content):
    path = folder / "any.json"
    path.write_text(json.dumps(content))
    with ours_or_nothing():
        check(path)


def sections(config: dict, prefix: tuple = ()):
    for key, value in config.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from sections(value, (*prefix, key))


@fuzz(0.15)
@given(data=st.data())
def test_the_published_config_with_any_value_anywhere(folder, published, data):
    content = json.loads(json.dumps(published, default=list))
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(list(sections(content))))
        node = content
        for key in parents:
            node = node[key]
        if data.draw(st.booleans()):
            node[last] = data.draw(VALUES)
        else:
            node[data.draw(KEYS)] = node.pop(last)
    path = folder / "changed.json"
    path.write_text(json.dumps(content))
    with ours_or_nothing():
        check(path)


@fuzz(0.05)
@given(text=st.text(max_size=60) | st.binary(max_size=60))
def test_any_python_config(folder, text):
    path = folder / "any.py"
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with ours_or_nothing():
        check(path)


# ---------------------------------------------------------------- list files

LINES = st.lists(
    st.from_regex(r"\A[-+]?[0-9]{1,22}\Z")
    | st.from_regex(r"\A[a-z/]{0,9}/images/left/rectified/[0-9]{5,7}\.png -?[0-9]{1,20}\Z")
    | st.text(max_size=30),
    max_size=5,
)


@fuzz(0.15)
@given(lines=LINES, rest=st.binary(max_size=8))
def test_any_list(folder, lines, rest):
    path = folder / "list.txt"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass") + rest)
    for read in (read_frame_list, read_event_index, read_timestamps):
        with ours_or_nothing():
            assert len(read(path)) > 0


# ---------------------------------------------------------------- event recordings


@pytest.fixture(scope="module")
def rectify_map(folder) -> Path:
    path = folder / "rectify_map.h5"
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    with h5py.File(path, "w") as file:
        file["rectify_map"] = np.stack([x, y], axis=-1).astype(np.float32)
    return path


@fuzz(0.15)
@given(
    columns=event_columns(),
    start=st.integers(0, 25),
    count=st.integers(0, 25),
    bins=st.sampled_from([1, 5]),
    missing=st.sampled_from(["", "", "", "t", "x", "p"]),
)
def test_any_events(folder, rectify_map, columns, start, count, bins, missing):
    """A window is refused, or equals that of the plain form."""
    path = folder / "events.h5"
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if name != missing:
                file[f"events/{name}"] = values
    recording, part = EventRecording(path, rectify_map), slice(start, start + count + 1)
    whole = not missing and start + count < len(columns["t"])
    refused = True
    with ours_or_nothing():
        grid = recording.voxel_grid(start, start + count, bins)
        refused = False
        assert whole
        assert usable(columns, part)
        t, x, y = (columns[key][part].astype(np.float64) for key in "txy")
        in_window = (t - t[0]) / (t[-1] - t[0])
        plain = plain_forms.voxel_grid(in_window, x, y, columns["p"][part] > 0, bins, HEIGHT, WIDTH)
        np.testing.assert_allclose(grid, plain, atol=1e-3)
        assert np.isfinite(rescale_array(standardize_events(grid), 1.0)).all()
    lasts = whole and columns["t"][start] < columns["t"][start + count]
    assert not (refused and lasts and usable(columns, part))
    with ours_or_nothing():
        events = recording.window(start, start + count)
        np.testing.assert_array_equal(events.p, columns["p"][part] > 0)
    recording.close()


@fuzz(0.1)
@given(columns=event_columns(), kind=st.sampled_from(["npz", "csv", "names"]), size=st.booleans())
def test_any_table_of_events(folder, columns, kind, size):
    """Files read completely pass the same checks as those of DSEC."""
    if kind == "npz":
        path = folder / "events.npz"
        np.savez(path, **columns, **({"height": HEIGHT, "width": WIDTH} if size else {}))
    else:
        path = folder / "events.csv"
        order = "txyp" if kind == "csv" else "xypt"
        names = [] if kind == "csv" else ["# " + ",".join(order)]
        path.write_text("\n".join([*names, *as_lines(columns, order)]))
    with ours_or_nothing():
        found = open_events(path).events(0, len(columns["t"]) - 1)
        assert (np.diff(found.t) >= 0).all()
        for key in "txy":
            np.testing.assert_array_equal(getattr(found, key), columns[key].astype(getattr(found, key).dtype))
        np.testing.assert_array_equal(found.p, columns["p"] > 0)


@fuzz(0.1)
@given(seed=st.integers(0, 2**32 - 1), watched=st.booleans())
def test_any_values_in_the_compiled_loops(seed, watched):
    """test_compiled_loops.py shows that this finds a missing check."""
    module = PYTHON_LOOPS if watched else voxel_grid
    attack_events(module, np.random.default_rng(seed), watched)


@fuzz(0.05)
@given(data=st.data())
def test_any_damage_to_a_recording(folder, data):
    source = GOLDEN / "mini/DSEC_Night/zurich_city_09_b/events/left"
    path = damaged(source / "events.h5", folder / "damaged.h5", data)
    recording = EventRecording(path, damaged(source / "rectify_map.h5", folder / "map.h5", data, likely=False))
    with ours_or_nothing():
        assert np.isfinite(recording.voxel_grid(100, 3000, 1)).all()
    recording.close()


def damaged(source: Path, path: Path, data: st.DataObject, likely: bool = True) -> Path:
    """A copy of a file that is truncated, or has changed bytes."""
    content = bytearray(source.read_bytes())
    if likely or data.draw(st.booleans()):
        kind = data.draw(st.sampled_from(["cut", "bytes", "zeros"]))
        where = data.draw(st.integers(0, len(content) - 1))
        if kind == "cut":
            content = content[:where]
        elif kind == "zeros":
            content[where : where + 4096] = bytes(len(content[where : where + 4096]))
        else:
            replaced = data.draw(st.binary(min_size=1, max_size=16))
            content[where : where + len(replaced)] = replaced
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------- labels


@fuzz(0.1)
@given(
    mode=st.sampled_from(["L", "P", "RGB", "RGBA", "I;16", "1"]),
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    seed=st.integers(0, 99),
    high=st.sampled_from([2, 19, 20, 256]),
)
def test_any_label_image(folder, mode, width, height, seed, high):
    values = np.random.default_rng(seed).integers(0, high, (height, width), dtype=np.uint8)
    path = folder / "label.png"
    Image.fromarray(values, "L").convert(mode).save(path)
    with ours_or_nothing():
        assert set(np.unique(open_label(path))) <= {*range(19), 255}


@fuzz(0.1)
@given(data=st.data())
def test_any_damage_to_a_label(folder, data):
    source = next((GOLDEN / "mini/DSEC_Night/zurich_city_09_b/labels").glob("*.png"))
    path = damaged(source, folder / "damaged.png", data)
    with ours_or_nothing():
        assert set(np.unique(open_label(path))) <= {*range(19), 255}


@fuzz(0.1)
@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP"]))
def test_any_damage_to_an_image(folder, data, kind):
    source = folder / f"whole.{kind}"
    if not source.exists():
        values = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(values).save(source, kind)
    path = damaged(source, folder / "image.png", data)
    with ours_or_nothing():
        assert np.asarray(open_image(path, "RGB")).shape[2] == 3


@fuzz(0.02)
@given(data=st.data())
def test_a_damaged_label_leaves_no_half_conversion(folder, data):
    """Either all files of the converter exist, or none is new."""
    root = folder / "cityscapes"
    shutil.rmtree(root, ignore_errors=True)
    city = root / "gtFine" / "train" / "ulm"
    city.mkdir(parents=True)
    path = city / "ulm_000000_000019_gtFine_labelIds.png"
    Image.fromarray(np.full((8, 16), 7, np.uint8)).save(path)
    damaged(path, path, data)
    with ours_or_nothing():
        convert_cityscapes(root)
        assert (root / "sample_class_stats.json").is_file()
    written = {p.name for p in root.iterdir()}
    assert written in ({"gtFine"}, written | {"sample_class_stats.json", "samples_with_class.json"})
    assert not list(root.rglob(".*tmp*"))


# ---------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def checkpoint(folder) -> Path:
    model = torch.nn.ModuleDict({"model": torch.nn.Linear(3, 3), "ema_model": torch.nn.Linear(3, 3)})
    path = folder / "whole.pth"
    save_checkpoint(path, model, torch.optim.AdamW(model.parameters()), 3, {"seed": 1})
    return path


@fuzz(0.08)
@given(data=st.data())
def test_any_damage_to_a_checkpoint(folder, checkpoint, data):
    """A changed byte is found by its checksum, or has no meaning: the weights are right, or refused."""
    path = damaged(checkpoint, folder / "damaged.pth", data)
    whole = torch.load(checkpoint, weights_only=True)["state_dict"]
    with ours_or_nothing():
        for name, tensor in segmentor_weights(path, "teacher").state_dict.items():
            assert torch.equal(tensor, whole[f"ema_model.{name}"])
    model = torch.nn.ModuleDict({"model": torch.nn.Linear(3, 3), "ema_model": torch.nn.Linear(3, 3)})
    with ours_or_nothing():
        load_training(path, model, torch.optim.AdamW(model.parameters()))
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, whole[name])


CONTENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["meta", "iter", "state_dict", "optimizer", "model.w", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@fuzz(0.04)
@given(content=CONTENT, legacy=st.booleans())
def test_any_content_of_a_checkpoint(folder, content, legacy):
    path = folder / "any.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    model = torch.nn.Linear(2, 2)
    with ours_or_nothing():
        segmentor_weights(path)
    with ours_or_nothing():
        load_training(path, model, torch.optim.AdamW(model.parameters()))


@fuzz(0.02)
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04"]))
def test_any_bytes_as_a_checkpoint(folder, content, start):
    path = folder / "bytes.pth"
    path.write_bytes(start + content)
    with ours_or_nothing():
        segmentor_weights(path)


class Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["torch", "legacy", "pickle", "zip"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, kind):
    path, trapped = tmp_path / "trap.pth", tmp_path / "trapped"
    content = {"state_dict": {"w": torch.zeros(1)}, "meta": Trap(trapped)}
    if kind in ("torch", "legacy"):
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Trap(trapped)))
    else:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Trap(trapped), protocol=2))
            archive.writestr("archive/version", "3")
        path.write_bytes(buffer.getvalue())
    with pytest.raises(CMDAError, match=r"trap\.pth"):
        segmentor_weights(path)
    assert not trapped.exists()
