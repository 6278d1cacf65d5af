"""Warp the images of DSEC's frame camera into the view of the rectified event camera: warp_images/%06d.png."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import DataError, run_as_script

# Parallax of near things and the motion within the drawn events explain this many pixels.
TOLERATED_SHIFT = 4


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description="Write warp_images/%06d.png (640x480) of every image images/left/rectified/%06d.png (1440x1080) of "
        "the sequences zurich_city_09_a .. e under a root, by the rotation between the cameras and, with --disparity, "
        "the depth of the scene. What is there, whole and made with the same settings is kept, so an interrupted run "
        "goes on where it was. A file that cannot be made is named at the end, with exit status 1.",
        epilog="example: python tools/warp_images.py data/DSEC_Night --nproc 8 --check_picture check.png",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("root", type=Path, help="folder of DSEC_Night, or of one DSEC sequence")
    parser.add_argument(
        "--calibration",
        type=Path,
        help="cam_to_cam.yaml for all sequences; None: calibration/cam_to_cam.yaml or cam_to_cam.yaml of each",
    )
    parser.add_argument(
        "--interpolation", choices=("nearest", "bilinear", "area"), default="bilinear", help="area: mean of the pixel"
    )
    parser.add_argument(
        "--disparity",
        action="store_true",
        help="move every pixel by its depth too, in frames that have a disparity/event/%%06d.png",
    )
    parser.add_argument("--nproc", type=whole_number(1), default=1, help="number of processes")
    parser.add_argument("--out_dir", default="warp_images", help="folder below each sequence")
    parser.add_argument(
        "--check_picture",
        type=Path,
        metavar="FILE",
        help="first write a picture with events drawn over one warped image of each sequence",
    )
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.add_argument("--stop_at_first", action="store_true", help="stop at the first file that cannot be made")
    return parser.parse_args()


def write_check_picture(path: Path, tasks_of: dict[Path, list], interpolation: str) -> None:
    """Draw the middle frame with events of every sequence, and say how well both fit."""
    import numpy as np

    from mmseg.preparation.dsec_warp_check import agreement, draw_events, frame_event_counts
    from mmseg.preparation.dsec_warp_files import warp_file
    from mmseg.visualization.panels import panel, save_picture

    pictures = {}
    for sequence, tasks in tasks_of.items():
        middle = len(tasks) // 2
        reason = ""
        for task in sorted(tasks, key=lambda t: abs(int(t.image.stem) - int(tasks[middle].image.stem))):
            try:
                counts = frame_event_counts(sequence, int(task.image.stem))
            except DataError as error:
                reason = reason or str(error)
                continue
            image = np.array(warp_file(task, interpolation))
            fit = agreement(image, counts)
            title = f"{sequence.name} frame {task.image.stem}"
            print(
                f"{title}: events fit the edges best when moved by {fit.shift} pixels (x, y), correlation "
                f"{fit.best:.2f}, unmoved {fit.unshifted:.2f}"
            )
            if max(map(abs, fit.shift)) > TOLERATED_SHIFT:
                print("  that is far: is the calibration of this sequence, and are the images rectified?")
            pictures[title] = image
            pictures[f"{title}, events; best shift {fit.shift}"] = draw_events(image, counts)
            break
        else:
            raise DataError(f"--check_picture: no image of {sequence} has events around it ({reason})")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_picture(path, panel(pictures, columns=2))
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}): choose another file") from None
    print(f"check picture: {path}")


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.io.file_work import print_failures
    from mmseg.preparation.dsec_warp import read_calibration, seen_share
    from mmseg.preparation.dsec_warp_files import find_raw_sequences, make_warp_images, warp_tasks

    options = (args.calibration, args.interpolation, args.disparity, args.out_dir)
    tasks_of = {sequence: warp_tasks(sequence, *options) for sequence in find_raw_sequences(args.root)}
    # The sequences of one drive have copies of one calibration.
    for calibration in {
        tasks[0].calibration.read_bytes(): tasks[0].calibration for tasks in tasks_of.values()
    }.values():
        share = seen_share(read_calibration(calibration))
        print(f"{calibration}: the frame camera sees {share:.1%} of the event camera's pixels; the others are black")
    if args.check_picture:
        write_check_picture(args.check_picture, tasks_of, args.interpolation)
    tasks = [task for of_sequence in tasks_of.values() for task in of_sequence]
    report = make_warp_images(tasks, args.interpolation, args.nproc, args.force, args.stop_at_first)
    if args.disparity:
        print(f"{sum(task.disparity is not None for task in tasks):,} of {len(tasks):,} images have a disparity map")
    print(f"{args.root} ({', '.join(sequence.name for sequence in tasks_of)}): {report.summary()}")
    print_failures(report)
    if report.failures:
        raise SystemExit(1)


if __name__ == "__main__":
    run_as_script(main)
