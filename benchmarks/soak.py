"""Monitor memory and open files of a long training: thousands of small iterations on the toy city.

The memory of the process is read once per second, together with the iteration in the log. The beginning is ignored,
since libraries load and caches fill; the slope of the rest is the result.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import CMDAError, run_as_script
from mmseg.io.files import write_text
from mmseg.work_dir.layout import WorkDir

PROJECT = Path(__file__).resolve().parent.parent
# Share of the iterations to ignore; it should include the first evaluation, whose images are larger.
BEGINNING = 0.25
SMALL = {
    "data.samples_per_gpu": 1,
    "data.train.source.image_resize_size": "(160,80)",
    "data.train.source.image_crop_size": "(64,64)",
    "data.train.target.after_crop_resize_size": "(64,64)",
    "data.train.rare_class_sampling.min_pixels": 10,
    "log_config.interval": 10,
    "checkpoint_config.interval": 200,
    "checkpoint_config.max_keep_ckpts": 2,
    "uda.debug_img_interval": 200,
}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description=__doc__,
        epilog="example: python benchmarks/soak.py --iterations 5000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data/toy_city"), help="folder of the toy city (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/soak"), help="work dir (default: %(default)s)")
    parser.add_argument("--iterations", type=whole_number(100), default=2000, help="iterations (default: %(default)s)")
    parser.add_argument(
        "--evaluate-every",
        type=whole_number(0),
        default=250,
        help="iterations between evaluations (default: %(default)s)",
    )
    return parser.parse_args()


def command(args: argparse.Namespace) -> list[str]:
    """The training."""
    root = args.data / "data"
    options = {
        **SMALL,
        "data.train.source.dataset_path": root / "cityscapes",
        "data.train.source_json_root": root / "cityscapes",
        "data.train.target.dataset_txt_path": args.data / "night_dataset_warp.txt",
        "data.val.dataset_txt_path": args.data / "night_test_dataset_warp.txt",
        "runner.max_iters": args.iterations,
        "evaluation.interval": args.evaluate_every,
    }
    config = PROJECT / "configs" / "demo" / "cmda_toy_city.py"
    words = [str(PROJECT / "tools" / "train.py"), str(config), "--work-dir", str(args.out), "--cfg-options"]
    return [sys.executable, *words, *(f"{key}={value}" for key, value in options.items())]


def memory(process: int) -> float:
    """Resident memory of a process in MiB, without what it shares."""
    pages = Path(f"/proc/{process}/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") / 2**20


def last_iteration(log: Path) -> int:
    """Iteration that a training's log has come to."""
    try:
        return json.loads(log.read_text().splitlines()[-1])["iter"]
    except (OSError, IndexError, ValueError):
        return 0


def watch(args: argparse.Namespace) -> list[tuple[int, float, int]]:
    """Train; rows of iteration, memory in MiB and number of open files.

    Raises:
        CMDAError: the training failed.
    """
    rows = []
    args.out.mkdir(parents=True, exist_ok=True)
    log = WorkDir(args.out).json_log
    log.unlink(missing_ok=True)
    with WorkDir(args.out).console_output.open("w") as output:
        process = subprocess.Popen(command(args), stdout=output, stderr=output)
        while process.poll() is None:
            try:
                rows.append((last_iteration(log), memory(process.pid), len(os.listdir(f"/proc/{process.pid}/fd"))))
            except FileNotFoundError:
                break  # it has just ended
            time.sleep(1)
    if process.wait():
        raise CMDAError(f"the training ended with code {process.returncode}; see {args.out / 'output.txt'}")
    return rows


def main() -> None:
    """Watch a training and print what became of its memory."""
    args = parse_args()
    if not Path("/proc/self/statm").is_file():
        raise CMDAError("memory and open files are read from /proc, which this system does not have")
    import numpy as np

    rows = watch(args)
    write_text(args.out / "memory.csv", "iteration,MiB,files\n" + "".join(f"{i},{m:.1f},{f}\n" for i, m, f in rows))
    # a process that has just ended has no memory left
    iterations, sizes, files = np.array([row for row in rows if row[1] > 0], float).T
    settled = iterations >= BEGINNING * args.iterations
    slope = np.polyfit(iterations[settled], sizes[settled], 1)[0] * 1000
    print(f"{args.iterations} iterations, memory after the first {BEGINNING:.0%}: {sizes[settled].min():.0f} to "
          f"{sizes[settled].max():.0f} MiB, slope {slope:+.1f} MiB per 1,000 iterations")  # fmt: skip
    print(f"open files: {files[settled].min():.0f} to {files[settled].max():.0f}")


if __name__ == "__main__":
    run_as_script(main)
