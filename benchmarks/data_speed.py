"""Speed of sample preparation: the package compared with the plain implementations in ``plain.py``, on one thread.

Results are checked first: 8-bit quantities must be equal, floats within 1e-5 of the largest magnitude (or of 1, if
larger); otherwise the program stops. Then both are timed alternately, so that a busy machine slows both. The data are
synthetic, in the formats of DSEC and Cityscapes; the settings are those of the published config.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import plain
from toy_adaptation import markdown

from mmseg.apis.arguments import Parser, whole_number
from mmseg.classes import CLASSES, IGNORE_LABEL
from mmseg.config.load import effective, load_config
from mmseg.config.uda import UDASettings
from mmseg.datasets.cache import build_cache
from mmseg.datasets.cityscapes import CityscapesICDataset
from mmseg.datasets.dsec_night import DSECDataset
from mmseg.datasets.normalization import normalize_image
from mmseg.errors import CMDAError, run_as_script
from mmseg.events.normalize import event_clip_range, rescale_array, standardize_events
from mmseg.events.recording import HEIGHT, WIDTH
from mmseg.events.voxel_grid import voxel_grid
from mmseg.extractors.content import content_map
from mmseg.io.files import write_text
from mmseg.toy.events import EventArrays
from mmseg.toy.writers import write_night_frame, write_recording
from mmseg.uda.augment import input_grey_level
from mmseg.uda.cmda import mixed_content_params
from mmseg.visualization.panels import save_picture

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "fusion" / "cs2dsec_image+events_together_b5.py"
SEED = 0
EVENTS = 300_000
# A recording stays open, and HDF5 caches the last 8 MiB of every column, i.e. 8.4 million polarities. Training draws
# frames at random and hardly profits from this cache, so a pass over all windows must not profit either.
WINDOWS = 32
WINDOW_TIME = 50_000  # µs
CITY_IMAGES = 3
CITY_SIZE = (1024, 2048)
# Brightness of the images of a batch, and their side in pixels.
BATCH, SIDE = (30, 90), 512
TOLERANCE = 1e-5

Form = Callable[[int], Any]


@dataclass(frozen=True)
class Case:
    """One computation, in several implementations that take the number of a repetition.

    Attributes:
        plain: the plain implementation.
        ours: title -> implementation of the package and its goal.
        repeated: number of repetitions after which the data repeat.
        exact: returns intermediate 8-bit quantities, (plain, ours).
    """

    plain: Form
    ours: Mapping[str, tuple[Form, str]]
    repeated: int = 1
    exact: Callable[[], tuple[Tensor, Tensor]] | None = None


@dataclass(frozen=True)
class Row:
    """Times of an implementation of the package and of the plain one, in ms, one per repetition."""

    title: str
    aim: str
    plain: list[float]
    ours: list[float]

    def ratios(self) -> list[str]:
        """Speed-ups of best and median times."""
        return [f"{of(self.plain) / of(self.ours):.1f}" for of in (min, statistics.median)]

    def times(self) -> list[str]:
        """``best / median`` of the plain implementation and of ours."""
        return [f"{min(times):.2f} / {statistics.median(times):.2f}" for times in (self.plain, self.ours)]


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description=__doc__,
        epilog="example: python benchmarks/data_speed.py --repetitions 12",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--repetitions",
        type=whole_number(1),
        default=WINDOWS,
        help="repetitions of each implementation (default: %(default)s)",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the ratios to this file")
    return parser.parse_args()


def textured(rng: np.random.Generator, height: int, width: int, brightness: float, noise: float) -> np.ndarray:
    """Synthetic image (H, W, 3) uint8: blobs of all sizes around a grey level, plus noise."""
    picture = np.full((height, width, 3), brightness, np.float32)
    for cells in (4, 16, 64):
        field = rng.normal(0, brightness / 3, (cells, 2 * cells)).astype(np.float32)
        picture += np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC))[..., None]
    picture += noise * rng.standard_normal(picture.shape, np.float32)
    return picture.clip(0, 255).astype(np.uint8)


def rectify_map() -> np.ndarray:
    """(480, 640, 2) float32: a lens that slightly rotates and stretches the image; its corners leave the frame."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    x, y = x - WIDTH / 2, y - HEIGHT / 2
    scale = 0.97 + 2e-7 * (x**2 + y**2)
    x, y = (scale * x - 0.02 * y + WIDTH / 2, scale * y + 0.02 * x + HEIGHT / 2)
    return np.stack((x, y), axis=-1).astype(np.float32)


def made_up_events(rng: np.random.Generator, windows: int) -> EventArrays:
    """Events of adjacent windows, 300,000 in each.

    Every pixel has only one polarity. With both, the sum of a cell could vanish exactly in one implementation and up to
    rounding in another, and normalisation distinguishes such cells.
    """
    count = windows * (EVENTS - 1) + 1
    x, y = rng.integers(0, WIDTH, count, np.uint16), rng.integers(0, HEIGHT, count, np.uint16)
    polarity = rng.integers(0, 2, (HEIGHT, WIDTH), np.uint8)
    return EventArrays(np.sort(rng.integers(0, windows * WINDOW_TIME, count)), x, y, polarity[y, x])


def write_dsec(folder: Path, rng: np.random.Generator) -> Path:
    """Write a sequence with a recording and night images, and return its frame list."""
    sequence = folder / "zurich_city_09_e"
    events = made_up_events(rng, WINDOWS)
    write_recording(sequence, events, 0, WINDOWS + 1, 0, rectify_map())
    indices = [frame * (EVENTS - 1) for frame in range(WINDOWS + 1)]
    write_text(sequence / "images" / "images_to_events_index.txt", "".join(f"{index}\n" for index in indices))
    rectified = sequence / "images" / "left" / "rectified"
    lines = [f"{rectified}/{frame:06d}.png {index}\n" for frame, index in enumerate(indices) if frame]
    for frame in range(1, WINDOWS + 1):
        write_night_frame(sequence, frame, textured(rng, HEIGHT, WIDTH, 30, 4), None)
    write_text(folder / "list.txt", "".join(lines))
    return folder / "list.txt"


def write_cityscapes(root: Path, rng: np.random.Generator) -> Path:
    """Write day images with labels and image changes at their real size, and return the root."""
    height, width = CITY_SIZE
    for number in range(CITY_IMAGES):
        name = f"aachen_{number:06d}_000019"
        coarse = rng.choice([*range(len(CLASSES)), IGNORE_LABEL], (32, 64)).astype(np.uint8)
        label = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))
        files = {
            f"leftImg8bit/train/aachen/{name}_leftImg8bit.png": textured(rng, height, width, 90, 2),
            f"gtFine/train/aachen/{name}_gtFine_labelTrainIds.png": label,
            f"leftImg8bit_IC1/train/aachen/{name}_leftImg8bit.png": textured(rng, height, width, 128, 8)[..., 0],
        }
        for path, picture in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            save_picture(root / path, picture)
    return root


def voxel_grid_case(rng: np.random.Generator, bins: int, aim: str) -> Case:
    """300,000 rectified events of random polarity."""
    t = np.sort(rng.random(EVENTS, np.float32))
    t = (t - t[0]) / (t[-1] - t[0])
    x, y = (rng.uniform(-5, side + 5, EVENTS).astype(np.float32) for side in (WIDTH, HEIGHT))
    arrays = (t, x, y, rng.integers(0, 2, EVENTS).astype(np.float32))
    tensors = [torch.from_numpy(array) for array in arrays]
    title = f"voxel grid of {EVENTS:,} events, {bins} bin{'s' if bins > 1 else ''}"
    return Case(
        lambda _: plain.voxel_grid(*tensors, bins, HEIGHT, WIDTH),
        {title: (lambda _: torch.from_numpy(voxel_grid(*arrays, bins, HEIGHT, WIDTH)), aim)},
    )


def normalisation_case(dataset: DSECDataset) -> Case:
    """The full grid of a window."""
    start, finish = dataset.windows[0]
    grid = dataset.recordings[dataset.frames[0].sequence_dir].voxel_grid(start, finish, 1)
    tensor, clip = torch.from_numpy(grid), event_clip_range(start, finish)
    return Case(
        lambda _: plain.normalize_events(tensor, clip),
        {"normalisation of a grid": (lambda _: torch.from_numpy(rescale_array(standardize_events(grid), clip)), "")},
    )


def content_case(rng: np.random.Generator, settings: UDASettings) -> Case:
    """Content maps of mixed images, as in a training step, on the CPU."""
    params, direction = mixed_content_params(settings), "rightdown"
    images = torch.stack([normalize_image(textured(rng, SIDE, SIDE, brightness, 4)) for brightness in BATCH])
    # After colour jitter and blur, grey levels are not integers.
    images += 0.01 * torch.from_numpy(rng.standard_normal(images.shape, np.float32))

    def ours(_: int) -> Tensor:
        return content_map(input_grey_level(images), params, direction)[:, None].expand(-1, 3, -1, -1)

    def grey_levels() -> tuple[Tensor, Tensor]:
        plain_form = [torch.from_numpy(np.array(plain.picture(image).convert("L"))) for image in images]
        return torch.stack(plain_form), input_grey_level(images)

    title = f"content maps of a batch of {len(BATCH)}, {SIDE}x{SIDE}"
    return Case(lambda _: plain.batch_content_map(images, params, direction), {title: (ours, "3")}, exact=grey_levels)


def sample_case(
    rng: np.random.Generator, plain_form: Callable[..., dict], forms: Mapping[str, tuple[Any, str]]
) -> Case:
    """Samples of data sets that read the same files, each with its title and goal; all use the same random draws."""
    first, _ = next(iter(forms.values()))
    draws = [first.draw(rng) for _ in range(len(first))]

    def form(sample: Callable[..., dict]) -> Form:
        return lambda number: sample(number % len(draws), draws[number % len(draws)])

    return Case(
        form(lambda index, draw: plain_form(first, index, draw)),
        {title: (form(dataset.sample), aim) for title, (dataset, aim) in forms.items()},
        repeated=len(draws),
    )


def make_cases(folder: Path) -> list[Case]:
    """All measured computations, with their data in a folder."""
    rng = np.random.default_rng(SEED)
    config = effective(load_config(CONFIG))
    target = {**config["data"]["train"]["target"], "dataset_txt_path": write_dsec(folder / "dsec", rng)}
    source = {**config["data"]["train"]["source"], "dataset_path": write_cityscapes(folder / "cityscapes", rng)}
    night, day = (_with_cache(cfg, folder / name) for cfg, name in ((target, "night"), (source, "day")))
    settings = UDASettings(**config["uda"])
    return [
        voxel_grid_case(rng, 1, "6 (ideally 15)"),
        voxel_grid_case(rng, 5, ""),
        normalisation_case(night[0]),
        content_case(rng, settings),
        sample_case(
            rng,
            plain.dsec_sample,
            {
                f"DSEC sample of {EVENTS:,} events": (night[0], "4"),
                "the same, from the cache": (night[1], "8"),
            },
        ),
        sample_case(rng, plain.cityscapes_sample, {"Cityscapes sample, from the cache": (day[1], "4")}),
    ]


def _with_cache(cfg: Mapping[str, Any], folder: Path) -> tuple[Any, Any]:
    """A data set without and with a cache, which is written."""
    kind = {kind.__name__: kind for kind in (DSECDataset, CityscapesICDataset)}[cfg["type"]]
    cfg = {key: value for key, value in cfg.items() if key != "type"}
    dataset = kind(**cfg)
    build_cache(folder, dataset)
    return dataset, kind(**cfg, cache=str(folder))


def check_equal(title: str, expected: Any, found: Any) -> None:
    """Refuse results that differ: integers at all, floats by more than the tolerance.

    Args:
        title: name of the comparison, for the message.
        expected, found: tensors, or dictionaries of them.

    Raises:
        CMDAError: naming the part and the difference.
    """
    if isinstance(expected, Mapping):
        if expected.keys() != found.keys():
            raise CMDAError(f"{title}: the plain implementation gives {sorted(expected)}, ours {sorted(found)}")
        for key, value in expected.items():
            check_equal(f"{title}: {key}", value, found[key])
        return
    if expected.shape != found.shape or expected.dtype != found.dtype:
        shapes = [f"{part.dtype} {tuple(part.shape)}" for part in (expected, found)]
        raise CMDAError(f"{title}: the plain implementation gives {shapes[0]}, ours {shapes[1]}")
    difference = float((expected.double() - found.double()).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max())) if expected.is_floating_point() else 0.0
    # Not "difference > allowed", which is false for NaN.
    if not difference <= allowed:
        raise CMDAError(
            f"{title}: ours differs from the plain implementation by {difference:.2g}; {allowed:.2g} is allowed"
        )


def check(case: Case) -> None:
    """Compare all implementations of a case on all of its data.

    Raises:
        CMDAError: the results differ.
    """
    if case.exact is not None:
        check_equal(f"8-bit input of {next(iter(case.ours))}", *case.exact())
    for number in range(case.repeated):
        expected = case.plain(number)
        for title, (form, _) in case.ours.items():
            check_equal(title, expected, form(number))


def measure(case: Case, repetitions: int) -> list[Row]:
    """Time all implementations of a checked case alternately."""
    forms = {"plain": case.plain, **{title: form for title, (form, _) in case.ours.items()}}
    times: dict[str, list[float]] = {title: [] for title in forms}
    for number in range(repetitions):
        for title, form in forms.items():
            start = time.perf_counter()
            form(number)
            times[title].append(1000 * (time.perf_counter() - start))
    return [Row(title, aim, times["plain"], times[title]) for title, (_, aim) in case.ours.items()]


def machine() -> str:
    """One line that describes the machine."""
    models = []
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    load = f"load average {os.getloadavg()[0]:.1f}, " if hasattr(os, "getloadavg") else ""
    return (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {load}{torch.get_num_threads()} "
        f"thread used, torch {torch.__version__}, numpy {np.__version__}"
    )


def main() -> None:
    """Make data, check results, measure and print."""
    args = parse_args()
    torch.set_num_threads(1)
    console = Console()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        console.print("writing data and caches, checking results", highlight=False)
        cases = make_cases(Path(folder))
        for case in cases:
            check(case)
        console.print(f"all results agree; {args.repetitions} repetitions of each", highlight=False)
        about = machine()
        for case in cases:
            rows += measure(case, args.repetitions)
    table = Table(title="Preparing samples: best / median of the repetitions")
    table.add_column("what")
    for column in ("plain, ms", "ours, ms", "speed-up", "goal"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.title, *row.times(), " / ".join(row.ratios()), row.aim)
    console.print(table)
    console.print(about, highlight=False, soft_wrap=True)
    if args.markdown:
        head = ["what", "speed-up (best of each)", "speed-up (medians)", "goal"]
        text = markdown([head, *([row.title, *row.ratios(), row.aim] for row in rows)])
        try:
            write_text(args.markdown, f"{text}\n{about}; {args.repetitions} repetitions of each.\n")
        except OSError as error:
            raise CMDAError(f"{args.markdown} cannot be written ({error.strerror}): choose another file") from None


if __name__ == "__main__":
    run_as_script(main)
