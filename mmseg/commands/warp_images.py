"""Warp the images of DSEC's frame camera into the view of the rectified event camera (warp_images)."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg.apis.arguments import DefaultsHelp, Parser, add_workers
from mmseg.errors import DataError

# Parallax of near objects and motion during the drawn events account for this many pixels.
TOLERATED_SHIFT = 4


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write warp_images/%06d.png (480x640) for every image images/left/rectified/%06d.png (1080x1440) "
        "of the sequences zurich_city_09_a to e under a root, using the rotation between the cameras and, with "
        "--disparity, the depth of the scene. Complete files made with the same settings are kept, so an interrupted "
        "run continues where it stopped. Files that cannot be made are listed at the end, with exit status 1.",
        epilog="example: python tools/warp_images.py data/DSEC_Night --workers 8 --check-picture check.png",
        formatter_class=DefaultsHelp,
    )
    parser.add_argument("root", type=Path, help="folder of DSEC_Night, or of one DSEC sequence")
    parser.add_argument(
        "--calibration",
        type=Path,
        help="cam_to_cam.yaml for all sequences (default: calibration/cam_to_cam.yaml or cam_to_cam.yaml in each)",
    )
    parser.add_argument(
        "--interpolation",
        choices=("nearest", "bilinear", "area"),
        default="bilinear",
        help="area: mean over the area of the pixel",
    )
    parser.add_argument(
        "--disparity",
        action="store_true",
        help="also shift pixels by their depth, in frames that have disparity/event/%%06d.png",
    )
    add_workers(parser)
    parser.add_argument(
        "--out",
        default="warp_images",
        metavar="FOLDER",
        help="output folder, in each sequence",
        former=("--out-dir",),
    )
    parser.add_argument(
        "--check-picture",
        type=Path,
        metavar="FILE",
        help="first write a picture of events drawn over one warped image per sequence",
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    parser.add_argument("--stop-at-first", action="store_true", help="stop at the first file that cannot be made")
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    return make_parser().parse_args()


def write_check_picture(path: Path, tasks_of: dict[Path, list], interpolation: str) -> None:
    """Draw events over the middle frame of every sequence, and print how well they fit."""
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
                f"{title}: events fit the edges best when shifted by {fit.shift} pixels (x, y): correlation "
                f"{fit.best:.2f}, without shift {fit.unshifted:.2f}"
            )
            if max(map(abs, fit.shift)) > TOLERATED_SHIFT:
                print(
                    "the shift is large: check that the calibration belongs to this sequence and that the images are "
                    "rectified"
                )
            pictures[title] = image
            pictures[f"{title}, events; best shift {fit.shift}"] = draw_events(image, counts)
            break
        else:
            raise DataError(f"--check-picture: no image of {sequence} has events around its time ({reason})")
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

    options = (args.calibration, args.interpolation, args.disparity, args.out)
    tasks_of = {sequence: warp_tasks(sequence, *options) for sequence in find_raw_sequences(args.root)}
    # The sequences of one drive hold copies of the same calibration.
    for calibration in {
        tasks[0].calibration.read_bytes(): tasks[0].calibration for tasks in tasks_of.values()
    }.values():
        share = seen_share(read_calibration(calibration))
        print(f"{calibration}: the frame camera sees {share:.1%} of the event camera's pixels; the others are black")
    if args.check_picture:
        write_check_picture(args.check_picture, tasks_of, args.interpolation)
    tasks = [task for of_sequence in tasks_of.values() for task in of_sequence]
    report = make_warp_images(tasks, args.interpolation, args.workers, args.force, args.stop_at_first)
    if args.disparity:
        print(f"{sum(task.disparity is not None for task in tasks):,} of {len(tasks):,} images have a disparity map")
    print(f"{args.root} ({', '.join(sequence.name for sequence in tasks_of)}): {report.summary()}")
    print_failures(report)
    if report.failures:
        raise SystemExit(1)
