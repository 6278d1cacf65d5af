"""Demonstrate CMDA on a generated toy city: data, day network, adaptation to the night, test, comparison."""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path

from mmseg.apis.arguments import Parser
from mmseg.config.published import find_config
from mmseg.errors import CMDAError
from mmseg.system.program import command_line, spelled
from mmseg.toy.settings import SIZES, TINY_TRAINING, city_record
from mmseg.work_dir.layout import WorkDir, experiment_of
from mmseg.work_dir.metrics_file import read_metrics

# Number of night images in the picture that compares both networks
PICTURES = 4
RUNS = Path("work_dirs") / "local-basic"
# Tests of the network that adaptation starts from
BEFORE = Path("work_dirs") / "demo_day_network"
DAY_NETWORK = "toy_day.pth"
# Manifest of a toy city
DAYS = "day_val.jsonl"


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Generate a toy city in the formats of the real data sets, test a network that has learned such "
        "cities by day, adapt it to the night with CMDA, test it again and compare. Runs are written to "
        "work_dirs/.",
        epilog="example: python tools/demo.py",
    )
    parser.add_argument(
        "--data", default="data/toy_city", help="folder of the toy city, generated if absent (default: %(default)s)"
    )
    parser.add_argument(
        "--size",
        choices=("tiny", "small", "medium"),
        default="small",
        help="size of the toy city (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the toy city and of the training (default: %(default)s)"
    )
    parser.add_argument("--iterations", type=int, help="iterations of the training (default: as in its config)")
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args()
    if args.iterations is not None and args.iterations < 1:
        parser.error(f"--iterations {args.iterations}: give a number of at least 1")
    return args


def run(*command: str) -> None:
    """Print a command and run it.

    Raises:
        CMDAError: the command failed.
    """
    print(spelled(f"\n$ python {' '.join(command)}"), flush=True)
    code = subprocess.run([*command_line(command[0]), *command[1:]], check=False).returncode
    if code:
        raise CMDAError(f"{command[0]} failed with exit status {code}; see its message above")


def make_city(args: argparse.Namespace) -> None:
    """Generate the toy city unless it exists.

    Raises:
        CMDAError: there is one that does not fit, or it cannot be generated.
    """
    record = city_record(Path(args.data))
    if record:
        width = (record.get("settings") or {}).get("day_width")
        if width != SIZES[args.size].day_width or not (Path(args.data) / DAYS).is_file():
            raise CMDAError(
                f"{args.data} holds a toy city of another size or version; give another folder as --data, or remove it"
            )
        print(f"{args.data} already exists")
        return
    run("tools/make_toy_data.py", args.data, "--size", args.size, "--seed", str(args.seed))


def train(config: str, args: argparse.Namespace) -> Path:
    """Train a config of ``configs/demo``, and return the work dir."""
    before = set(RUNS.glob("*"))
    options = [f"seed={args.seed}"]
    if args.size == "tiny":
        options += [f"{key}={value}" for key, value in TINY_TRAINING.items()]
    if args.iterations:
        options.append(f"runner.max_iters={args.iterations}")
    command = ["--root-path", args.data, "--base-config", f"{config}_toy_city", "--name", f"demo_{config}"]
    run("my_run_experiments.py", *command, "--cfg-options", *options)
    return next(path for path in set(RUNS.glob("*")) - before if experiment_of(path.name) == f"demo_{config}")


def newest_checkpoint(work_dir: Path) -> Path:
    """Path of the newest checkpoint of a run."""
    return WorkDir(work_dir).checkpoints()[-1].resolve()


def test_day_network(args: argparse.Namespace) -> dict[str, dict]:
    """Test the network that has learned the days by day, on images, and at night; return both ``metrics.json``."""
    weights = find_config("day_toy_city").with_name(DAY_NETWORK)
    days = f"data.test.manifest={Path(args.data) / DAYS}"
    tests = {
        "day": ("day_toy_city", "--output", "image", "--cfg-options", days),
        "night": ("source_only_toy_city", "--output", "fusion", "--root-path", args.data),
    }
    for when, (config, *options) in tests.items():
        run("tools/test.py", config, str(weights), "--out", str(BEFORE / when), *options)
    return {when: read_metrics(BEFORE / when / "metrics.json") for when in tests}


def test(work_dir: Path, args: argparse.Namespace) -> dict[str, dict]:
    """Test the outputs of a run at night and return the ``metrics.json`` of each."""
    results = {}
    for output in ("image", "events", "fusion"):
        run("my_test.py", "--work-dir", str(work_dir), "--root-path", args.data, "--output", output)
        results[output] = read_metrics(WorkDir(work_dir).predictions((output,)).metrics)
    return results


def compare(before: dict[str, dict], cmda: dict[str, dict]) -> None:
    """Print the scores before and after adaptation side by side."""
    from rich.console import Console

    from mmseg.system.printing import TextTable

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f}"

    table = TextTable(title="IoU on test streets, in percent")
    table.add_column("class")
    titles = {"day": "day network\nby day", "night": "day network\nat night"}
    columns = [(titles[when], result) for when, result in before.items()]
    columns += [(f"CMDA, {output}\nat night", result) for output, result in cmda.items()]
    for title, _ in columns:
        table.add_column(title, justify="right")
    classes = columns[0][1]["per_class"]
    for name in classes:
        values = [result["per_class"].get(name, {}).get("IoU") for _, result in columns]
        if any(value is not None for value in values):
            table.add_row(name, *map(percent, values))
    table.add_section()
    for label, key in (("mIoU", "mIoU"), ("pixel accuracy", "aAcc")):
        table.add_row(label, *(percent(result["scores"][key]) for _, result in columns))
    Console().print(table)


def draw(cmda: Path, args: argparse.Namespace) -> Path:
    """Draw night images, predictions before and after adaptation, and labels; return the path of the picture."""
    import cv2
    import numpy as np

    from mmseg.config.data_root import set_root
    from mmseg.engine.checkpoint_config import config_of
    from mmseg.io.image_files import open_label
    from mmseg.registry import DATASETS
    from mmseg.visualization.panels import (
        color_label,
        image_picture,
        label_picture,
        panel,
        save_picture,
        signed_picture,
    )

    config, _ = config_of(WorkDir(cmda).find_config(), newest_checkpoint(cmda))
    set_root(config, args.data)
    dataset = DATASETS.build(config.data.test.to_dict())
    rows = []
    for index in np.linspace(0, len(dataset) - 1, min(PICTURES, len(dataset)), dtype=int):
        sample = dataset[int(index)]
        name = f"{sample['img_metas']['name']}.png"
        seen = {
            title: color_label(np.asarray(open_label(folder / name)))
            for title, folder in (
                ("day network", BEFORE / "night"),
                ("CMDA", WorkDir(cmda).predictions(("fusion",)).path),
            )
        }
        given = {"night": image_picture(sample["warp_image"]), "events": signed_picture(sample["events_vg"])}
        pictures = {**given, **seen, "truth": label_picture(sample["label"])}
        # Inputs and predictions may differ in size.
        size = dataset.prediction_size[::-1]
        rows.append(panel({k: cv2.resize(v, size, interpolation=cv2.INTER_NEAREST) for k, v in pictures.items()}))
    path = cmda / "comparison.png"
    picture = np.concatenate(rows)
    save_picture(path, cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return path


def main() -> None:
    """Run the demo and print the comparison."""
    args = parse_args()
    started = time.monotonic()
    make_city(args)
    before = test_day_network(args)
    cmda = train("cmda", args)
    scores = test(cmda, args)
    print()
    compare(before, scores)
    print(f"comparison:          {draw(cmda, args)}")
    print(f"toy city:            {Path(args.data) / 'contact_sheet.png'}")
    print(f"training pictures:   {cmda / 'pictures'}")
    print(f"CMDA panels:         {WorkDir(cmda).predictions(('fusion',)).panels}")
    print(f"day network panels:  {BEFORE / 'night' / 'panels'}")
    print(f"finished in {(time.monotonic() - started) / 60:.1f} minutes")
