"""Make a manifest of your own images or video, with or without events and labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg.apis.arguments import Parser, whole_number
from mmseg.errors import DataError


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write a manifest, a text file that says which images, labels and events make up a data set of the "
        "type FramesDataset (configs/own). Frames of a video are written as images. Images whose events the recording "
        "does not cover, or that have no label where --labels is given, are left out and counted.",
        epilog="example: python tools/make_manifest.py drive.mp4 --every 10 --out data/own/train.jsonl",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="image files, folders of images, or one video")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="manifest to write, e.g. train.jsonl")
    parser.add_argument("--append", action="store_true", help="add to the manifest --out if it exists")
    parser.add_argument("--sequence", help="name of the drive (default: name of the video or folder)")
    parser.add_argument("--every", type=whole_number(1), default=1, metavar="N", help="take every N-th image only")
    parser.add_argument(
        "--frames",
        type=Path,
        metavar="FOLDER",
        help="folder for the frames of a video (default: <video> next to --out)",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FOLDER", help="label maps, <image name>.png or <image name>_*.png"
    )
    parser.add_argument(
        "--previous",
        action="store_true",
        help="also name the image before each one, from which a source's image change is computed",
    )

    events = parser.add_argument_group("events", "by default, images show what the event camera sees")
    events.add_argument(
        "--events",
        type=Path,
        help="recording: .h5 (DSEC), .npz or .csv; with the package faery also .raw, .dat, .aedat4",
    )
    events.add_argument("--timestamps", type=Path, metavar="FILE", help="time of each image in µs, one per line")
    events.add_argument(
        "--start-time",
        type=whole_number(0),
        metavar="US",
        help="time of a video's first frame in µs, on the clock of the events",
    )
    window = events.add_mutually_exclusive_group()
    window.add_argument(
        "--window-us",
        type=whole_number(1),
        default=50_000,
        metavar="US",
        help="events of this many µs before an image (default: 50000)",
    )
    window.add_argument("--window-events", type=whole_number(2), metavar="N", help="this many events before an image")
    mapping = events.add_mutually_exclusive_group()
    mapping.add_argument("--rectify-map", type=Path, help="rectify_map.h5 of the recording, as in DSEC")
    mapping.add_argument(
        "--mapping", type=Path, metavar="FILE", help="JSON file with a homography or the calibration of both cameras"
    )
    events.add_argument(
        "--sensor",
        nargs=2,
        type=whole_number(2),
        metavar=("WIDTH", "HEIGHT"),
        help="size of the event camera, if the recording does not say it",
    )
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args()
    if args.events is None and any((args.timestamps, args.start_time, args.rectify_map, args.mapping, args.sensor)):
        parser.error(
            "--timestamps, --start-time, --rectify-map, --mapping and --sensor are for --events; give that too"
        )
    return args


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.inference.pictures import open_pictures, picture_times
    from mmseg.io.videos import Video
    from mmseg.preparation.manifests import EventOptions, extract_frames, read_mapping, write_manifest

    for option, folder in (("--labels", args.labels),):
        if folder is not None and not folder.is_dir():
            raise DataError(f"{option} {folder} is not a folder")
    pictures = open_pictures(args.inputs)
    taken = range(0, len(pictures), args.every)
    # Not the first, which has none before it.
    numbers = [number for number in taken if number > 0 or not args.previous]
    needed = {*numbers, *(number - 1 for number in numbers if args.previous)}
    if isinstance(pictures, Video):
        frames = args.frames or args.out.parent / pictures.path.stem
        files = extract_frames(pictures, frames, needed)
        sequence = args.sequence or pictures.path.stem
    else:
        files = {number: pictures.paths[number] for number in needed}
        first = Path(args.inputs[0])
        sequence = args.sequence or (first.resolve().name if first.is_dir() else None)
    events = None
    if args.events is not None:
        times = picture_times(pictures, args.timestamps, args.start_time).times
        events = EventOptions(
            args.events,
            [times[number] for number in numbers],
            {"count": args.window_events} if args.window_events else {"duration": args.window_us},
            read_mapping(args.mapping) if args.mapping else None,
            args.rectify_map,
            tuple(args.sensor) if args.sensor else None,
        )
    report = write_manifest(
        args.out,
        [files[number] for number in numbers],
        events,
        args.labels,
        [files[number - 1] for number in numbers] if args.previous else None,
        sequence,
        args.append,
    )
    print(f"{args.out}: {'; '.join(report.lines())}")
