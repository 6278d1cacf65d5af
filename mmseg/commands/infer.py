"""Segment your own images, folders or a video with a trained network, with or without events."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmseg.apis.arguments import (
    OUTPUT_NAMES,
    PRECISION_NAMES,
    ImageSize,
    Parser,
    SensorSize,
    add_augmentation_option,
    add_config_options,
    add_content_map_option,
    picture_source,
    weight_file,
    whole_number,
)
from mmseg.system.text import printable

LISTED = 50


def share(text: str) -> float:
    """Argument type: a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 to 1")
    return number


def make_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        description="Segment your own images. Writes <name>.png (train ids 0..18) and overlay/<name>.png to the folder "
        "--out; on request color/<name>.png and confidence/<name>.png (probability of the label, 0..255); for a video "
        "also overlay.mp4 (H.264 or VP9 if OpenCV supports it). Images that cannot be read are listed at the end, with "
        "exit status 1.",
        epilog="example: python tools/infer.py photos --work-dir work_dirs/local-basic/<run> --out out",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=picture_source,
        metavar="INPUT",
        help="image files, folders of images, patterns such as 'night/*.jpg', or one video; or a camera (0, 1, ...) or "
        "the address of a stream (rtsp://, http://), until it ends or Ctrl-C is pressed",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="output folder")

    network = parser.add_argument_group("network", "given by a work dir or a checkpoint")
    network.add_argument("--work-dir", type=Path, help="work dir of a training, or a published checkpoint folder")
    network.add_argument("--config", type=Path, help="config file, .py or .json (default: the checkpoint's own)")
    network.add_argument("--checkpoint", type=weight_file, help="checkpoint: a file, an address or a name")
    network.add_argument(
        "--model", choices=("student", "teacher"), default="student", help="weights (default: student)"
    )
    network.add_argument(
        "--output",
        choices=OUTPUT_NAMES,
        help="output of the network (default: fusion with --events, else image)",
    )
    network.add_argument("--device", help="cpu, cuda or cuda:<number> (default: a GPU if available)")
    network.add_argument("--precision", choices=PRECISION_NAMES, default="fp32", help="number format (default: fp32)")
    network.add_argument("--batch", type=whole_number(1), default=1, help="images per call (default: 1)")
    sizes = network.add_mutually_exclusive_group()
    sizes.add_argument(
        "--resize",
        type=ImageSize(1, former_order="HW"),
        metavar="HxW",
        help="resize images to this size before the network (default: their own size, unless it is far from that of "
        "training)",
    )
    sizes.add_argument("--no-resize", action="store_true", help="never resize")
    network.add_argument(
        "--rows",
        type=whole_number(1),
        metavar="N",
        help="use only the upper N rows of images; tests on DSEC use 440, above the car's hood",
    )
    add_content_map_option(network)
    add_augmentation_option(network)
    add_config_options(network)

    events = parser.add_argument_group(
        "events", "images and events must show the same view, pixel for pixel; see docs/quickstart.md"
    )
    events.add_argument(
        "--events",
        type=Path,
        help="recording: .h5 (DSEC), .npz or .csv; with the package faery also .raw, .dat and .aedat4",
    )
    events.add_argument("--rectify-map", type=Path, help="rectify_map.h5 of the recording, as in DSEC")
    events.add_argument(
        "--sensor",
        type=SensorSize(2),
        metavar="WxH",
        help="size of the event camera, e.g. 1280x720 (default: that of the files)",
    )
    events.add_argument("--timestamps", type=Path, metavar="FILE", help="time of each image in µs, one per line")
    events.add_argument(
        "--start-time",
        type=whole_number(0),
        metavar="US",
        help="time of a video's first frame, or of a single image, in µs",
    )
    events.add_argument(
        "--window-us",
        type=whole_number(1),
        metavar="US",
        help="use the events of this many µs before an image (default: 50000 as in training, or since the previous "
        "image if that is about as long)",
    )

    parser.add_argument(
        "--frames", type=whole_number(1), metavar="N", help="of a camera or stream, end after N frames (default: none)"
    )
    saved = parser.add_argument_group("output")
    saved.add_argument(
        "--save",
        nargs="+",
        choices=("label", "overlay", "color", "confidence"),
        default=("label", "overlay"),
        help="what to write (default: label overlay)",
    )
    saved.add_argument(
        "--opacity", type=share, default=0.5, help="opacity of the colours in overlays, 0..1 (default: 0.5)"
    )
    return parser


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser()
    args = parser.parse_args()
    if (args.work_dir is None) == (args.checkpoint is None) or (args.work_dir and args.config):
        parser.error(
            "give either --work-dir or --checkpoint (and --config if the checkpoint does not contain its config)"
        )
    return args


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from mmseg.apis import infer, init_model
    from mmseg.engine.checkpoint import checkpoint_to_test
    from mmseg.inference.pictures import live_source, open_pictures
    from mmseg.work_dir.layout import WorkDir

    # Report a misspelt path before loading a large network. A camera is opened once, afterwards.
    if live_source(args.inputs) is None:
        open_pictures(args.inputs)
    config, checkpoint = args.config, args.checkpoint
    if args.work_dir:
        config, checkpoint = WorkDir(args.work_dir).find_config(), checkpoint_to_test(args.work_dir)
    model = init_model(
        config, checkpoint, args.device, args.model, args.precision, args.train_isr_parms, args.cfg_options, args.tta
    )
    if model.predictor.augmentation:
        print(model.predictor.augmentation.describe(), flush=True)
    print(f"{checkpoint}: {len(model.weights.state_dict)} weights of the {args.model}, on {model.device}", flush=True)
    report = infer(
        model,
        args.inputs,
        args.out,
        events=args.events,
        rectify_map=args.rectify_map,
        sensor=args.sensor,
        timestamps=args.timestamps,
        start_time=args.start_time,
        window=args.window_us,
        output=args.output,
        save=args.save,
        opacity=args.opacity,
        batch=args.batch,
        size="image" if args.no_resize else args.resize,
        rows=args.rows,
        frames=args.frames,
    )
    for line in report.lines():
        print(line)
    print(f"{', '.join(args.save)} in {args.out}")
    for message in report.failures[:LISTED]:
        print(f"failed: {printable(message)}", file=sys.stderr)
    if len(report.failures) > LISTED:
        print(f"failed: and {len(report.failures) - LISTED:,} more", file=sys.stderr)
    if report.failures:
        raise SystemExit(1)
