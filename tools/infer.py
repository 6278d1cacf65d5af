"""Segment pictures of your own with a trained network: images, folders, a video, with or without events."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# An installed package named mmseg must not hide ours.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmseg.apis.arguments import PRECISION_NAMES, Parser, add_config_options, whole_number
from mmseg.errors import run_as_script
from mmseg.system.text import printable

LISTED = 50


def share(text: str) -> float:
    """Argument type: a number of 0..1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 to 1")
    return number


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description="Segment pictures of your own. Into --out go <name>.png (train ids 0..18) and overlay/<name>.png, "
        "if asked for color/<name>.png and confidence/<name>.png (probability of the label, 0..255), of a video also "
        "overlay.mp4 (H.264 or VP9 if OpenCV can). A picture that cannot be read is named at the end, with exit status "
        "1.",
        epilog="example: python tools/infer.py photos --work-dir work_dirs/local-basic/<run> --out out",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="image files, folders of images, or one video")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where results go")

    network = parser.add_argument_group("network", "a work dir, or a checkpoint")
    network.add_argument("--work-dir", "--work_dir", type=Path, help="of a training, ours or as published")
    network.add_argument("--config", type=Path, help="config file, .py or .json (default: the checkpoint's own)")
    network.add_argument("--checkpoint", type=Path, help="checkpoint file")
    network.add_argument("--model", choices=("student", "teacher"), default="student", help="(default: student)")
    network.add_argument(
        "--output",
        choices=("image", "events", "fusion", "fusion_isr", "fusion_all"),
        help="(default: fusion for pictures with events, else image)",
    )
    network.add_argument("--device", help="cpu, cuda or cuda:<number> (default: a GPU if there is one)")
    network.add_argument("--precision", choices=PRECISION_NAMES, default="fp32", help="(default: fp32)")
    network.add_argument("--batch", type=whole_number(1), default=1, help="pictures a call (default: 1)")
    sizes = network.add_mutually_exclusive_group()
    sizes.add_argument(
        "--resize",
        type=whole_number(1),
        nargs=2,
        metavar=("H", "W"),
        help="size at which the network sees pictures (default: their own, unless far from that of the training)",
    )
    sizes.add_argument("--no-resize", action="store_true", help="it sees pictures of any size at their own")
    network.add_argument(
        "--rows",
        type=whole_number(1),
        help="upper rows of pictures to use; tests on DSEC take 440, above the car's hood",
    )
    network.add_argument(
        "--train_isr_parms",
        action="store_true",
        help="extract content maps with the parameters of the training (default: those of the published tests)",
    )
    add_config_options(network)

    events = parser.add_argument_group(
        "events", "the pictures must show what the event camera sees, see docs/quickstart.md"
    )
    events.add_argument(
        "--events", type=Path, help="recording: DSEC's .h5, .npz or .csv; .raw, .dat, .aedat4 with the package faery"
    )
    events.add_argument("--rectify-map", type=Path, help="rectify_map.h5 of the recording, as in DSEC")
    events.add_argument("--timestamps", type=Path, metavar="FILE", help="time of each picture, in µs, a line each")
    events.add_argument(
        "--start-time", type=whole_number(0), metavar="US", help="time of a video's first frame, or of a single picture"
    )
    events.add_argument(
        "--window-us",
        type=whole_number(1),
        metavar="US",
        help="events of so many µs before a picture (default: 50000 as in training, or since the picture before where "
        "that is about as long)",
    )

    saved = parser.add_argument_group("files")
    saved.add_argument(
        "--save",
        nargs="+",
        choices=("label", "overlay", "color", "confidence"),
        default=("label", "overlay"),
        help="what to write (default: label overlay)",
    )
    saved.add_argument("--opacity", type=share, default=0.5, help="of the colours in overlays (default: 0.5)")
    args = parser.parse_args()
    if (args.work_dir is None) == (args.checkpoint is None) or (args.work_dir and args.config):
        parser.error("give --work-dir, or --checkpoint (and --config where the checkpoint does not carry its config)")
    return args


def main() -> None:
    """Parse first: --help must not wait for torch."""
    args = parse_args()
    from mmseg.apis import infer, init_model
    from mmseg.engine.checkpoint import checkpoint_to_test
    from mmseg.inference.pictures import open_pictures
    from mmseg.work_dir.layout import WorkDir

    # A misspelt path shall show before a large network is loaded.
    open_pictures(args.inputs)
    config, checkpoint = args.config, args.checkpoint
    if args.work_dir:
        config, checkpoint = WorkDir(args.work_dir).find_config(), checkpoint_to_test(args.work_dir)
    model = init_model(
        config, checkpoint, args.device, args.model, args.precision, args.train_isr_parms, args.cfg_options
    )
    print(f"{checkpoint}: {len(model.weights.state_dict)} weights of the {args.model}, on {model.device}", flush=True)
    report = infer(
        model,
        args.inputs,
        args.out,
        events=args.events,
        rectify_map=args.rectify_map,
        timestamps=args.timestamps,
        start_time=args.start_time,
        window=args.window_us,
        output=args.output,
        save=args.save,
        opacity=args.opacity,
        batch=args.batch,
        size="image" if args.no_resize else args.resize and tuple(args.resize),
        rows=args.rows,
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


if __name__ == "__main__":
    run_as_script(main)
