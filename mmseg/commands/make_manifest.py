"""Make a manifest of your own images or video, or of a published data set, with or without events and labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmseg.apis.arguments import Parser, SensorSize, whole_number
from mmseg.errors import DataError
from mmseg.preparation.layouts import LAYOUTS

if TYPE_CHECKING:
    from mmseg.preparation.manifests import ManifestContent


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Write a manifest, a text file that says which images, labels and events make up a data set of the "
        "type FramesDataset (configs/own): of your own images or video, or with --layout of a published data set. "
        "Images whose events the recording does not cover, or that have no label where labels are wanted, are left out "
        "and counted.",
        epilog="example: python tools/make_manifest.py drive.mp4 --every 10 --out data/own/train.jsonl",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="image files, folders of images, or one video; the folder of --layout",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="manifest to write, e.g. train.jsonl")
    parser.add_argument("--append", action="store_true", help="add to the manifest --out if it exists")
    parser.add_argument(
        "--every", type=whole_number(1), default=1, metavar="N", help="take every N-th image only, of each sequence"
    )
    _add_footage(parser.add_argument_group("your own images or video"))
    _add_events(parser.add_argument_group("events", "by default, images show what the event camera sees"))
    _add_layouts(parser.add_argument_group("published data sets", "see docs/own_data.md"))
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args()
    _check(parser, args)
    return args


def _add_footage(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--sequence", help="name of the drive (default: name of the video or folder)")
    group.add_argument(
        "--frames",
        type=Path,
        metavar="FOLDER",
        help="folder for the frames of a video, which are written as images (default: <video> next to --out)",
    )
    group.add_argument(
        "--labels", type=Path, metavar="FOLDER", help="label maps, <image name>.png or <image name>_*.png"
    )
    group.add_argument(
        "--class-set",
        metavar="NAME",
        help="class set of the labels: cityscapes19 (train ids), dsec11, or a .json file (default: cityscapes19)",
    )
    group.add_argument(
        "--previous",
        action="store_true",
        help="also name the image before each one, from which a source's image change is computed",
    )


def _add_events(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--events",
        type=Path,
        help="recording: .h5 (DSEC), .npz or .csv; with the package faery also .raw, .dat, .aedat4",
    )
    group.add_argument("--timestamps", type=Path, metavar="FILE", help="time of each image in µs, one per line")
    group.add_argument(
        "--start-time",
        type=whole_number(0),
        metavar="US",
        help="time of a video's first frame in µs, on the clock of the events",
    )
    window = group.add_mutually_exclusive_group()
    window.add_argument(
        "--window-us",
        type=whole_number(1),
        metavar="US",
        help="events of this many µs before an image (default: 50000)",
    )
    window.add_argument("--window-events", type=whole_number(2), metavar="N", help="this many events before an image")
    mapping = group.add_mutually_exclusive_group()
    mapping.add_argument("--rectify-map", type=Path, help="rectify_map.h5 of the recording, as in DSEC")
    mapping.add_argument(
        "--mapping", type=Path, metavar="FILE", help="JSON file with a homography or the calibration of both cameras"
    )
    group.add_argument(
        "--sensor",
        type=SensorSize(2),
        metavar="WxH",
        help="size of the event camera, e.g. 1280x720, if the recording does not say it",
    )


def _add_layouts(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--layout", choices=sorted(LAYOUTS), help="data set whose folder INPUT is")
    group.add_argument("--split", metavar="NAME", help="train, val or test (acdc, dsec-semantic, muses, nightcity)")
    group.add_argument(
        "--condition", nargs="+", metavar="NAME", default=(), help="fog, night, rain, snow; one or several (acdc)"
    )
    group.add_argument(
        "--weather", nargs="+", metavar="NAME", default=(), help="clear, fog, rain, snow (muses; default: all)"
    )
    group.add_argument("--time-of-day", nargs="+", metavar="NAME", default=(), help="day, night (muses; default: both)")
    group.add_argument("--classes", metavar="N", help="11 or 19 classes (dsec-semantic; default: 11)")
    group.add_argument(
        "--sequences",
        nargs="+",
        metavar="NAME",
        default=(),
        help="sequences (dsec-semantic; default: those of the split. dsec; default: the nights)",
    )
    group.add_argument("--names", type=Path, metavar="FILE", help="list of images, one <name>.jpg per line (bdd100k)")
    group.add_argument(
        "--skip", type=whole_number(0), default=0, metavar="N", help="leave out the first N images of each sequence"
    )
    group.add_argument("--without-labels", action="store_true", help="name no labels, which a target does not need")
    group.add_argument("--without-events", action="store_true", help="name no recordings (muses)")


def _check(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse options that would have no effect."""
    of_events = ("timestamps", "start_time", "window_us", "window_events", "rectify_map", "mapping", "sensor")
    of_footage = ("sequence", "frames", "labels", "class_set", "previous", "events", *of_events)
    of_layouts = (
        *("split", "condition", "weather", "time_of_day", "classes", "sequences", "names", "skip"),
        *("without_labels", "without_events"),
    )

    def given(names: tuple[str, ...]) -> str:
        # 0 is a time, but the default of --skip
        named = (name for name in names if getattr(args, name) or (name == "start_time" and args.start_time == 0))
        return ", ".join(f"--{name.replace('_', '-')}" for name in named)

    if args.layout:
        if given(of_footage):
            parser.error(f"{given(of_footage)}: for your own images only; leave it out with --layout")
        if len(args.inputs) != 1:
            parser.error(f"--layout takes one folder, got {len(args.inputs)}: {' '.join(args.inputs)}")
    elif given(of_layouts):
        parser.error(f"{given(of_layouts)}: for published data sets only; give --layout too")
    elif args.events is None and given(of_events):
        parser.error(f"{given(of_events)}: only with --events; give that too")
    if args.class_set and not args.labels:
        parser.error("--class-set is for --labels; give that too")


def main() -> None:
    """Parse first: --help must not wait for the imports below."""
    args = parse_args()
    from mmseg.preparation.manifests import write_manifest

    content = _published(args) if args.layout else _own(args)
    write_manifest(args.out, content, args.append)
    print(f"{args.out}: {content.summary()}")


def _published(args: argparse.Namespace) -> ManifestContent:
    """Lines of a published data set."""
    from mmseg.preparation.layouts import Selection
    from mmseg.preparation.layouts.find import find

    selection = Selection(
        split=args.split,
        condition=tuple(args.condition),
        weather=tuple(args.weather),
        time_of_day=tuple(args.time_of_day),
        sequences=tuple(args.sequences),
        classes=args.classes,
        names=args.names,
        labels=not args.without_labels,
        events=not args.without_events,
        every=args.every,
        skip=args.skip,
        converted=args.out.parent / f"{args.out.stem}_labels",
    )
    return find(args.layout, Path(args.inputs[0]), selection)


def _own(args: argparse.Namespace) -> ManifestContent:
    """Lines of own images or a video."""
    from mmseg.config.class_sets import class_set
    from mmseg.inference.pictures import open_pictures, picture_times
    from mmseg.io.videos import Video
    from mmseg.preparation.manifests import WINDOW, EventOptions, extract_frames, own_footage, read_mapping

    if args.labels is not None and not args.labels.is_dir():
        raise DataError(f"--labels {args.labels} is not a folder")
    classes = class_set(args.class_set)
    pictures = open_pictures(args.inputs)
    # Images of a folder, or frames of a video, are consecutive.
    drives: dict[Path | None, list[int]] = {}
    for number in range(len(pictures)):
        drives.setdefault(None if isinstance(pictures, Video) else pictures.paths[number].parent, []).append(number)
    before = {drive[i]: drive[i - 1] for drive in drives.values() for i in range(1, len(drive))}
    taken = sorted(number for drive in drives.values() for number in drive[:: args.every])
    # Not the first of a drive, which has none before it.
    numbers = [number for number in taken if number in before or not args.previous]
    needed = {*numbers, *(before[number] for number in numbers if args.previous)}
    if isinstance(pictures, Video):
        frames = args.frames or args.out.parent / pictures.path.stem
        files = extract_frames(pictures, frames, needed)
        named: list[str | None] = [pictures.path.stem] * len(numbers)
    else:
        files = {number: pictures.paths[number] for number in needed}
        folders = {Path(item) for item in args.inputs if Path(item).is_dir()}
        parents = [pictures.paths[number].parent for number in numbers]
        named = [parent.resolve().name if parent in folders else None for parent in parents]
    events = None
    if args.events is not None:
        times = picture_times(pictures, args.timestamps, args.start_time).times
        events = EventOptions(
            args.events,
            [times[number] for number in numbers],
            {"count": args.window_events} if args.window_events else {"duration": args.window_us or WINDOW["duration"]},
            read_mapping(args.mapping) if args.mapping else None,
            args.rectify_map,
            args.sensor[::-1] if args.sensor else None,
        )
    previous = [files[before[number]] for number in numbers] if args.previous else None
    sequences = [args.sequence] * len(numbers) if args.sequence else named
    images = [files[number] for number in numbers]
    names = () if isinstance(pictures, Video) else [path.stem for path in pictures.paths]
    return own_footage(images, events, args.labels, previous, sequences, classes.name, names)
