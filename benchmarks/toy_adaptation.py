"""Contribution of each part of CMDA on the toy city: night mIoU of seven trainings, over several seeds.

(a) source only, (b) self-training on images only, (c) CMDA, (d) CMDA without the Image Content-Extractor, (e) CMDA
without events, (m) CMDA with masked image consistency, (x) with masks that differ between the modalities; for Dark
Zurich (a) to (c). All use the same network sizes, crops, learning rates and number of iterations, and start from the
same network that has learned the labelled days: ``configs/demo/toy_day.pth``, for (b) its part for images; for Dark
Zurich, one that is trained first. Finished runs are not repeated, so an interrupted benchmark continues where it
stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser, add_workers, whole_number
from mmseg.errors import CMDAError, run_as_script
from mmseg.io.files import write_text
from mmseg.toy.settings import city_record
from mmseg.work_dir.layout import WorkDir
from mmseg.work_dir.metrics_file import read_metrics

PROJECT = Path(__file__).resolve().parent.parent
# target -> variant -> (title, config of configs/demo, output -> options of my_test.py)
IMAGE = {"image": ("--output", "image")}
ALL_OUTPUTS = IMAGE | {"events": ("--output", "events"), "fusion": ("--output", "fusion")}
WITH_CONTENT_MAP = IMAGE | {"fusion": ("--image-isr", "--train-isr-parms")}
TARGETS = {
    "dsec": {
        "a": ("source only", "source_only_toy_city", ALL_OUTPUTS),
        "b": ("images only (DAFormer-style)", "image_only_toy_city", IMAGE),
        "c": ("CMDA", "cmda_toy_city", ALL_OUTPUTS),
        "d": ("CMDA without ICE", "cmda_without_ice_toy_city", ALL_OUTPUTS),
        "e": ("CMDA without events", "cmda_without_events_toy_city", IMAGE),
        "m": ("CMDA, masked consistency", "cmda_mic_toy_city", ALL_OUTPUTS),
        "x": ("CMDA, cross-modal masking", "cmda_crossmodal_mic_toy_city", ALL_OUTPUTS),
    },
    "dark_zurich": {
        "a": ("source only", "source_only_toy_dark_zurich", WITH_CONTENT_MAP),
        "b": ("images only (DAFormer-style)", "image_only_toy_dark_zurich", IMAGE),
        "c": ("CMDA", "cmda_toy_dark_zurich", WITH_CONTENT_MAP),
    },
}
# The start of the trainings towards DSEC
DAY_NETWORK = PROJECT / "configs" / "demo" / "toy_day.pth"
# Towards Dark Zurich: variants that share a start -> config of the start, trained only on the labelled days
STARTS = {"ac": "source_only_toy_dark_zurich", "b": "image_only_toy_dark_zurich"}
START_SEED = 0
# Regions of the night image whose mIoU is listed
REGIONS = ("dark", "glare", "boundary")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description=__doc__,
        epilog="example: python benchmarks/toy_adaptation.py --variants ac --seeds 0 --chart curves.svg",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data/toy_city"),
        help="folder of the toy city, generated if absent (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("work_dirs/toy_adaptation"), help="folder of the runs (default: %(default)s)"
    )
    parser.add_argument("--target", choices=list(TARGETS), default="dsec", help="night data set (default: %(default)s)")
    parser.add_argument("--variants", help="variants to train, e.g. ac (default: all for the target)")
    parser.add_argument("--seeds", type=whole_numbers, default="0,1,2", help="training seeds (default: %(default)s)")
    parser.add_argument(
        "--iterations", type=whole_number(1), default=1500, help="iterations of each (default: %(default)s)"
    )
    parser.add_argument(
        "--start-iterations",
        type=whole_number(1),
        default=160,
        help="Dark Zurich: iterations of the start (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="number format of the trainings, except their start (default: %(default)s)",
    )
    add_workers(parser, "number of runs at a time; they share the CPU's cores")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="also draw the curves to this .svg, .pdf or .png")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="also write tables and curves to this file, as Markdown"
    )
    return parser.parse_args()


def whole_numbers(text: str) -> list[int]:
    """Argument type: whole numbers, separated by commas."""
    return [whole_number(0)(part) for part in text.split(",")]


def script(*command: object, log: Path | None = None, threads: int | None = None) -> None:
    """Run a script of the project; its output goes to ``log``.

    Raises:
        CMDAError: the script failed.
    """
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    words = [sys.executable, str(PROJECT / str(command[0])), *map(str, command[1:])]
    with open(log or os.devnull, "a") as stream:
        code = subprocess.run(words, stdout=stream, stderr=stream, env=environment, check=False).returncode
    if code:
        raise CMDAError(f"{command[0]} failed with exit status {code}; see {log}")


def root_options(target: str, data: Path) -> list[str]:
    """Paths of the toy city as config options."""
    root = data / "data"
    options = {
        "data.train.source.dataset_path": root / "cityscapes",
        "data.train.source_json_root": root / "cityscapes",
    }
    parts = {"train.target": "night_dataset_warp.txt", "val": "night_test_dataset_warp.txt"}
    for part, name in (parts | {"test": parts["val"]}).items():
        if target == "dsec":
            options[f"data.{part}.dataset_txt_path"] = data / name
        else:
            options[f"data.{part}.dataset_path"] = root / "dark_zurich"
    return [f"{key}={value}" for key, value in options.items()]


def work_dir(variant: str, seed: int, args: argparse.Namespace) -> Path:
    """Folder of a run; its name tells data, length and precision."""
    name = TARGETS[args.target][variant][1]
    length = f"{args.start_iterations}+{args.iterations}" if args.target == "dark_zurich" else f"{args.iterations}"
    precision = "" if args.precision == "fp32" else f"_{args.precision}"
    return args.out / f"{variant}_{name}_{args.data.resolve().name}_{length}{precision}_seed{seed}"


def title(variant: str, args: argparse.Namespace) -> str:
    """Letter and name of a variant."""
    return f"({variant}) {TARGETS[args.target][variant][0]}"


def scores_file(folder: Path, output: str) -> Path:
    """File with the scores of an output."""
    return folder / f"scores_{output}.json"


def train(
    config: str, folder: Path, iterations: int, args: argparse.Namespace, threads: int | None, *more: str
) -> Path:
    """Train a config of ``configs/demo`` unless its checkpoint exists, and return the checkpoint."""
    checkpoint = WorkDir(folder).checkpoint(iterations)
    if checkpoint.is_file():
        return checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    print(f"training {folder.name}", flush=True)
    options = [*root_options(args.target, args.data), f"runner.max_iters={iterations}", *more]
    options += [f"evaluation.interval={max(1, iterations // 5)}", f"checkpoint_config.interval={iterations}"]
    base = PROJECT / "configs" / "demo" / f"{config}.py"
    command = ("tools/train.py", base, "--work-dir", folder, "--cfg-options", *options)
    script(*command, log=folder / "benchmark.out", threads=threads)
    return checkpoint


def start(config: str, args: argparse.Namespace, threads: int | None) -> Path:
    """Checkpoint of a network trained on the labelled days, for Dark Zurich."""
    folder = args.out / f"start_{config}_{args.data.resolve().name}_{args.start_iterations}"
    return train(config, folder, args.start_iterations, args, threads, f"seed={START_SEED}", "uda.source_only=True")


def starts(args: argparse.Namespace, pool: ThreadPoolExecutor, threads: int | None) -> dict[str, Path]:
    """Variant -> checkpoint that it starts from."""
    if args.target == "dsec":
        found = dict.fromkeys(args.variants, DAY_NETWORK)
        if "b" in args.variants:
            from toy_day_network import image_part

            found["b"] = args.out / "day_network_images.pth"
            image_part(DAY_NETWORK, found["b"])
        return found
    jobs = {v: pool.submit(start, config, args, threads) for v, config in STARTS.items() if set(v) & set(args.variants)}
    return {variant: job.result() for variants, job in jobs.items() for variant in variants}


def run(variant: str, seed: int, args: argparse.Namespace, threads: int | None) -> None:
    """Train and test one variant with one seed, unless done already."""
    _, config, outputs = TARGETS[args.target][variant]
    folder = work_dir(variant, seed, args)
    # Seeds must differ from that of the start.
    options = (f"seed={seed + 1}", f"load_from={args.starts[variant]}", f"precision={args.precision}")
    train(config, folder, args.iterations, args, threads, *options)
    for output, words in outputs.items():
        if not scores_file(folder, output).is_file():
            script("my_test.py", "--work-dir", folder, *words, log=folder / "benchmark.out", threads=threads)
            found = (test.metrics for test in WorkDir(folder).existing_predictions())
            newest = max(found, key=lambda path: path.stat().st_mtime)
            write_text(scores_file(folder, output), newest.read_text())


def results(args: argparse.Namespace, seeds: list[int]) -> Iterator[tuple[str, str, list[dict]]]:
    """Yield variant, output and the scores of its seeds."""
    for variant in args.variants:
        for output in TARGETS[args.target][variant][2]:
            files = [scores_file(work_dir(variant, seed, args), output) for seed in seeds]
            yield variant, output, [json.loads(path.read_text()) for path in files]


def mean_sd(values: list[float]) -> str:
    """``mean ± standard deviation`` in percent."""
    mean = 100 * statistics.mean(values)
    return f"{mean:.1f} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def table(args: argparse.Namespace, seeds: list[int]) -> list[list[str]]:
    """Rows of the table of scores."""
    rows = [["training", "output", "mIoU", "pixel accuracy", *(f"mIoU, {r}" for r in REGIONS), "mIoU of each seed"]]
    for variant, output, found in results(args, seeds):
        scores = [result["scores"] for result in found]
        each = ", ".join(f"{100 * score['mIoU']:.1f}" for score in scores)
        columns = [mean_sd([score[key] for score in scores]) for key in ("mIoU", "aAcc")]
        columns += [mean_sd([result["regions"][region]["mIoU"] for result in found]) for region in REGIONS]
        rows.append([title(variant, args), output, *columns, each])
    return rows


def curves(args: argparse.Namespace, seeds: list[int]) -> dict[str, dict[int, list[float]]]:
    """Title of a variant -> iteration -> mIoU of each seed in percent, of the output that training evaluates."""
    found: dict[str, dict[int, list[float]]] = {}
    for variant in args.variants:
        for seed in seeds:
            for evaluation in WorkDir(work_dir(variant, seed, args)).existing_evaluations():
                metrics = read_metrics(evaluation.metrics)
                by_iteration = found.setdefault(title(variant, args), {})
                by_iteration.setdefault(metrics["iteration"], []).append(100 * metrics["scores"]["mIoU"])
    return {name: dict(sorted(by_iteration.items())) for name, by_iteration in found.items()}


def curve_table(found: dict[str, dict[int, list[float]]]) -> list[list[str]]:
    """Rows of mIoU by iteration, averaged over seeds."""
    iterations = sorted({iteration for by_iteration in found.values() for iteration in by_iteration})
    rows = [["training", *map(str, iterations)]]
    for name, by_iteration in found.items():
        values = [f"{statistics.mean(by_iteration[i]):.1f}" if i in by_iteration else "-" for i in iterations]
        rows.append([name, *values])
    return rows


def markdown(rows: list[list[str]]) -> str:
    """Rows as a Markdown table; the first one is the header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def main() -> None:
    """Run missing trainings and tests, then print the tables."""
    args = parse_args()
    known = TARGETS[args.target]
    args.variants = args.variants or "".join(known)
    unknown = set(args.variants) - set(known)
    if unknown:
        raise CMDAError(f"--variants {args.variants}: unknown {', '.join(sorted(unknown))}; known: {''.join(known)}")
    if args.chart:
        from mmseg.report.plots import check_format, curve_chart, save_figure

        check_format(args.chart)
    seeds = args.seeds
    args.out.mkdir(parents=True, exist_ok=True)
    if not city_record(args.data):
        more = ["--dark-zurich", "40"] if args.target == "dark_zurich" else []
        script("tools/make_toy_data.py", args.data, *more, log=args.out / "toy_data.out")
    threads = max(1, (os.cpu_count() or 1) // args.workers) if args.workers > 1 else None
    with ThreadPoolExecutor(args.workers) as pool:
        args.starts = starts(args, pool, threads)
        # Seed by seed, so that an interrupted benchmark has complete comparisons.
        jobs = [pool.submit(run, variant, seed, args, threads) for seed in seeds for variant in args.variants]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            # Also when interrupted: the runs at work end, the others are left for the next call.
            pool.shutdown(cancel_futures=True)
            raise
    by_iteration = curves(args, seeds)
    text = f"{markdown(table(args, seeds))}\nmIoU by iteration:\n\n{markdown(curve_table(by_iteration))}"
    print(text)
    if args.markdown:
        write_text(args.markdown, text)
    if args.chart:
        save_figure(curve_chart(list(by_iteration.items()), "mIoU of the night streets (%)"), args.chart)


if __name__ == "__main__":
    run_as_script(main)
